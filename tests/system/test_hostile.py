"""Hostile input over a real connection: a typed error, and everything else goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.server import Client, Server, running
from threadwire.core.frames import CommandState, Error, Pong

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("hostile")) as server:
        yield server
        assert "Traceback" not in server.log(), server.log()


def command(body: str, id: str = '"c"', thread: str = '"t"') -> str:
    return f'{{"type":"command","thread":{thread},"id":{id},"command":{body}}}'


def title(value: str) -> str:
    return command(f'{{"type":"set-title","title":{value}}}')


REJECTED = {
    "NaN": (title("NaN"), "not-finite", "command.title"),
    "Infinity": (title("-Infinity"), "not-finite", "command.title"),
    "1e400": (title("1e400"), "not-finite", "command.title"),
    "lone surrogate": (title('"\\ud800"'), "invalid-unicode", "command.title"),
    "duplicate key": (
        command('{"type":"set-title","title":"a","title":"b"}'),
        "duplicate-key",
        "command.title",
    ),
    "2^53": (title("9007199254740993"), "integer-range", "command.title"),
    "5,000 digits": (title("9" * 5000), "integer-range", "command.title"),
    "__proto__": (command('{"type":"set-title","__proto__":{}}'), "forbidden-key", "command.__proto__"),
    "constructor": (title('{"constructor":1}'), "forbidden-key", "command.title.constructor"),
    "unknown type": (command('{"type":"nope"}'), "unknown-command", "command.type"),
    "wrong type": (title("[]"), "invalid-command", "command.title"),
    "missing field": (command('{"type":"set-title"}'), "invalid-command", "command.title"),
    "no object": (command("3"), "invalid-command", "command"),
    "no command": ('{"type":"command","thread":"t","id":"c"}', "invalid-frame", "command"),
    "wrong role": (
        command('{"type":"add-message","message":{"role":"assistant","parts":[]}}'),
        "invalid-command",
        "command.message.role",
    ),
    "unknown part": (
        command('{"type":"add-message","message":{"role":"user","parts":[{"type":"x"}]}}'),
        "invalid-command",
        "command.message.parts.0.type",
    ),
    "unknown strategy": (
        '{"type":"command","thread":"t","id":"c","strategy":"x","command":{"type":"set-title","title":"x"}}',
        "invalid-frame",
        "strategy",
    ),
    "deep": (title("[" * 300 + "]" * 300), "too-deep", None),
}

ERRORS = {
    "depth 2,000": (title("[" * 2000 + "]" * 2000), "too-deep"),
    "depth 100,000": (title("[" * 100_000 + "]" * 100_000), "too-deep"),
    "unknown frame": ('{"type":"nope"}', "unknown-frame"),
    "no type": ("{}", "invalid-frame"),
    "bad thread id": ('{"type":"open","thread":"a/b"}', "invalid-frame"),
    "long thread id": (json.dumps({"type": "open", "thread": "x" * 129}), "invalid-frame"),
    "empty thread id": ('{"type":"open","thread":""}', "invalid-frame"),
    "bad command id": (command('{"type":"set-title","title":"x"}', id='""'), "invalid-frame"),
    "unknown agent": ('{"type":"open","thread":"new","agent":"nope"}', "not-found"),
    "seed not allowed": ('{"type":"open","thread":"new2","state":{}}', "seeding-disabled"),
    "cancel of no thread": ('{"type":"cancel","thread":"nowhere"}', "not-found"),
    "20,000 frames": ("[" + ",".join(['{"type":"ping"}'] * 20_000) + "]", "too-many-frames"),
}


async def lives_on(client: Client) -> None:
    """The connection answers, and the thread takes a command."""
    await client.send({"type": "ping", "nonce": "still here"})
    await client.until(lambda: any(isinstance(f, Pong) and f.nonce == "still here" for f in client.frames))
    client.frames.clear()


async def raw(client: Client, message: str) -> None:
    """Sends the JSON text in the client's encoding, hostile parts included where MessagePack has them."""
    await client.socket.send(message)


@pytest.mark.parametrize("name", REJECTED)
async def test_a_refused_command_is_rejected_by_its_id_and_the_connection_lives(
    server: Server, name: str
) -> None:
    message, code, field = REJECTED[name]
    async with server.client() as client:
        await client.open("t", agent="scripted")
        await raw(client, message)
        await client.until(lambda: "c" in client.commands)
        state = client.commands["c"]
        assert state.status == "rejected"
        assert state.error is not None
        assert state.error.code == code
        if field is not None:
            assert state.error.field == field
        assert len(state.error.message) < 400
        await lives_on(client)


