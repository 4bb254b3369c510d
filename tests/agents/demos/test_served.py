"""Which demo agents are served: a graph first where LangChain is installed, and none of its weight else."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from threadwire_agents.demos import agents


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_assistant_is_the_default_and_the_others_are_there() -> None:
    assert list(agents()) == ["assistant", "planner", "scripted"]


def test_without_langchain_the_planner_is_the_default_and_a_line_tells_how_to_get_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "langchain.agents", None)
    monkeypatch.delitem(sys.modules, "threadwire_agents.demos.assistant", raising=False)
    with caplog.at_level(logging.INFO):
        assert list(agents()) == ["planner", "scripted"]
    (line,) = caplog.messages
    assert "pip install 'threadwire[demos]'" in line
    assert "\n" not in line


def test_a_model_that_can_not_be_used_ends_the_start_with_one_line() -> None:
    code = "import sys; from threadwire.cli.main import main; sys.exit(main(['serve', '--port', '0']))"
    ended = run(code, THREADWIRE_MODEL="gpt-5", THREADWIRE_STORE="memory:")
    assert ended.returncode == 1
    assert ended.stderr == (
        "threadwire: THREADWIRE_MODEL: 'gpt-5' must be provider:model, such as openai:gpt-5-mini\n"
    )
    assert ended.stdout == ""


@pytest.mark.parametrize(
    "code",
    [
        "import threadwire_agents.demos.scripted",
        "from threadwire.cli.main import main; main(['serve', '--help'])",
    ],
)
def test_langchain_is_imported_only_when_it_is_served(code: str) -> None:
    check = "import sys; assert not {'langchain', 'langchain_core', 'langgraph'} & set(sys.modules)"
    assert run(f"{code}\n{check}").returncode == 0
