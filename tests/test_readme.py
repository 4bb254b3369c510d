"""What the README says is done here as it is written: its agent is served, its client run."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from threadwire import AddMessage, CommandError
from threadwire.client import connect

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKE = f"make RUN={shlex.quote(sys.executable)} -o .venv/.ready -o .venv/.tools "
"""Runs the Makefile's recipes with this Python, where all is set up."""


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The command lines of the README, without their comments."""
    lines = (line for block in snippets("sh") for line in block.splitlines())
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


def serving(text: str) -> list[str]:
    return [command for command in commands() if " serve" in command and text in command]


def write_files(folder: Path) -> None:
    """Puts each Python snippet into the file that its first line names, and the checkout's files beside."""
    for snippet in snippets("python"):
        named = re.match(r"# (\w+\.py)\b", snippet)
        assert named, f"which file is this?\n{snippet}"
        with (folder / named[1]).open("a") as file:
            file.write(snippet)
    for name in ("Makefile", "server.py", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)


@asynccontextmanager
async def shell(command: str, folder: Path) -> AsyncIterator[int]:
    """The port of what a command line serves, until it is stopped with Ctrl-C."""
    # Its own make, if this runs under one, must not hear of that one's arguments.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
    }
    environment = {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
        "THREADWIRE_PORT": "0",
    }
    process = await asyncio.create_subprocess_shell(
        "exec " + re.sub(r"^make ", MAKE, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        with anyio.fail_after(30):
            first = await process.stdout.readline()
            found = re.search(rb"http://127\.0\.0\.1:(\d+)", first)
            assert found, first + (await process.communicate())[1]
            yield int(found[1])
        os.killpg(process.pid, signal.SIGINT)
        with anyio.fail_after(30):
            _, errors = await process.communicate()
        assert b"Traceback" not in errors
        assert b"Warning" not in errors
        assert command.startswith("make ") or process.returncode == 0
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@pytest.mark.parametrize("command", serving("my_agent"))
async def test_agent_answers_client_and_takes_its_command(command: str, tmp_path: Path) -> None:
    write_files(tmp_path)
    async with shell(command, tmp_path) as port:
        client = tmp_path / "client.py"
        code = client.read_text()
        assert "127.0.0.1:8000" in code
        client.write_text(code.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
        done = await anyio.run_process(
            [sys.executable, "-W", "error", str(client)], check=False, stderr=subprocess.STDOUT
        )
        *lines, run = done.stdout.decode().splitlines()
        assert "completed" in run
        states = [ast.literal_eval(line) for line in lines]
        assert states[-1]["messages"] == [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "You said: hello"},
        ]
        assert len(states) > 1, "the client prints what changes"

        (body,) = re.findall(r"`(\{\"type\".*?\})`", README)
        titled = ast.literal_eval(body)
        async with connect(f"ws://127.0.0.1:{port}/ws") as connection, connection.open("my-thread") as thread:
            await (await thread.send(titled)).applied()
            assert thread.state == {**states[-1], "title": titled["title"]}
            with pytest.raises(CommandError) as refused:
                await thread.send({**titled, "title": 1})
            assert refused.value.field == "command.title"


async def test_demo_agents_are_served_with_their_page(tmp_path: Path) -> None:
    write_files(tmp_path)
    (command,) = [command for command in serving("make") if "ARGS" not in command]
    async with shell(command, tmp_path) as port, httpx.AsyncClient() as http:
        page = await http.get(f"http://127.0.0.1:{port}/about")
        assert page.status_code == 200
        assert "planner" in page.text
        client = tmp_path / "ask.py"
        client.write_text(client.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
        done = await anyio.run_process(
            [sys.executable, "-W", "error", str(client)], check=False, stderr=subprocess.STDOUT
        )
        answer, postcards = done.stdout.decode().rsplit("\n", 2)[:2]
        assert "Ada" in answer
        (postcard,) = ast.literal_eval(postcards)
        assert "Oslo" in str(postcard)
    assert (tmp_path / "threadwire.db").exists()


@pytest.mark.parametrize("command", serving("graphs.py") + serving("serve ."))
async def test_a_graph_is_served_as_it_is(command: str, tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(
        "from threadwire_agents.demos.assistant import assistant\ngraph = assistant()\n"
    )
    (tmp_path / "langgraph.json").write_text(
        '{"dependencies": ["."], "graphs": {"graph": "./graphs.py:graph"}}'
    )
    async with (
        shell(command.partition("  #")[0], tmp_path) as port,
        connect(f"ws://127.0.0.1:{port}/ws") as connection,
        connection.open("t", agent="graph") as thread,
    ):
        await thread.send(AddMessage.text("How much is 3 times 14?"))
        with anyio.fail_after(30):
            async for _ in thread.states(until_idle=True):
                pass
        assert thread.run is not None
        assert thread.run.status == "completed"
        assert "42" in thread.state["messages"][-1]["content"]


def test_what_make_is_told_to_do_it_knows() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"\bmake ([a-z]+)\b(?= |`|$)", "\n".join([README, *commands(), contributing])))
    assert {"serve", "test", "check"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_parts_of_the_project_are_where_it_says() -> None:
    places = re.findall(r"^\| `([\w./-]+)` \|", README, re.MULTILINE)
    assert len(places) > 5
    for place in places:
        assert (ROOT / place).exists(), place