@pytest.mark.parametrize("name", ERRORS)
async def test_a_refused_frame_is_answered_by_an_error_and_the_connection_lives(
    server: Server, name: str
) -> None:
    message, code = ERRORS[name]
    async with server.client() as client:
        await raw(client, message)
        await client.until(lambda: any(isinstance(f, Error | CommandState) for f in client.frames))
        answer = next(f for f in client.frames if isinstance(f, Error | CommandState))
        error = answer if isinstance(answer, Error) else answer.error
        assert error is not None
        assert error.code == code
        await lives_on(client)


@pytest.mark.parametrize(
    ("message", "close_code", "code"),
    [
        ("{", 4400, "malformed"),
        ("", 4400, "malformed"),
        ("nonsense", 4400, "malformed"),
        ("3", 4400, "malformed"),
        (b"\x80", 4400, "wrong-encoding"),
        (title('"' + "x" * 2_000_000 + '"'), 1009, "too-large"),
    ],
)
async def test_what_cannot_be_read_closes_the_connection_with_a_typed_error(
    server: Server, message: Any, close_code: int, code: str
) -> None:
    async with server.client() as client, server.client() as other:
        await other.open("t", agent="scripted")
        await client.socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await client.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == close_code
        assert [error.code for error in client.errors] == [code]
        await lives_on(other)


async def test_a_message_of_5_mb_and_one_of_50_mb_close_with_1009(server: Server) -> None:
    for size in (5_000_000, 50_000_000):
        async with server.client() as client:
            with pytest.raises(ConnectionClosed) as closed:
                await client.socket.send("x" * size)
                while True:
                    await client.receive()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"\xc4\x01x", "unsupported-type"),
        (b"\xd6\xff\x00\x00\x00\x00", "unsupported-type"),
        (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "not-finite"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "integer-range"),
        (b"\xa2\xed\xa0", "invalid-unicode"),
        (b"\x81\x01\x02", "invalid-key"),
        (b"\x82\xa1a\x01\xa1a\x02", "duplicate-key"),
        (b"\x81\xa9__proto__\x01", "forbidden-key"),
    ],
)
async def test_hostile_messagepack_is_rejected_by_its_id(server: Server, value: bytes, code: str) -> None:
    frame = {
        "type": "command",
        "thread": "t",
        "id": "c",
        "command": {"type": "set-title", "title": msgspec.Raw(value)},
    }
    async with server.client("msgpack") as client:
        await client.open("t", agent="scripted")
        await client.socket.send(msgspec.msgpack.encode(frame))
        await client.until(lambda: "c" in client.commands)
        error = client.commands["c"].error
        assert error is not None
        assert error.code == code
        await lives_on(client)


async def test_one_bad_frame_of_an_array_leaves_its_neighbours(server: Server) -> None:
    async with server.client() as client:
        good = command('{"type":"set-title","title":"x"}', id='"good"', thread='"n"')
        bad = command('{"type":"set-title","title":NaN}', id='"bad"', thread='"n"')
        await raw(client, f'[{{"type":"open","thread":"n","agent":"scripted"}},{bad},{good}]')
        await client.until(
            lambda: client.commands.get("good") is not None and client.commands["good"].status == "applied"
        )
        assert client.commands["bad"].status == "rejected"


async def test_a_foreign_origin_is_refused_and_the_own_one_is_not(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(server.ws, additional_headers={"Origin": "https://evil.example"}):
            pass
    assert refused.value.response.status_code == 403
    async with connect(server.ws, additional_headers={"Origin": server.url}) as socket:
        assert json.loads(await socket.recv())["type"] == "welcome"


async def test_unknown_subprotocols_only_are_refused_with_400(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(server.ws, subprotocols=["graphql-ws"]):  # type: ignore[list-item]
            pass
    assert refused.value.response.status_code == 400


async def test_a_highly_compressed_message_is_bounded(server: Server) -> None:
    async with connect(server.ws, compression="deflate", max_size=None) as socket:
        await socket.recv()
        with pytest.raises(ConnectionClosed):
            await socket.send("[" + " " * 100_000_000 + "]")
            while True:
                await socket.recv()
