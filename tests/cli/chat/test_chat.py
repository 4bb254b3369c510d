"""`threadwire chat` against a server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import threadwire
from tests.support.live_server import live_server
from tests.support.server import running
from threadwire.cli.chat.actions import Actions, Leave
from threadwire.cli.chat.arguments import ChatSettings, http_url, websocket_url
from threadwire.cli.chat.command import new_runtime
from threadwire.cli.chat.terminal import RichScreen, Terminal
from threadwire.cli.chat.transcript import Entry
from threadwire.cli.errors import UsageError
from threadwire.client import connect
from threadwire.client.runtimes.assistant_transport import AssistantTransportRuntime
from threadwire.client.runtimes.server_threads import ServerThreads
from threadwire.messages.model import message_text

pytestmark = pytest.mark.anyio


GATES: dict[str, asyncio.Event] = {}
"""What `talker` waits for after the first word, by what it is told."""


@threadwire.agent
async def talker(run: threadwire.Run) -> None:
    """Answers word by word; `hang` hangs, `fail` fails, `ask` asks, `size` has no ASCII."""
    messages = run.state.setdefault("messages", [])
    for command in run.commands:
        if isinstance(command, threadwire.Regenerate):
            at = next(i for i, each in enumerate(messages) if each["id"] == command.parent_id)
            del messages[at + 1 :]
            text = messages[at]["content"]
        else:
            assert isinstance(command, threadwire.AddMessage)
            text = command.message.text
            if command.source_id is not None:
                at = next(i for i, each in enumerate(messages) if each["id"] == command.source_id)
                del messages[at:]
            messages.append({"role": "user", "id": command.message.id, "content": text})
        messages.append({"role": "assistant", "id": run.new_id(), "content": ""})
        if text == "fail":
            raise threadwire.AgentError("no credit")
        if text == "ask":
            messages[-1]["content"] = f"You chose {await run.interrupt('which one?')}"
            continue
        for word in ("You", " said", " Größe" if text == "size" else f" {text}"):
            messages[-1]["content"] += word
            await run.flush()
            if word == "You" and text in GATES:
                await GATES[text].wait()
        if text == "hang":
            await asyncio.sleep(3600)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    app = threadwire.create_app(agents={"talker": talker, "other": talker}, store="memory:")
    async with live_server(app) as (_, port):
        yield f"http://127.0.0.1:{port}"


async def chat(url: str, text: str | bytes, *options: str) -> tuple[int, str, str]:
    """Exit status, output and errors of the command with `text` on its input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "threadwire", "chat", url, *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate(text.encode() if isinstance(text, str) else text)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


# over a pipe


async def test_question_over_a_pipe_is_answered_on_the_output(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with serving() as url:
            assert await chat(url, "hello\n", "--thread", "t") == (0, "You said hello\n", "")
            file = tmp_path / "a.txt"
            file.write_text("inside")
            status, out, _ = await chat(url, "again", "--thread", "t", "--attach", str(file))
            assert status == 0
            assert out.startswith("You said again<attachment")


async def test_what_goes_wrong_over_a_pipe_is_one_line_and_a_status(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with serving() as url:
            assert await chat(url, "fail") == (1, "", "threadwire: the agent failed: no credit\n")
            assert await chat(url, "ask") == (1, "", "threadwire: the run is waiting\n")
            assert (await chat(url, " "))[0] == 1
            status, _, errors = await chat(url, "x", "--agent", "nobody")
            assert (status, errors.count("\n")) == (1, 1)
            status, _, errors = await chat(url, "x", "--attach", str(tmp_path / "missing"))
            assert (status, errors.startswith("threadwire: --attach")) == (2, True)
            status, _, errors = await chat(url, "x", "--thread", "no id")
            assert (status, errors.startswith("threadwire: a thread id is")) == (2, True)
            assert await chat(url, b"\xff\xfe") == (1, "", "threadwire: the input is no text\n")
        status, _, errors = await chat("http://127.0.0.1:1", "x")
        assert (status, errors.count("\n")) == (1, 1)
        assert errors.startswith("threadwire: cannot connect to ws://127.0.0.1:1/ws: ")


async def test_characters_that_the_output_cannot_have_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with anyio.fail_after(30):
        async with serving() as url:
            assert await chat(url, "size") == (0, "You said Gr??e\n", "")


async def test_command_ends_when_nobody_reads_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    monkeypatch.setitem(GATES, "hang", gate)
    with anyio.fail_after(30):
        async with serving() as url:
            ours, theirs = os.pipe()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "threadwire", "chat", url),
                stdin=asyncio.subprocess.PIPE,
                stdout=theirs,
            )
            os.close(theirs)
            assert process.stdin is not None
            process.stdin.write(b"hang")
            process.stdin.close()
            assert await anyio.to_thread.run_sync(os.read, ours, 100) == b"You"
            os.close(ours)
            gate.set()
            assert await process.wait() == 141  # as a shell tells of SIGPIPE


