"""The client against scripted servers: lost connections, refusals, slow readers, and ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import anyio
import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.http11 import Request, Response

from tests.support.scripted_server import Peer, scripted_server
from threadwire.client import (
    AddMessage,
    Backoff,
    CommandError,
    Connection,
    ConnectionClosed,
    Position,
    Receipt,
    Refused,
    RunInfo,
    Thread,
    ToolCall,
)
from threadwire.client import connect as plain_connect
from threadwire.core.canonical import state_hash
from threadwire.core.codec import encode_frame
from threadwire.core.errors import ErrorInfo
from threadwire.core.frames import (
    Cancel,
    Close,
    CommandState,
    CommandStatus,
    Error,
    Goodbye,
    Heartbeat,
    Hello,
    Limits,
    Open,
    Run,
    RunStatus,
    SendCommand,
    Snapshot,
    Tool,
    Update,
    Welcome,
)
from threadwire.core.operations import AppendText, Json, Operation, Set

pytestmark = pytest.mark.anyio

HELLO = AddMessage.text("hello")
NOW = Backoff(initial_s=0, stable_s=0)


def connect(url: str, **options: Any) -> Connection:
    return plain_connect(url, **{"proxy": None, "backoff": NOW, **options})


def snapshot(seq: int, state: Json, run: RunInfo | None = None) -> Snapshot:
    return Snapshot(thread="t", epoch=1, seq=seq, state=state, run=run)


def update(seq: int, *ops: Operation, hash: str | None = None) -> Update:
    return Update(thread="t", epoch=1, seq=seq, ops=list(ops), hash=hash)


def count(seq: int) -> Update:
    return update(seq, Set(("n",), seq))


def run(status: RunStatus | None) -> Run:
    return Run(thread="t", run=None if status is None else RunInfo(id="r", status=status))


def command(id: str, status: CommandStatus, **fields: Any) -> CommandState:
    return CommandState(thread="t", id=id, status=status, **fields)


async def answer_open(peer: Peer, seq: int = 0, state: Json = msgspec.UNSET) -> Open:
    frame = await peer.hear(Open)
    await peer.say(snapshot(seq, {"n": seq} if state is msgspec.UNSET else state), run(None))
    return frame


def reaches(n: int) -> Callable[[Json], bool]:
    return lambda state: bool(state["n"] >= n)


async def lost(connection: Connection) -> None:
    """Waits until the connection is down."""
    pump = connection._pump
    while connection.connected:
        await pump.changed(pump)


# connecting and opening


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_thread_is_followed_in_either_encoding(encoding: Any) -> None:
    async def script(peer: Peer) -> None:
        assert peer.encoding == encoding
        frame = await answer_open(peer, 4, {"text": "é", "n": 4})
        assert frame == Open(thread="t", agent="a", tools=("search",), hash=True, state={"seed": [1.5, None]})
        await peer.say(update(5, AppendText(("text",), "t"), AppendText(("text",), "é")), run("completed"))

    async with (
        scripted_server(script) as url,
        connect(url, encoding=encoding) as connection,
        connection.open("t", agent="a", tools=["search"], hash=True, state={"seed": [1.5, None]}) as thread,
    ):
        assert connection.agents == ("a", "b")
        assert connection.limits == Limits()
        assert connection.connected
        assert thread.id == "t"
        assert await thread.wait(lambda state: len(state["text"]) == 3) == {"text": "été", "n": 4}
        assert thread.position == Position(1, 5)
        assert await thread.idle() == thread.run == RunInfo(id="r", status="completed")


async def test_a_token_is_said_first_on_each_connection() -> None:
    async def first(peer: Peer) -> None:
        assert await peer.hear(Hello) == Hello(token="secret")
        await answer_open(peer)
        peer.cut()

    async def second(peer: Peer) -> None:
        assert await peer.hear(Hello) == Hello(token="secret")
        assert await peer.hear(Open) == Open(thread="t", since={"epoch": 1, "seq": 0})
        await peer.say(count(1))

    async with (
        scripted_server(first, second) as url,
        connect(url, token="secret") as connection,
        connection.open("t") as thread,
    ):
        await thread.wait(reaches(1))


async def test_a_server_that_is_not_there_is_an_error_at_once() -> None:
    with pytest.raises(ConnectionClosed, match=r"cannot connect to ws://127\.0\.0\.1:9/ws") as caught:
        async with connect("ws://127.0.0.1:9/ws"):
            pass
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.reconnect


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/ws", "nonsense", "ws://127.0.0.1:99999/ws", "ws://[::1/ws"]
)
async def test_what_is_no_websocket_url_is_an_error_at_once(url: str) -> None:
    with pytest.raises(ConnectionClosed, match="cannot connect") as caught:
        async with connect(url, retry_first=True):
            pass
    assert not caught.value.reconnect


async def test_retry_first_waits_for_the_server() -> None:
    async def first(peer: Peer) -> None:
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.greet()

    async with (
        scripted_server(first, second, greets=False) as url,
        connect(url, retry_first=True) as connection,
    ):
        assert connection.agents == ("a", "b")


async def test_a_server_that_never_says_welcome_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        pass

    async with scripted_server(script, greets=False) as url:
        with pytest.raises(ConnectionClosed, match="no welcome"):
            async with connect(url, open_timeout_s=1):
                pass


async def test_a_server_that_speaks_something_else_is_given_up() -> None:
    async def handle(socket: ServerConnection) -> None:
        await socket.wait_closed()

    with anyio.fail_after(60):
        async with serve(handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionClosed, match="does not speak the protocol") as caught:
                async with connect(f"ws://127.0.0.1:{port}", retry_first=True):
                    pass
    assert not caught.value.reconnect


async def test_another_version_of_the_protocol_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.say(Welcome(protocol=2, server="s", connection="c", agents=(), limits=Limits()))

    async with scripted_server(script, greets=False) as url:
        with pytest.raises(ConnectionClosed, match="version 2"):
            async with connect(url, retry_first=True):
                pass


async def test_an_http_refusal_is_given_up_and_a_server_error_is_tried_again() -> None:
    answers = [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.FORBIDDEN]

    def refuse(socket: ServerConnection, request: Request) -> Response:
        return socket.respond(answers.pop(0), "")

    async def handle(socket: ServerConnection) -> None:
        raise AssertionError

    with anyio.fail_after(60):
        async with serve(handle, "127.0.0.1", 0, process_request=refuse) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionClosed, match="403") as caught:
                async with connect(f"ws://127.0.0.1:{port}", retry_first=True):
                    pass
    assert not caught.value.reconnect
    assert answers == []


async def test_a_refused_open_is_raised_where_it_is_entered() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear(Open)
        await peer.say(Error(code="agent-mismatch", message="no", thread="t", field="agent"))
        await peer.hear(Close)
        await peer.hear(Open)
        await peer.say(snapshot(0, {"n": 0}), run(None))

    async with scripted_server(script) as url, connect(url) as connection:
        with pytest.raises(Refused, match="no") as caught:
            async with connection.open("t", agent="b"):
                pass
        assert (caught.value.code, caught.value.field) == ("agent-mismatch", "agent")
        async with connection.open("t", agent="a") as thread:
            assert thread.state == {"n": 0}


async def test_an_impossible_thread_id_is_refused_here() -> None:
    with pytest.raises(ValueError, match="a thread id is"):
        connect("ws://127.0.0.1:9").open("no spaces")


async def test_a_thread_opened_twice_is_sent_once_and_closed_with_the_last() -> None:
    closed = anyio.Event()

    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.say(count(1))
        await peer.hear(Close)
        closed.set()

    async with scripted_server(script) as url, connect(url) as connection:
        async with connection.open("t") as one:
            async with connection.open("t") as two:
                assert await two.wait(reaches(1)) is await one.wait(reaches(1))
            assert not closed.is_set()
            with pytest.raises(ConnectionClosed, match="the thread was closed here"):
                await two.wait(reaches(2))
            assert [state async for state in two.states()] == []
            assert one.state == {"n": 1}
        await closed.wait()


# resuming


async def test_a_cut_connection_is_resumed_without_a_gap_or_a_double() -> None:
    async def first(peer: Peer) -> None:
        await answer_open(peer, 1, {"n": 1, "text": "a"})
        await peer.say(update(2, AppendText(("text",), "b")))
        await peer.hear(Cancel)
        peer.cut()

    async def second(peer: Peer) -> None:
        assert (await peer.hear(Open)).since == {"epoch": 1, "seq": 2}
        await peer.say(
            update(2, AppendText(("text",), "b")),  # a double
            update(3, AppendText(("text",), "c")),
            run(None),
        )
        await peer.hear(Cancel)
        await peer.say(run(None))

    async with (
        scripted_server(first, second) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        await thread.wait(lambda state: state["text"] == "ab")
        await thread.cancel()
        assert await thread.wait(lambda state: len(state["text"]) >= 3) == {"n": 1, "text": "abc"}


async def test_a_gap_is_filled() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.say(count(1), count(3), count(4))
        assert (await peer.hear(Open)).since == {"epoch": 1, "seq": 1}
        await peer.say(count(2), count(3), count(4), run(None))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        await thread.wait(reaches(4))
        assert thread.position == Position(1, 4)


async def test_a_lost_tail_is_noticed_by_the_heartbeat() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.say(Heartbeat(heads={"t": (1, 1)}))
        assert (await peer.hear(Open)).since == {"epoch": 1, "seq": 0}
        await peer.say(count(1), run(None))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        await thread.wait(reaches(1))


async def test_a_wrong_hash_is_never_shown_and_healed_by_a_snapshot() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.say(update(1, Set(("n",), 100), hash=state_hash({"n": 1})))
        assert await peer.hear(Open) == Open(thread="t", hash=True)
        await peer.say(snapshot(1, {"n": 1}), run(None))

    async with (
        scripted_server(script) as url,
        connect(url) as connection,
        connection.open("t", hash=True) as thread,
    ):
        assert await thread.wait(reaches(1)) == {"n": 1}


async def test_an_unavailable_store_is_asked_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear(Open)
        await peer.say(Error(code="store-unavailable", message="", thread="t"))
        await answer_open(peer, 1)
        await peer.say(Error(code="store-unavailable", message="", thread="t"))
        assert (await peer.hear(Open)).since == {"epoch": 1, "seq": 1}
        await peer.say(count(2), run(None))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        await thread.wait(reaches(2))


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x01", b"\x83\xa4type\xa6update", "text", b""])
async def test_garbage_from_the_server_costs_the_connection_and_nothing_else(garbage: bytes | str) -> None:
    async def first(peer: Peer) -> None:
        await answer_open(peer)
        await peer.socket.send(garbage)
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 1002

    async def second(peer: Peer) -> None:
        assert (await peer.hear(Open)).since == {"epoch": 1, "seq": 0}
        await peer.say(count(1), run(None))

    async with (
        scripted_server(first, second) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        await thread.wait(reaches(1))


async def test_operations_that_are_none_cost_the_connection() -> None:
    async def first(peer: Peer) -> None:
        await answer_open(peer)
        await peer.say(Update(thread="t", epoch=1, seq=1, ops=5))

    async def second(peer: Peer) -> None:
        await answer_open(peer, 1)

    async with (
        scripted_server(first, second) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        await thread.wait(reaches(1))


async def test_a_silent_server_is_left_for_a_new_connection() -> None:
    async def first(peer: Peer) -> None:
        await answer_open(peer)

    async def second(peer: Peer) -> None:
        await answer_open(peer, 1)

    limits = Limits(heartbeat_s=0.5)
    async with (
        scripted_server(first, second, limits=limits) as url,
        connect(url, ping_interval_s=None) as connection,
        connection.open("t") as thread,
    ):
        await thread.wait(reaches(1))


async def test_a_message_on_a_slow_line_is_no_silence() -> None:
    # The message takes longer than silence may; each of its fragments comes in time.
    heartbeat_s = 0.5

    async def script(peer: Peer) -> None:
        await answer_open(peer)
        data = encode_frame(count(1), "msgpack")

        async def slowly() -> Any:
            for byte in data[:6]:
                yield bytes([byte])
                with anyio.move_on_after(heartbeat_s / 2):
                    await peer.socket.wait_closed()
            yield data[6:]

        await peer.socket.send(slowly())

    async with (
        scripted_server(script, limits=Limits(heartbeat_s=heartbeat_s)) as url,
        connect(url, ping_interval_s=None) as connection,
        connection.open("t") as thread,
    ):
        await thread.wait(reaches(1))


async def test_goodbye_is_followed_by_a_new_connection_at_once() -> None:
    async def first(peer: Peer) -> None:
        await answer_open(peer)
        await peer.say(Goodbye(reason="restart", reconnect=True), count(1))
        await peer.socket.wait_closed()

    async def second(peer: Peer) -> None:
        assert (await peer.hear(Open)).since == {"epoch": 1, "seq": 1}
        await peer.say(count(2), run(None))

    async with (
        scripted_server(first, second) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        await thread.wait(reaches(2))


async def test_a_restart_of_the_server_is_followed_by_a_new_connection() -> None:
    async def first(peer: Peer) -> None:
        await answer_open(peer)
        await peer.socket.close(1012)

    async def second(peer: Peer) -> None:
        await answer_open(peer, 1)

    async with (
        scripted_server(first, second) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        await thread.wait(reaches(1))


@pytest.mark.parametrize("goodbye", [True, False])
async def test_an_end_for_good_is_raised_for_everybody_who_waits(goodbye: bool) -> None:
    everybody_waits = anyio.Event()
    raised: list[str] = []

    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(SendCommand)
        await peer.say(command("1", "queued"))
        await peer.hear(SendCommand)
        await peer.hear(Cancel)
        await everybody_waits.wait()
        if goodbye:
            await peer.say(Goodbye(reason="who are you?", reconnect=False))
            await peer.socket.close(1001)
        else:
            await peer.socket.close(4401, "who are you?")

    async def wait(name: str, what: Callable[[], Any]) -> None:
        with pytest.raises(ConnectionClosed, match="who are you") as caught:
            await what()
        assert caught.value.code == (1001 if goodbye else 4401)
        assert not caught.value.reconnect
        raised.append(name)

    async def read(thread: Thread) -> None:
        async for _ in thread.states():
            pass

    async def take_calls(thread: Thread) -> None:
        async for _ in thread.tool_calls():
            pass

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        receipt = await thread.send(HELLO, id="1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, "applied", receipt.applied)
            tasks.start_soon(wait, "send", lambda: thread.send(HELLO, id="2"))
            tasks.start_soon(wait, "cancel", thread.cancel)
            tasks.start_soon(wait, "idle", thread.idle)
            tasks.start_soon(wait, "wait", lambda: thread.wait(reaches(1)))
            tasks.start_soon(wait, "states", lambda: read(thread))
            tasks.start_soon(wait, "tool_calls", lambda: take_calls(thread))
            await anyio.wait_all_tasks_blocked()
            everybody_waits.set()
        assert len(raised) == 7
        assert not connection.connected
        await wait("afterwards", lambda: thread.send(HELLO))
        await wait("open", connection.open("other").__aenter__)


async def test_a_thread_that_the_server_ends_raises_and_leaves_the_others() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(Open)
        await peer.say(Snapshot(thread="u", epoch=1, seq=0, state={"n": 0}, run=None))
        await peer.say(Error(code="not-found", message="deleted", thread="t"))
        await peer.say(Update(thread="u", epoch=1, seq=1, ops=[Set(("n",), 1)]))

    async with (
        scripted_server(script) as url,
        connect(url) as connection,
        connection.open("t") as thread,
        connection.open("u") as other,
    ):
        await other.wait(reaches(1))
        with pytest.raises(Refused, match="deleted"):
            await thread.wait(reaches(1))
        with pytest.raises(Refused, match="deleted"):
            await thread.send(HELLO)


# states


async def test_states_are_each_seen_once_by_a_reader_that_keeps_up() -> None:
    seen: list[int] = []
    next_please = anyio.Event()

    async def script(peer: Peer) -> None:
        nonlocal next_please
        await answer_open(peer)
        for seq in range(1, 6):
            await next_please.wait()
            next_please = anyio.Event()
            await peer.say(count(seq))
        await next_please.wait()
        await peer.say(update(6), Heartbeat(heads={}), count(7))  # the first of these changes nothing

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        async for state in thread.states():
            seen.append(state["n"])
            next_please.set()
            if state["n"] == 7:
                break
    assert seen == [0, 1, 2, 3, 4, 5, 7]


async def test_states_end_when_all_is_done_if_told_so() -> None:
    seen: list[int] = []

    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(SendCommand)
        await peer.say(command("1", "queued"), run("running"), count(1), command("1", "applied", seq=1))
        await peer.say(count(2), run("completed"))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        await thread.send(HELLO, id="1")
        async for state in thread.states(until_idle=True):
            seen.append(state["n"])
        assert seen[-1] == 2
        assert [state["n"] async for state in thread.states(until_idle=True)] == [2]


async def test_a_slow_reader_gets_the_newest_state_and_holds_up_nobody() -> None:
    seen = anyio.Event()

    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await seen.wait()
        for seq in range(1, 1001):
            await peer.say(count(seq))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        states = thread.states()
        assert await anext(states) == {"n": 0}
        seen.set()
        await thread.wait(reaches(1000))  # the reader does something else meanwhile
        assert await anext(states) == {"n": 1000}


async def test_runs_are_seen_as_they_change() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(Cancel)
        await peer.say(run("cancelled"))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        runs = thread.runs()
        assert await anext(runs) is None
        await thread.cancel()
        assert await anext(runs) == RunInfo(id="r", status="cancelled")


async def test_readers_end_when_the_thread_or_the_connection_is_closed_here() -> None:
    ended: list[str] = []

    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(Close)
        await answer_open(peer)

    async def read(name: str, thread: Thread) -> None:
        async for _ in thread.states():
            pass
        ended.append(name)

    async with scripted_server(script) as url, anyio.create_task_group() as tasks:
        async with connect(url) as connection:
            async with connection.open("t") as thread:
                tasks.start_soon(read, "thread", thread)
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            assert ended == ["thread"]
            left_open = connection.open("t")
            thread = await left_open.__aenter__()
            tasks.start_soon(read, "connection", thread)
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(ConnectionClosed, match="closed here"):
            await thread.wait(reaches(1))
        await left_open.__aexit__(None, None, None)
    assert ended == ["thread", "connection"]


# commands


async def test_send_returns_once_the_server_has_the_command_and_the_receipt_follows_it() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        frame = await peer.hear(SendCommand)
        assert frame.strategy == "interrupt"
        assert frame.agent == "a"
        message = {"parts": [{"type": "text", "text": "hello"}]}
        assert frame.command == {"type": "add-message", "message": message}
        await peer.say(command(frame.id, "queued"))
        await peer.hear(Cancel)
        await peer.say(run("running"), command(frame.id, "running"), count(1))
        await peer.say(command(frame.id, "applied", seq=1), run("completed"))

    async with (
        scripted_server(script) as url,
        connect(url) as connection,
        connection.open("t", agent="a") as thread,
    ):
        receipt = await thread.send(HELLO, strategy="interrupt")
        assert (receipt.status, receipt.duplicate, len(receipt.id)) == ("queued", False, 32)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(thread.cancel)  # tells the script to go on
            assert await thread.idle() == RunInfo(id="r", status="completed")
        assert await receipt.applied() == 1
        assert receipt.status == "applied"


async def test_a_command_cut_off_before_its_acknowledgement_is_sent_again_under_its_id() -> None:
    ids: list[str] = []

    async def first(peer: Peer) -> None:
        await answer_open(peer)
        ids.append((await peer.hear(SendCommand)).id)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.hear(Open)
        await peer.say(run(None))
        ids.append((await peer.hear(SendCommand)).id)
        await peer.say(command(ids[0], "applied", duplicate=True, seq=1), count(1))

    async with (
        scripted_server(first, second) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        receipt = await thread.send(HELLO)
        assert not receipt.duplicate
        assert await receipt.applied() == 1
    assert ids == [receipt.id] * 2


async def test_a_command_sent_while_disconnected_waits_and_is_sent_as_it_was_then() -> None:
    body: dict[str, Any] = {"type": "note", "items": [1]}
    receipts: list[Receipt] = []

    async def first(peer: Peer) -> None:
        await answer_open(peer)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.hear(Open)
        frame = await peer.hear(SendCommand)
        assert frame.command == {"type": "note", "items": [1]}
        await peer.say(command(frame.id, "queued"))

    async def send(thread: Thread) -> None:
        receipts.append(await thread.send(body, id="note-1"))

    async with (
        scripted_server(first, second) as url,
        connect(url, backoff=Backoff(initial_s=0.05)) as connection,
        connection.open("t") as thread,
    ):
        await lost(connection)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, thread)
            await anyio.lowlevel.checkpoint()
            body["items"].append(2)
    assert [receipt.id for receipt in receipts] == ["note-1"]


async def test_a_rejected_command_raises_where_it_was_sent() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        frame = await peer.hear(SendCommand)
        error = ErrorInfo("invalid-command", "no such field", "command.x")
        await peer.say(command(frame.id, "rejected", error=error))
        frame = await peer.hear(SendCommand)
        await peer.say(Error(code="command-id-reused", message="used", thread="t", id=frame.id))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        with pytest.raises(CommandError) as caught:
            await thread.send({"type": "note", "x": 1})
        assert (caught.value.code, caught.value.field) == ("invalid-command", "command.x")
        with pytest.raises(CommandError) as caught:
            await thread.send(HELLO)
        assert caught.value.code == "command-id-reused"


async def test_a_command_rejected_or_cancelled_after_it_was_queued_raises_at_its_receipt() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(SendCommand)
        error = ErrorInfo("gave-up", "three times")
        await peer.say(command("1", "queued"), command("1", "rejected", error=error))
        await peer.hear(SendCommand)
        await peer.say(command("2", "queued"))
        await peer.say(command("2", "cancelled"))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        receipt = await thread.send(HELLO, id="1")
        with pytest.raises(CommandError, match="three times"):
            await receipt.applied()
        receipt = await thread.send(HELLO, id="2")
        with pytest.raises(CommandError) as caught:
            await receipt.applied()
        assert caught.value.code == "cancelled"


async def test_applied_and_idle_wait_for_a_state_that_comes_after_the_news() -> None:
    news = anyio.Event()

    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(SendCommand)
        await peer.say(command("1", "applied", seq=2), run("completed"), count(1))
        await news.wait()
        await peer.say(count(2))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        receipt = await thread.send(HELLO, id="1")
        seen: list[int] = []

        async def look(wait: Callable[[], Any]) -> None:
            await wait()
            seen.append(thread.state["n"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look, receipt.applied)
            tasks.start_soon(look, thread.idle)
            await anyio.wait_all_tasks_blocked()
            news.set()
        assert seen == [2, 2]


async def test_applied_returns_for_a_thread_that_was_closed_meanwhile() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(SendCommand)
        await peer.say(command("1", "queued"))
        await peer.hear(Close)
        await peer.say(command("1", "applied", seq=2))

    async with scripted_server(script) as url, connect(url) as connection:
        async with connection.open("t") as thread:
            receipt = await thread.send(HELLO, id="1")
        assert await receipt.applied() == 2


async def test_a_duplicate_of_an_earlier_client_is_told() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(SendCommand)
        await peer.say(command("1", "applied", duplicate=True, seq=9), snapshot(9, {"n": 9}))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        receipt = await thread.send(HELLO, id="1")
        assert receipt.duplicate
        assert await receipt.applied() == 9


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"type": "note", "n": float("nan")}, "not-finite", "command.n"),
        ({"type": "note", "n": [2**53]}, "integer-range", "command.n.0"),
        ({"type": "note", "n": {1, 2}}, "unsupported-type", "command.n"),
        (AddMessage.text("\ud800"), "invalid-unicode", "command.message.parts.0.text"),
        ({"type": "note", "n": "x" * 2000}, "too-large", None),
    ],
)
async def test_a_command_that_no_server_would_take_is_refused_here(
    body: Any, code: str, field: str | None
) -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)

    async with (
        scripted_server(script, limits=Limits(max_frame_bytes=1000)) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        with pytest.raises(CommandError) as caught:
            await thread.send(body)
        assert (caught.value.code, caught.value.field) == (code, field)


async def test_an_impossible_command_id_is_refused_here() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        with pytest.raises(CommandError) as caught:
            await thread.send(HELLO, id="no spaces")
        assert (caught.value.code, caught.value.field) == ("invalid-frame", "id")


async def test_a_cancelled_send_leaves_nothing_behind() -> None:
    heard = anyio.Event()
    given_up = anyio.Event()

    async def first(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(SendCommand)
        heard.set()
        await given_up.wait()
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.hear(Open)
        frame = await peer.hear(SendCommand)
        assert frame.id == "2"
        await peer.say(command("2", "queued"))

    async with (
        scripted_server(first, second) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(thread.send, HELLO)
            await heard.wait()
            tasks.cancel_scope.cancel()
        given_up.set()
        await lost(connection)
        assert (await thread.send(HELLO, id="2")).status == "queued"


async def test_a_cancelled_cancel_is_not_sent_again() -> None:
    heard = anyio.Event()
    given_up = anyio.Event()

    async def first(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(Cancel)
        heard.set()
        await given_up.wait()
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.hear(Open)
        await peer.hear(SendCommand)
        await peer.say(command("1", "queued"))

    async with (
        scripted_server(first, second) as url,
        connect(url) as connection,
        connection.open("t") as thread,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(thread.cancel)
            await heard.wait()
            tasks.cancel_scope.cancel()
        given_up.set()
        await lost(connection)
        await thread.send(HELLO, id="1")


async def test_two_senders_of_one_id_share_the_command() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.hear(SendCommand)
        await peer.hear(Cancel)
        await peer.say(command("1", "queued"), run(None))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        statuses: list[str] = []

        async def send() -> None:
            statuses.append((await thread.send(HELLO, id="1")).status)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(thread.cancel)
        assert statuses == ["queued", "queued"]


async def test_a_refused_cancel_raises() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        assert (await peer.hear(Cancel)).run == "r9"
        await peer.say(Error(code="not-found", message="no such run", thread="t", field="run"))
        await peer.say(count(1))

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t") as thread:
        with pytest.raises(Refused, match="no such run"):
            await thread.cancel("r9")
        await thread.wait(reaches(1))


async def test_each_tool_call_goes_to_one_reader() -> None:
    async def script(peer: Peer) -> None:
        frame = await answer_open(peer)
        assert frame.tools == ("search",)
        for id in ("1", "2"):
            await peer.say(Tool(thread="t", tool_call_id=id, name="search", args={"q": id}))

    taken: list[ToolCall] = []

    async def take(thread: Thread) -> None:
        async for call in thread.tool_calls():
            taken.append(call)
            return

    async with (
        scripted_server(script) as url,
        connect(url) as connection,
        connection.open("t", tools=["search"]) as thread,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(take, thread)
        tasks.start_soon(take, thread)
    assert sorted(call.args["q"] for call in taken) == ["1", "2"]


# ends


@pytest.mark.parametrize("error", [ValueError("mine"), CommandError("note", "mine")])
async def test_an_error_in_the_block_comes_out_as_it_is(error: Exception) -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)

    async with scripted_server(script) as url:
        with pytest.raises(type(error), match="mine"):
            async with connect(url) as connection, connection.open("t"):
                raise error


async def test_a_cancelled_block_ends_and_the_cancellation_goes_on() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 1000

    async def follow(url: str, follows: Callable[[], None]) -> None:
        async with connect(url) as connection, connection.open("t") as thread:
            follows()
            await thread.wait(reaches(1))

    async with scripted_server(script) as url:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                await follow(url, lambda: timeout.reschedule(asyncio.get_running_loop().time()))

    async with scripted_server(script) as url:
        with anyio.CancelScope() as scope:
            await follow(url, scope.cancel)
        assert scope.cancelled_caught


async def test_a_fault_of_the_client_itself_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = anyio.Event()

    async def script(peer: Peer) -> None:
        await answer_open(peer)
        await opened.wait()
        await peer.say(count(1))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async def follow(url: str) -> None:
        async with connect(url) as connection, connection.open("t") as thread:
            monkeypatch.setattr("threadwire.core.replica.apply", fail)
            opened.set()
            await thread.wait(reaches(1))

    async with scripted_server(script) as url:
        with pytest.raises(ExceptionGroup) as caught:
            await follow(url)
    assert caught.group_contains(ZeroDivisionError)


async def test_leaving_while_the_server_is_away_is_prompt() -> None:
    async def script(peer: Peer) -> None:
        peer.cut()

    async with (
        scripted_server(script) as url,
        connect(url, backoff=Backoff(initial_s=3600, cap_s=3600)) as connection,
    ):
        await lost(connection)


async def test_leaving_while_the_server_does_not_answer_is_prompt() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with anyio.fail_after(60), anyio.move_on_after(0.05) as scope:
            async with connect(f"ws://127.0.0.1:{port}", open_timeout_s=3600):
                pass
    assert scope.cancelled_caught


async def test_leaving_does_not_wait_for_a_server_that_is_busy_sending() -> None:
    async def script(peer: Peer) -> None:
        await answer_open(peer)
        for seq in range(1, 100_000):
            try:
                await peer.say(update(seq, Set(("n",), seq), Set(("text",), "x" * 10_000)))
            except SocketClosed:
                return

    async with scripted_server(script) as url:
        async with connect(url) as connection, connection.open("t") as thread:
            await thread.wait(reaches(10))
            leaving_at = anyio.current_time()
        assert anyio.current_time() - leaving_at < 5


async def test_no_task_is_left_when_a_connection_is_closed() -> None:
    before = asyncio.all_tasks()

    async def script(peer: Peer) -> None:
        await answer_open(peer)

    async with scripted_server(script) as url, connect(url) as connection, connection.open("t"):
        pass
    gc.collect()
    assert asyncio.all_tasks() == before
