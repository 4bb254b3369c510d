"""The WebSocket endpoint over plain ASGI: what it answers, in which order, and to a client that is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.support.asgi import Socket, connected
from tests.support.engine import say
from threadwire.core.errors import StoreUnavailable
from threadwire.core.frames import (
    CommandState,
    Error,
    Goodbye,
    Heartbeat,
    Limits,
    Pong,
    Run,
    Snapshot,
    Update,
    Welcome,
)
from threadwire.core.operations import apply
from threadwire.endpoints.app import Application, create_app
from threadwire.engine.history import History
from threadwire.engine.settings import Settings
from threadwire.stores.memory import MemoryStore
from threadwire_agents.demos.scripted import scripted

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Application]:
    app = create_app(agents={"scripted": scripted}, store="memory:", settings=Settings(**settings))
    async with app.running():
        yield app


def fold(socket: Socket, thread: str = "t") -> Any:
    """The state and position that a connection has been shown."""
    state, position = None, -1
    for frame in socket.frames:
        if isinstance(frame, Snapshot) and frame.thread == thread:
            state, position = frame.state, frame.seq
        elif isinstance(frame, Update) and frame.thread == thread:
            assert frame.base == position
            state, position = apply(state, frame.ops), frame.seq
    return state, position


def command(id: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "command", "thread": "t", "id": id, "command": say(text), **fields}


OPEN = {"type": "open", "thread": "t"}


async def test_welcome_comes_first_and_tells_agents_limits_and_strategies() -> None:
    async with serving() as app, connected(app) as socket:
        welcome = await socket.until(Welcome)
        assert socket.frames[0] is welcome
        assert welcome.agents == ("scripted",)
        assert welcome.limits == Limits()
        assert set(welcome.strategies) == {"enqueue", "interrupt", "rollback", "reject", "steer"}
        assert socket.accepted is not None
        assert socket.accepted["subprotocol"] == "threadwire.v1.json"


async def test_a_command_is_answered_though_its_thread_was_never_opened() -> None:
    async with serving() as app, connected(app) as socket:
        socket.say(command("c", "hi"))
        await socket.until(CommandState, id="c", status="applied")
        assert not any(isinstance(frame, Snapshot | Update | Run) for frame in socket.frames)


async def test_frames_of_one_message_are_carried_out_in_order() -> None:
    async with serving() as app, connected(app) as socket:
        socket.say(OPEN, *(command(str(n), f"word{n}") for n in range(20)))
        for n in range(20):
            await socket.until(CommandState, id=str(n), status="applied")
        state, _ = fold(socket)
        texts = [m["content"] for m in state["messages"] if m["role"] == "user"]
        assert texts == [f"word{n}" for n in range(20)]


async def test_a_cancel_right_behind_its_command_stops_it() -> None:
    async with serving() as app, connected(app) as socket:
        socket.say(OPEN, command("c", "hang on"), {"type": "cancel", "thread": "t"})
        with anyio.fail_after(60):
            while not app.threads.loaded() or app.threads.loaded()[0].runner.busy:
                await anyio.sleep(0.01)
        settled = [f.status for f in socket.frames if isinstance(f, CommandState)][-1]
        assert settled in ("cancelled", "applied")
        run = [f.run for f in socket.frames if isinstance(f, Run)][-1]
        assert run is None or run.status == "cancelled"


async def test_a_cancel_of_an_idle_thread_is_answered_by_its_run() -> None:
    async with serving() as app, connected(app) as socket:
        socket.say(OPEN)
        await socket.until(Run)
        socket.messages.clear()
        socket.say({"type": "cancel", "thread": "t"})
        assert (await socket.until(Run)).run is None


async def test_a_cancel_from_elsewhere_is_answered_by_the_ended_run() -> None:
    async with serving() as app, connected(app) as one, connected(app, "msgpack") as other:
        one.say(OPEN, command("c", "hang on"))
        await one.until(CommandState, id="c", status="applied")
        other.say({"type": "cancel", "thread": "t"})
        answer = await other.until(Run)
        assert answer.run.status == "cancelled"
        seen = [f.run.status for f in one.frames if isinstance(f, Run) and f.run]
        assert seen == ["running", "cancelled"]


async def test_closing_stops_updates_and_opening_again_resumes() -> None:
    async with serving() as app, connected(app) as socket, connected(app) as other:
        socket.say(OPEN)
        snapshot = await socket.until(Snapshot)
        socket.say({"type": "close", "thread": "t"}, {"type": "ping", "nonce": 1})
        await socket.until(Pong, nonce=1)
        other.say(OPEN, command("c", "one two three"))
        await other.until(CommandState, id="c", status="applied")
        with anyio.fail_after(60):
            while app.threads.loaded()[0].runner.busy:
                await asyncio.sleep(0)
        assert not any(isinstance(frame, Update) for frame in socket.frames)
        since = {"epoch": snapshot.epoch, "seq": snapshot.seq}
        socket.say({**OPEN, "since": since})
        await socket.until(Update)
        assert fold(socket) == fold(other)


async def test_a_slow_client_gets_several_frames_in_one_message_and_merged_updates() -> None:
    async with serving() as app, connected(app) as slow, connected(app) as fast:
        slow.say(OPEN)
        fast.say(OPEN)
        await slow.until(Run)
        slow.flowing.clear()
        fast.say(command("c", "count 500"))
        await fast.until(Run, run=None)
        with anyio.fail_after(60):
            while not any(isinstance(f, Run) and f.run and f.run.status == "completed" for f in fast.frames):
                await asyncio.sleep(0.01)
        before = len(slow.messages)
        slow.flowing.set()
        with anyio.fail_after(60):
            while not any(isinstance(f, Run) and f.run and f.run.status == "completed" for f in slow.frames):
                await asyncio.sleep(0.01)
        assert fold(slow) == fold(fast)
        assert len(slow.messages) - before <= 2
        assert len(slow.messages[-1]) > 1


async def test_one_connection_may_hold_max_threads_open_and_no_more() -> None:
    async with serving(limits=Limits(max_threads=3)) as app, connected(app) as socket:
        for n in range(4):
            socket.say({"type": "open", "thread": f"t{n}"})
        error = await socket.until(Error)
        assert (error.code, error.thread, error.field) == ("too-many-threads", "t3", "thread")
        socket.say({"type": "close", "thread": "t0"})
        socket.say({"type": "open", "thread": "t4"})
        await socket.until(Snapshot, thread="t4")


async def test_more_than_max_pending_commands_are_rejected_and_the_rest_is_done() -> None:
    async with serving(limits=Limits(max_pending_commands=5)) as app, connected(app) as socket:
        socket.say(OPEN, command("first", "hang on"))
        await socket.until(CommandState, id="first", status="applied")
        socket.say(*(command(str(n), "x") for n in range(8)))
        rejected = await socket.until(CommandState, id="7", status="rejected")
        assert rejected.error.code == "too-many-pending"
        socket.say({"type": "cancel", "thread": "t"})
        await socket.until(CommandState, id="4", status="cancelled")


async def test_heartbeats_tell_the_position_of_each_open_thread() -> None:
    async with serving(limits=Limits(heartbeat_s=0.05)) as app, connected(app) as socket:
        socket.say(OPEN, {"type": "open", "thread": "u"})
        await socket.until(Snapshot, thread="u")
        socket.messages.clear()
        heartbeat = await socket.until(Heartbeat)
        assert {thread: head[1] for thread, head in heartbeat.heads.items()} == {"t": 0, "u": 0}


async def test_draining_says_goodbye_and_runs_end_as_failed_with_their_text_kept() -> None:
    async with serving() as app, connected(app) as socket:
        socket.say(OPEN, command("c", "hang on"))
        await socket.until(CommandState, id="c", status="applied")
        await app.drain(0.05)
        goodbye = await socket.until(Goodbye)
        assert goodbye.reconnect
        run = [f.run for f in socket.frames if isinstance(f, Run)][-1]
        assert run is not None
        assert run.status == "failed"
        assert run.error is not None
        assert run.error.code == "server-stopped"
        state, _ = fold(socket)
        assert state["messages"][-1]["content"] == "hang "


async def test_a_client_that_goes_away_leaves_no_subscriber_and_its_run_goes_on() -> None:
    async with serving() as app:
        async with connected(app) as socket:
            socket.say(OPEN, command("c", "count 2000"))
            await socket.until(CommandState, id="c", status="applied")
        (thread,) = app.threads.loaded()
        assert not thread.subscribers
        await thread.runner.ended()
        assert thread.run_info is not None
        assert thread.run_info.status == "completed"


async def test_an_agent_is_named_at_the_first_open_and_can_not_change() -> None:
    async with serving() as app, connected(app) as socket:
        socket.say({**OPEN, "agent": "scripted"})
        await socket.until(Snapshot)
        socket.say({**OPEN, "agent": "other"})
        error = await socket.until(Error)
        assert (error.code, error.field) == ("not-found", "agent")


class SlowHistory(MemoryStore):
    """Tells which epoch wrote an update only once it is `released`, or fails to."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.released = asyncio.Event()
        self._fails = fails

    async def row_epoch(self, thread: str, seq: int) -> int | None:
        self.asked.set()
        await self.released.wait()
        if self._fails:
            raise StoreUnavailable("as told")
        return await super().row_epoch(thread, seq)


