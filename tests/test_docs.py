"""What `docs/python.md` says is done here as it is written; and the links of all pages lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import threadwire
from tests.support.live_server import live_server

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text()
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("protocol-spec/**/*.md")),
    *sorted(ROOT.glob("web/packages/*/README.md")),
]


def snippet(name: str) -> str:
    found = re.search(rf"^```python\n(# {name}\n.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"there is no {name}"
    return found[1]


def run(code: str) -> list[str]:
    """The lines that it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@threadwire.agent
async def parrot(run: threadwire.Run) -> None:
    messages = run.state.setdefault("messages", [])
    for command in run.commands:
        if isinstance(command, threadwire.AddMessage):
            messages.append({"role": "user", "content": command.message.text})
            messages.append({"role": "assistant", "content": f"You said: {command.message.text}"})


async def test_bot_talks_in_a_thread_of_a_server() -> None:
    app = threadwire.create_app(agents={"parrot": parrot}, store="memory:")
    with anyio.fail_after(60):
        async with live_server(app) as (_, port):
            code = snippet("bot.py").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            printed = await anyio.to_thread.run_sync(run, code)
    assert printed[-1] == "You said: hello"
    assert "2 False" in printed


def test_model_answers_and_its_messages_have_versions() -> None:
    assert run(snippet("model.py")) == ["['good morning', 'GOOD MORNING']", "2 versions"]


def test_messages_are_kept_by_their_owner() -> None:
    assert run(snippet("mine.py")) == ["['hello', 'You said hello']"]


def anchors(page: Path) -> set[str]:
    """What a link may name of a page: its headings, as they are made into ids."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"(?:\]\(|src=\")(?!https?:)([^)\"#]*)(?:#([^)\"]+))?[)\"]", page.read_text())
    for path, anchor in links:
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"
