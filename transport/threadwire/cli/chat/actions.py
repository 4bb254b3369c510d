"""What the lines that begin with a slash do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import anyio
import httpx
import msgspec

from ...client.errors import ClientError
from ...client.runtimes.assistant_transport import AssistantTransportRuntime
from ...client.runtimes.server_threads import ServerThreads
from ...core.commands import Resume
from ...core.errors import Refused
from ...core.operations import Json
from ...messages.model import ThreadAssistantMessage, ThreadUserMessage
from ..errors import UsageError
from .arguments import check_thread_id

Say: TypeAlias = Callable[[str], None]

HELP: Final = """\
/help                what there is
/threads             the server's threads
/open ID             another thread, by its id or its number in the list
/new                 a new thread
/title TEXT          give this thread a title
/edit TEXT           say your last message in another way
/again               let the agent answer again
/branch [N]          the versions of the last answer or message; the N-th
/attach PATH         send a file with the next message
/yes, /no [WHY]      approve what the agent asks for, or don't
/answer TEXT         answer what the agent asks (JSON, or a text)
/state               the thread's whole state
/stop                stop the agent (also Ctrl-C)
/quit                leave (also Ctrl-D)"""


@dataclass(frozen=True)
class Leave:
    """Leave this thread: for another one, or for good (None)."""

    thread: str | None


class Actions:
    """The slash commands of one thread. What goes wrong is said, and does no harm."""

    def __init__(
        self,
        runtime: AssistantTransportRuntime,
        say: Say,
        *,
        threads: ServerThreads | None,
        new_id: Callable[[], str],
        listed: list[str],
    ) -> None:
        self._runtime = runtime
        self._say = say
        self._threads = threads
        self._new_id = new_id
        self._listed = listed  # thread ids as /threads numbered them last
        self._actions: Mapping[str, Callable[[str], Awaitable[Leave | None]]] = {
            "help": self._help,
            "threads": self._list,
            "open": self._open,
            "new": self._new,
            "title": self._title,
            "edit": self._edit,
            "again": self._again,
            "branch": self._branch,
            "attach": self._attach,
            "yes": self._yes,
            "no": self._no,
            "answer": self._answer,
            "state": self._state,
            "stop": self._stop,
            "quit": self._quit,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """What may follow a slash."""
        return tuple(self._actions)

    async def line(self, line: str) -> Leave | None:
        """Does what a line says: sends it, or what its slash command is for."""
        try:
            if not line.startswith("/"):
                self._runtime.composer.text = line
                await self._runtime.composer.send()
                return None
            name, _, rest = line[1:].partition(" ")
            action = self._actions.get(name)
            if action is None:
                self._say(f"there is no /{name}; /help tells what there is")
                return None
            return await action(rest.strip())
        except (ClientError, Refused, UsageError, OSError, UnicodeError) as error:
            self._say(str(error) or type(error).__name__)
        except httpx.HTTPError as error:
            self._say(f"the server doesn't answer: {error}")
        except msgspec.MsgspecError as error:
            self._say(f"the server's answer is none: {error}")
        return None

    async def _help(self, rest: str) -> None:
        self._say(HELP)

    async def _list(self, rest: str) -> None:
        if self._threads is None:
            self._say("the threads can't be listed here")
            return
        page = await self._threads.list()
        self._listed[:] = [thread.remote_id for thread in page.threads]
        for number, thread in enumerate(page.threads, 1):
            here = "*" if thread.remote_id == self._runtime.thread.id else " "
            archived = " (archived)" if thread.status == "archived" else ""
            self._say(f"{here}{number:3}  {thread.remote_id}  {thread.title or ''}{archived}")
        if not page.threads:
            self._say("there are no threads")

    async def _open(self, rest: str) -> Leave | None:
        if rest.isdecimal() and 0 < int(rest) <= len(self._listed):
            return Leave(self._listed[int(rest) - 1])
        if not rest:
            self._say("/open ID")
            return None
        check_thread_id(rest)
        return Leave(rest)

    async def _new(self, rest: str) -> Leave:
        return Leave(self._new_id())

    async def _title(self, rest: str) -> None:
        if self._threads is None or not rest:
            self._say("/title TEXT" if self._threads else "threads have no titles here")
            return
        await self._threads.rename(self._runtime.thread.id, rest)

    async def _edit(self, rest: str) -> None:
        message = self._last(ThreadUserMessage)
        if message is None or not rest:
            self._say("/edit TEXT" if message else "there is nothing to edit")
            return
        edit = self._runtime.begin_edit(message.id)
        edit.text = rest
        await edit.send()

    async def _again(self, rest: str) -> None:
        message = self._last(ThreadAssistantMessage)
        if message is None:
            self._say("there is no answer yet")
        else:
            await self._runtime.reload(message.id)

    async def _branch(self, rest: str) -> None:
        for message in reversed(self._runtime.messages):
            branches = self._runtime.branches(message.id)
            if len(branches) < 2:
                continue
            if rest.isdecimal() and 0 < int(rest) <= len(branches):
                await self._runtime.switch_to_branch(branches[int(rest) - 1])
            else:
                self._say(f"version {branches.index(message.id) + 1} of {len(branches)}")
            return
        self._say("there are no other versions")

    async def _attach(self, rest: str) -> None:
        if not await anyio.Path(rest).is_file():
            self._say(f"there is no file {rest!r}" if rest else "/attach PATH")
            return
        await self._runtime.composer.add_attachment(rest)
        names = ", ".join(each.name for each in self._runtime.composer.attachments)
        self._say(f"goes with the next message: {names}")

    async def _yes(self, rest: str) -> None:
        await self._resume(lambda value: _decision(value, True, rest))

    async def _no(self, rest: str) -> None:
        await self._resume(lambda value: _decision(value, False, rest))

    async def _answer(self, rest: str) -> None:
        try:
            answer = json.loads(rest)
        except ValueError:
            answer = rest
        await self._resume(lambda value: answer)

    async def _resume(self, answer: Callable[[Json], Json]) -> None:
        interrupts = questions(self._runtime.agent_state)
        if not interrupts:
            self._say("the agent asks nothing")
            return
        answers = {id: answer(value) for id, value in interrupts.items()}
        await self._runtime.send_command(Resume(answers=answers))

    async def _state(self, rest: str) -> None:
        self._say(json.dumps(self._runtime.agent_state, indent=2, ensure_ascii=False))

    async def _stop(self, rest: str) -> None:
        await self._runtime.cancel_run()

    async def _quit(self, rest: str) -> Leave:
        return Leave(None)

    def _last(self, kind: type[Any]) -> Any:
        return next((each for each in reversed(self._runtime.messages) if isinstance(each, kind)), None)


def questions(state: Json) -> dict[str, Json]:
    """What the agent waits for, by id. Spec: PROTOCOL.md §8.4."""
    server = state.get("threadwire") if isinstance(state, dict) else None
    interrupts = server.get("interrupts") if isinstance(server, dict) else None
    if not isinstance(interrupts, dict):
        return {}
    return {id: each.get("value") if isinstance(each, dict) else each for id, each in interrupts.items()}


def question_text(value: Json) -> str:
    """What the agent asks, in words where it has some."""
    actions = value.get("action_requests") if isinstance(value, dict) else None
    if isinstance(actions, list):
        asked = (each if isinstance(each, dict) else {} for each in actions)
        return "\n".join(str(each.get("description") or f"may I {each.get('name')}?") for each in asked)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _decision(value: Json, approved: bool, why: str) -> Json:
    """Yes or no in the form that the question has: a decision for each action, or true and false."""
    actions = value.get("action_requests") if isinstance(value, dict) else None
    if not isinstance(actions, list):
        return approved
    reason = {"message": why} if why and not approved else {}
    return {"decisions": [{"type": "approve" if approved else "reject", **reason} for _ in actions]}