async def test_a_runs_end_comes_after_its_last_update_though_the_thread_is_opened_anew_meanwhile() -> None:
    store = SlowHistory()
    app = create_app(agents={"scripted": scripted}, store=store)
    async with app.running(), connected(app) as socket:
        socket.say(OPEN, command("c", "hang on"))
        await socket.until(CommandState, id="c", status="applied")
        (thread,) = app.threads.loaded()
        thread._history = History(thread.head, None)  # as of a thread that was just loaded
        socket.messages.clear()
        socket.say({"type": "cancel", "thread": "t"}, {**OPEN, "since": {"epoch": 0, "seq": thread.head}})
        await store.asked.wait()
        await thread.runner.ended()
        socket.say({"type": "ping", "nonce": 1})
        await socket.until(Pong, nonce=1)
        assert not any(isinstance(frame, Run) for frame in socket.frames)
        store.released.set()
        await socket.until(Run)
        socket.say({"type": "ping", "nonce": 2})
        await socket.until(Pong, nonce=2)
        shown = [frame for frame in socket.frames if isinstance(frame, Snapshot | Update | Run)]
        assert [type(frame) for frame in shown] == [Snapshot, Run]
        assert shown[-1].run.status == "cancelled"


async def test_a_cancels_answer_tells_of_no_earlier_run_though_the_thread_is_opened_twice_meanwhile() -> None:
    store = SlowHistory()
    app = create_app(agents={"scripted": scripted}, store=store)
    async with app.running(), connected(app) as socket, connected(app) as other:
        socket.say(OPEN, command("c", "hang on"))
        await socket.until(CommandState, id="c", status="applied")
        (thread,) = app.threads.loaded()
        thread._history = History(thread.head, None)
        opening = {**OPEN, "since": {"epoch": 0, "seq": thread.head}}
        socket.messages.clear()
        socket.say({"type": "cancel", "thread": "t"}, opening, opening)
        await store.asked.wait()
        await thread.runner.ended()
        other.say(command("d", "hang on"))
        await other.until(CommandState, id="d", status="applied")
        store.asked.clear()
        store.released.set()
        store.released.clear()  # for the second open
        await store.asked.wait()
        for nonce in range(3):
            socket.say({"type": "ping", "nonce": nonce})
            await socket.until(Pong, nonce=nonce)
        assert [frame.run.status for frame in socket.frames if isinstance(frame, Run)] == ["running"]
        store.released.set()


async def test_a_cancel_is_answered_though_the_open_behind_it_fails() -> None:
    store = SlowHistory(fails=True)
    app = create_app(agents={"scripted": scripted}, store=store)
    async with app.running(), connected(app) as one, connected(app) as other:
        one.say(OPEN, command("c", "hang on"))
        await one.until(CommandState, id="c", status="applied")
        (thread,) = app.threads.loaded()
        thread._history = History(thread.head, None)
        other.say({"type": "cancel", "thread": "t"}, {**OPEN, "since": {"epoch": 0, "seq": thread.head}})
        await store.asked.wait()
        await thread.runner.ended()
        store.released.set()
        answer = await other.until(Run)
        assert answer.run.status == "cancelled"
        assert (await other.until(Error)).code == "store-unavailable"