def test_urls_are_those_of_the_server_or_its_websocket() -> None:
    assert websocket_url("http://h:1") == "ws://h:1/ws"
    assert websocket_url("https://h/base/") == "wss://h/base/ws"
    assert websocket_url("ws://h/ws") == "ws://h/ws"
    assert websocket_url("ws://h") == "ws://h/ws"
    assert websocket_url("http://h/ws") == "ws://h/ws"
    assert websocket_url("http://[::1]:80/base/ws/") == "ws://[::1]:80/base/ws"
    assert http_url("wss://h/base/ws") == "https://h/base"
    for wrong in ("h:1", "ftp://h", "http://", "http://:80", "http://h:99999", "http://h:x", "http://[::1"):
        with pytest.raises(UsageError):
            websocket_url(wrong)


# in a terminal


def settings_of(url: str, agent: str | None = None) -> ChatSettings:
    return ChatSettings(url=websocket_url(url), thread=None, agent=agent, token=None, attachments=())


class Recorded:
    """A screen that keeps what it shows."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.said: list[str] = []
        self._news = anyio.Event()

    def show(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._change()

    def say(self, text: str) -> None:
        self.said.append(text)
        self._change()

    def _change(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def wait(self, text: str) -> None:
        """Waits until something with the text is shown."""
        while not any(text in each for each in (*self.said, *(entry.text for entry in self.entries))):
            await self.changed()

    async def changed(self) -> None:
        """Waits until something is shown."""
        await self._news.wait()


class Person:
    """Somebody at a terminal."""

    def __init__(self, keyboard: Any, screen: Recorded, runtime: AssistantTransportRuntime) -> None:
        self.type = keyboard.send_text
        self.runtime = runtime
        self.screen = screen
        self.left: Leave | None = None
        self.has_left = anyio.Event()


@asynccontextmanager
async def at_terminal(url: str, thread: str = "t", agent: str | None = None) -> AsyncIterator[Person]:
    settings = settings_of(url, agent)
    with create_pipe_input() as keyboard:
        screen = Recorded()
        async with (
            connect(settings.url) as connection,
            httpx.AsyncClient(base_url=url) as client,
            new_runtime(connection, thread, settings) as runtime,
        ):
            person = Person(keyboard, screen, runtime)
            actions = Actions(
                runtime, screen.say, threads=ServerThreads(client), new_id=lambda: "fresh", listed=[]
            )
            terminal = Terminal(connection, runtime, screen, actions, input=keyboard, output=DummyOutput())

            async def talk() -> None:
                with create_app_session(input=keyboard, output=DummyOutput()):
                    person.left = await terminal.talk()
                person.has_left.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(talk)
                yield person
                if person.left is None:
                    keyboard.send_text("/quit\r")


async def test_two_terminals_and_a_bot_on_one_thread_see_each_other_live() -> None:
    with anyio.fail_after(30):
        async with serving() as url, at_terminal(url) as one, at_terminal(url) as two:
            settings = ChatSettings(
                url=websocket_url(url), thread="t", agent=None, token=None, attachments=()
            )
            async with connect(settings.url) as connection, new_runtime(connection, "t", settings) as bot:
                one.type("from one\r")
                for person in (one, two):
                    await person.screen.wait("You said from one")
                two.type("from two\r")
                for person in (one, two):
                    await person.screen.wait("You said from two")
                await bot.append("from the bot")
                for person in (one, two):
                    await person.screen.wait("You said from the bot")
                await bot.idle()
                said = [message_text(each) for each in bot.messages if each.role == "user"]
                assert said == ["from one", "from two", "from the bot"]
                for person in (one, two):
                    users = [each.text for each in person.screen.entries if each.kind == "user"]
                    assert users == said


async def test_keys_and_commands_do_what_they_say() -> None:
    with anyio.fail_after(30):
        async with serving() as url, at_terminal(url) as person:
            screen = person.screen
            person.type("hang\r")
            await screen.wait("hang")
            async with connect(websocket_url(url)) as connection, connection.open("t") as thread:
                await thread.wait(lambda state: state["messages"][-1]["content"] == "You said hang")
                person.type("\x03")  # Ctrl-C
                await thread.idle()
                assert thread.run is not None
                assert thread.run.status == "cancelled"
                await screen.wait("stopped")
                person.type("/edit better\r")
                await screen.wait("You said better")
                await thread.idle()
                answer = thread.state["messages"][-1]["id"]
                person.type("/again\r")
                await thread.wait(lambda state: state["messages"][-1]["id"] != answer)
                await thread.idle()
                person.type("ask\r")
                await screen.wait("which one?")
                person.type("/answer the blue one\r")
                await screen.wait("You chose the blue one")
            person.type("/title My thread\r")
            person.type("/threads\r")
            await screen.wait("My thread")
            person.type("/branch\r")
            await screen.wait("no other versions")
            person.type("/attach /nowhere/file.txt\r")
            await screen.wait("there is no file '/nowhere/file.txt'")
            person.type("/attach pyproject.toml\r")
            await screen.wait("accepted are")
            person.type("fail\r")
            await screen.wait("the agent failed: no credit")
            person.type("/nothing\r")
            await screen.wait("there is no /nothing")
            person.type("/yes\r")
            await screen.wait("asks nothing")
            person.type("/help\r")
            await screen.wait("/attach PATH")
            person.type("/new\r")
        assert person.left == Leave("fresh")


async def test_talk_goes_on_after_a_restart_of_the_server(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with running(tmp_path) as server, at_terminal(server.url, agent="scripted") as person:
            person.type("before the restart\r")
            await person.screen.wait("before the restart")
            port = server.port
            await server.kill()
            person.type("while it is away\r")
            await server.start(port=port)
            await person.screen.wait("while it is away")
            while [each.text for each in person.screen.entries].count("while it is away") < 2:
                await person.screen.changed()
            kinds = [each.kind for each in person.screen.entries if each.kind in ("user", "text", "changed")]
            assert kinds == ["user", "text", "user", "text"]


async def test_what_cannot_be_done_while_the_server_is_away_is_said(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with running(tmp_path) as server, at_terminal(server.url, agent="scripted") as person:
            await server.kill()
            person.type("/threads\r")
            await person.screen.wait("the server doesn't answer")
            person.type("/open no id\r")
            await person.screen.wait("a thread id is")
            person.type("waits for the server\r")
            person.type("half a line\x03\x03")  # Ctrl-C: nothing can be stopped now
            await person.has_left.wait()
        assert person.left == Leave(None)


async def test_messages_that_wait_for_their_turn_leave_the_answer_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()
    monkeypatch.setitem(GATES, "one", gate)
    with anyio.fail_after(30):
        async with serving() as url, at_terminal(url) as person:
            person.type("one\rtwo\rthree\r")
            await person.runtime.wait(lambda: len(person.runtime.pending_commands) == 2)
            await person.runtime.wait(lambda: "You" in map(message_text, person.runtime.messages))
            gate.set()
            await person.screen.wait("You said three")
            assert [(each.kind, each.text) for each in person.screen.entries] == [
                (kind, f"{said}{word}")
                for word in ("one", "two", "three")
                for kind, said in (("user", ""), ("text", "You said "))
            ]


async def test_empty_line_and_ctrl_d_leave() -> None:
    with anyio.fail_after(30):
        async with serving() as url, at_terminal(url) as person:
            person.type("\r\x04")
        assert person.left == Leave(None)


async def test_command_talks_on_a_terminal() -> None:
    pty = pytest.importorskip("pty")
    with anyio.fail_after(60):
        async with serving() as url:
            ours, theirs = pty.openpty()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "threadwire", "chat", url),
                *("--thread", "t", "--agent", "talker"),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
            )
            os.close(theirs)
            printed = ""

            async def read_until(text: str) -> None:
                nonlocal printed
                while text not in printed:
                    printed += (await anyio.to_thread.run_sync(os.read, ours, 4096)).decode(errors="replace")

            await read_until("/help tells what there is")
            os.write(ours, b"hello\r")
            await read_until("You said hello")
            async with connect(websocket_url(url)) as connection, connection.open("o", agent="other"):
                os.write(ours, b"/open o\r")
                await read_until("o: the thread")  # it is another agent's: here it stays
            os.write(ours, b"again\r")
            await read_until("You said again")
            os.write(ours, b"/quit\r")
            with pytest.raises(OSError, match="Input/output"):  # it is gone
                await read_until("never printed")
            assert await process.wait() == 0, printed
            os.close(ours)


def test_every_kind_of_entry_can_be_printed() -> None:
    import io

    from rich.console import Console

    out = io.StringIO()
    screen = RichScreen(Console(file=out, width=60))
    for kind in ("user", "text", "thinking", "call", "result", "file", "error", "changed"):
        screen.show(Entry(kind, f"**{kind}** [x]"))  # type: ignore[arg-type]
    screen.say("[hello]")
    printed = re.sub(r"\s+", " ", out.getvalue())
    assert "text [x]" in printed  # as Markdown
    assert "**user** [x]" in printed
    assert "[hello]" in printed
