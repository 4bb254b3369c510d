"""The two encodings of a stream: what was cut off does not look whole."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

import threadwire
from tests.support.stock_client import PROTOCOLS, Broken, StreamReader, body, post
from threadwire.core.errors import ErrorInfo
from threadwire.core.operations import AppendText, Set
from threadwire.endpoints.app import create_app
from threadwire.endpoints.assistant_stream import ENCODERS
from threadwire.engine.settings import Settings
from threadwire_agents.demos.scripted import scripted

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("protocol", PROTOCOLS)
TEXT = 'a "quoted"\nline\r\n\u2028 🎈 \\ \x00 data: [DONE]\n\n3:"x"\n'


def whole(protocol: str, *, error: str | None = None) -> bytes:
    """A stream of all kinds of parts."""
    encoder = ENCODERS[protocol]
    parts = [
        encoder.begin,
        encoder.state(json.dumps({"text": "", "list": [1]}).encode()),
        encoder.heartbeat,
        encoder.operations([AppendText(("text",), TEXT), Set(("list", "1"), {"a": None})]),
        encoder.heartbeat,
        encoder.heartbeat,
        encoder.operations([Set(("list", "0"), TEXT)]),
    ]
    if error is not None:
        parts.append(encoder.error(ErrorInfo("x", error)))
    return b"".join([*parts, encoder.end])


def read(protocol: str, data: bytes, piece: int) -> StreamReader:
    reader = StreamReader(protocol)
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
    return reader


@both
def test_parts_arrive_in_pieces_of_any_size(protocol: str) -> None:
    for piece in (1, 2, 7, 10_000):
        reader = read(protocol, whole(protocol), piece)
        reader.end()
        assert reader.state == {"text": TEXT, "list": [TEXT, {"a": None}]}
        assert reader.errors == []
        assert reader.heartbeats >= 3


@both
def test_error_comes_last_with_its_text(protocol: str) -> None:
    reader = read(protocol, whole(protocol, error=TEXT), 3)
    reader.end()
    assert reader.errors == [TEXT]


@both
def test_stream_that_is_cut_anywhere_but_behind_a_line_is_broken(protocol: str) -> None:
    for data in (whole(protocol), whole(protocol, error="no")):
        for cut in range(1, len(data)):
            if protocol == "data-stream" and data[cut - 1 : cut] == b"\n":
                continue  # nobody can tell; the server sends nothing that ends here
            reader = read(protocol, data[:cut], len(data))
            with pytest.raises(Broken):
                reader.end()


@both
async def test_stream_that_is_cut_between_any_two_sends_is_broken(protocol: str) -> None:
    @threadwire.agent
    async def words(run: threadwire.Run) -> None:
        run.state["text"] = ""
        for _ in run.commands:
            for number in range(5):
                run.append_text(("text",), f"{number} ")
                await run.flush()

    app = create_app(agents={"words": words}, store="memory:", settings=Settings())
    async with app.running(), post(app, "/assistant", body("x"), protocol=protocol) as exchange:
        await exchange.end()
    assert len(exchange.pieces) > 3
    reader = StreamReader(protocol)
    for piece in exchange.pieces[:-1]:
        reader.feed(piece)
        with pytest.raises(Broken):
            reader.end()
    reader.feed(exchange.pieces[-1])
    reader.end()


@both
async def test_client_that_is_gone_when_something_is_sent_is_no_fault(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(agents={"scripted": scripted}, store="memory:", settings=Settings())
    async with app.running(), post(app, "/assistant", body("hang on"), protocol=protocol) as exchange:
        send = exchange._send

        async def fails(event: Any) -> None:
            if exchange.pieces:
                raise OSError("the client is gone")
            await send(event)

        exchange._send = fails  # type: ignore[method-assign]
        with anyio.fail_after(60):
            while not exchange.finished:
                exchange._news.clear()
                await exchange._news.wait()
        assert not len(app.threads.feeds)
        assert not exchange.complete
    assert not caplog.records
