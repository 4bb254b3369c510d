"""The terminal: a line to write in, with the thread printed above it as it grows.

The line is there all the time, so that something can be written while the agent answers, and what
others do in the thread appears at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import anyio
from anyio.abc import TaskGroup
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.text import Text

from ...client.connection import Connection
from ...client.runtimes.assistant_transport import AssistantTransportRuntime
from ...core.client_session import ENDED
from ...core.commands import AddMessage
from .actions import Actions, Leave, question_text, questions
from .printable import printable
from .transcript import Entry, Transcript

_FRAME_S = 0.05
"""How often what is new is printed, at most."""


class Screen(Protocol):
    """Where the thread is printed."""

    def show(self, entry: Entry) -> None:
        """Prints something of the thread."""

    def say(self, text: str) -> None:
        """Prints something about it."""


class RichScreen:
    """Prints Markdown and colours; what a terminal would obey is shown instead."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, entry: Entry) -> None:
        """Prints something of the thread."""
        text = printable(entry.text)
        match entry.kind:
            case "user":
                self._console.print(Text.assemble(("❯ ", "bold cyan"), (text, "bold")))
            case "text":
                self._console.print(Padding(Markdown(text), (0, 0, 1, 0)))
            case "thinking":
                self._console.print(Text(text, style="dim italic"))
            case "call":
                self._console.print(Text(f"⚙ {text}", style="magenta"))
            case "result":
                self._console.print(Text(f"  → {text}", style="dim"))
            case "file":
                self._console.print(Text(f"  [{text}]", style="dim"))
            case "error":
                self._console.print(Text(f"✗ {text}", style="red"))
            case "changed":
                self._console.rule(text, style="dim")

    def say(self, text: str) -> None:
        """Prints something about the thread."""
        self._console.print(Text(printable(text), style="yellow"))


class Terminal:
    """Talks in one thread until the user leaves it."""

    def __init__(
        self,
        connection: Connection,
        runtime: AssistantTransportRuntime,
        screen: Screen,
        actions: Actions,
        *,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._connection = connection
        self._runtime = runtime
        self._screen = screen
        self._actions = actions
        self._transcript = Transcript()
        self._asked: set[str] = set()
        run = runtime.thread.run
        self._ended_run = run.id if run is not None and run.status in ENDED else None
        self._session: PromptSession[str] = PromptSession(
            message="❯ ",
            bottom_toolbar=self._toolbar,
            key_bindings=_keys(self._interrupt),
            completer=WordCompleter([f"/{name}" for name in actions.names], sentence=True),
            complete_while_typing=False,
            refresh_interval=0.2,
            input=input,
            output=output,
        )
        self._session.app.erase_when_done = True  # what is sent is printed with the thread
        self._stopping: anyio.Event = anyio.Event()

    async def talk(self) -> Leave:
        """Prints and sends until the user leaves; for where."""
        with patch_stdout(raw=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._print)
                tasks.start_soon(self._stop_runs)
                try:
                    return await self._lines(tasks)
                finally:
                    tasks.cancel_scope.cancel()
        raise AssertionError  # the group swallows nothing

    async def _lines(self, tasks: TaskGroup) -> Leave:
        while True:
            try:
                line = await self._session.prompt_async()
            except (EOFError, KeyboardInterrupt):
                return Leave(None)
            if not line.strip():
                continue
            if line.startswith("/"):
                self._screen.show(Entry("user", line.rstrip()))
            else:
                tasks.start_soon(self._actions.line, line)  # the next line may be written meanwhile
                continue
            leave = await self._actions.line(line)
            if leave is not None:
                return leave

    async def _print(self) -> None:
        while True:
            for entry in self._transcript.update(self._runtime.messages, self._pending):
                self._screen.show(entry)
            for id, value in questions(self._runtime.agent_state).items():
                if id not in self._asked:
                    self._asked.add(id)
                    self._screen.say(f"the agent asks: {question_text(value)}  (/yes, /no, /answer TEXT)")
            self._tell_of_run()
            if self._runtime.failure is not None:
                self._screen.say(f"the thread is closed: {self._runtime.failure}")
                return
            self._session.app.invalidate()
            await self._runtime.changed()
            await anyio.sleep(_FRAME_S)

    @property
    def _pending(self) -> set[str]:
        """The ids of messages that are on their way into the thread."""
        commands = (each.command for each in self._runtime.pending_commands)
        return {each.message.id for each in commands if isinstance(each, AddMessage) and each.message.id}

    def _tell_of_run(self) -> None:
        """Says once that a run was stopped, or failed, since this thread was opened."""
        run = self._runtime.thread.run
        if run is None or run.status not in ENDED or run.id == self._ended_run:
            return
        self._ended_run = run.id
        if run.status == "failed":
            why = run.error.message if run.error else "it doesn't say why"
            self._screen.show(Entry("error", f"the agent failed: {why}"))
        elif run.status == "cancelled":
            self._screen.show(Entry("error", "stopped"))

    async def _stop_runs(self) -> None:
        while True:
            await self._stopping.wait()
            self._stopping = anyio.Event()
            await self._actions.line("/stop")

    def _interrupt(self, event: KeyPressEvent) -> None:
        """Ctrl-C: stops the run; without one it empties the line, and an empty one leaves.

        While the server is away nothing can be stopped.
        """
        if self._runtime.is_sending and self._connection.connected:
            self._stopping.set()
        elif event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError)

    def _toolbar(self) -> str:
        waiting = f"   {len(self._pending)} waiting" if self._pending else ""
        if not self._connection.connected:
            return f" the server is away; trying again …{waiting}   Ctrl-C leaves"
        runtime = self._runtime
        if runtime.is_sending:
            lines = self._transcript.tail.strip().splitlines()
            tail = lines[-1][-40:] if lines else "the agent works"
            return f" {tail} …{waiting}   Ctrl-C stops it"
        return f" {runtime.thread.id}   /help"


def _keys(interrupt: Callable[[KeyPressEvent], None]) -> KeyBindings:
    keys = KeyBindings()
    keys.add("c-c")(interrupt)
    return keys
