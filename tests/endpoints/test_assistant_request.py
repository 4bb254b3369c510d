"""Reading stock clients' requests: the state stays bytes, all else is checked, none holds up others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import threadwire
from tests.support.stock_client import Exchange, body, message, post
from tests.support.strategies import values
from tests.support.virtual_time import in_virtual_time
from threadwire.core.errors import Refused
from threadwire.core.frames import Limits
from threadwire.endpoints.app import create_app
from threadwire.endpoints.assistant_request import AssistantRequest, Query, RequestReader
from threadwire.engine.settings import Settings
from threadwire.stores.memory import MemoryStore


@threadwire.agent
async def echo(run: threadwire.Run) -> None:
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        run.state.setdefault("messages", []).append(command.message.text)


def parse(data: bytes | str, **limits: Any) -> AssistantRequest:
    reader = RequestReader(Limits(**limits))
    return reader._parse(Query(), data.encode() if isinstance(data, str) else data, None)


@given(
    values,
    st.dictionaries(st.text(min_size=1, max_size=5).filter(str.isalnum), values, max_size=3),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
)
def test_members_are_told_apart_however_the_body_is_written(
    state: Any, others: dict[str, Any], indent: int | None, ascii: bool
) -> None:
    own = {"commands": [message("x")], "state": state, "threadId": "t", "parentId": None}
    request = parse(json.dumps({**others, **own}, indent=indent, ensure_ascii=ascii))
    assert request.thread_id == "t"
    assert request._state is not None
    assert json.loads(request._state) == state
    assert request.context == {name: value for name, value in others.items() if name not in own}
    (command,) = request.commands(echo, Limits(), lambda: "new")
    assert command.id == "new"
    assert command.body == message("x")


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_large_state_is_neither_decoded_nor_counted_with_the_rest(separators: tuple[str, str]) -> None:
    # No checked reader takes these: a key twice, an integer that no double holds, depth 500.
    odd = '{"a":1,"a":9007199254740993,"deep":' + "[" * 500 + "]" * 500 + ',"text":"' + "x" * 300_000 + '"}'
    rest = json.dumps({"commands": [], "threadId": "t"}, separators=separators)
    request = parse(f'{rest[:-1]}{separators[0]}"state"{separators[1]}{odd}}}', max_frame_bytes=1000)
    assert request.thread_id == "t"
    assert request._state == odd.encode()


def test_state_that_stands_in_the_context_too_is_no_place_to_hide() -> None:
    state = json.dumps({"text": "x" * 100_000})
    with pytest.raises(Refused) as refused:
        parse(f'{{"commands":[],"copy":{state},"state":{state}}}', max_frame_bytes=50_000)
    assert (refused.value.code, refused.value.field) == ("too-large", "body.copy")
    request = parse(f'{{"commands":[],"copy":{state},"state":{state}}}')
    assert request.context == {"copy": json.loads(state)}
    with pytest.raises(Refused) as refused:
        parse(f'{{"commands":[],"state":{state},"state":{state}}}')
    assert refused.value.field == "body.state"


def test_commands_that_each_keep_a_large_context_are_refused() -> None:
    content = {"commands": [message("x")] * 100, "system": "x" * 500_000}
    request = parse(json.dumps(content))
    with pytest.raises(Refused) as refused:
        request.commands(echo, Limits(), lambda: "new")
    assert (refused.value.code, refused.value.field) == ("too-large", "body")


@in_virtual_time
async def test_large_bodies_that_do_not_come_hold_up_no_small_ones() -> None:
    limits = Limits(max_frame_bytes=10_000)
    app = create_app(agents={"echo": echo}, store=MemoryStore(), settings=Settings(limits=limits))
    async with app.running():
        large = {**body("x"), "state": {"text": "x" * 50_000}}
        async with asyncio.TaskGroup() as group:
            stalled = [group.create_task(_stall(app, large)) for _ in range(16)]
            await asyncio.sleep(1)
            async with post(app, "/assistant", body("small")) as small:
                await small.end()
            assert small.state["messages"] == ["small"]
            began = asyncio.get_running_loop().time()
            async with post(app, "/assistant", large) as waiting:
                await waiting.until(lambda: waiting.complete, 100)
            assert asyncio.get_running_loop().time() - began > 30, "it had to wait for a place"
        for each in stalled:
            assert each.result().status == 400
            assert each.result().json["error"]["field"] == "body"
        async with post(app, "/assistant", large) as later:
            await later.end()
        assert later.state["messages"] == ["x"]


@in_virtual_time
async def test_bodies_that_do_not_come_hold_up_no_large_ones_whatever_they_say_of_their_length() -> None:
    limits = Limits(max_frame_bytes=10_000)
    app = create_app(agents={"echo": echo}, store=MemoryStore(), settings=Settings(limits=limits))
    async with app.running():
        async with asyncio.TaskGroup() as group:
            lengths = ("", "50000")
            stalled = [
                group.create_task(_stall(app, body("x"), {"content-length": length}))
                for length in lengths
                for _ in range(16)
            ]
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            large = {**body("large"), "state": {"text": "x" * 50_000}}
            async with post(app, "/assistant", large) as exchange:
                await exchange.end()
            assert exchange.state["messages"] == ["large"]
            assert asyncio.get_running_loop().time() - began < 1
        assert {each.result().status for each in stalled} == {400}


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/assistant", "/chat"])
async def test_body_larger_than_any_is_refused_whatever_it_says_of_its_length(path: str) -> None:
    limits = Limits(max_state_bytes=1024)
    app = create_app(agents={"echo": echo}, store=MemoryStore(), settings=Settings(limits=limits))
    async with app.running():
        large = {**body("x"), "more": "x" * 1_100_000}
        async with post(app, path, large, headers={"content-length": ""}) as exchange:
            await exchange.until(lambda: exchange.complete)
        assert exchange.status == 413
        assert exchange.json["error"]["message"] == "the body is larger than 1049600 bytes"


async def _stall(app: Any, content: Any, headers: dict[str, str] | None = None) -> Exchange:
    """Sends the first half of a body, and no more."""
    async with post(app, "/assistant", content, stalled=True, headers=headers) as exchange:
        await exchange.until(lambda: exchange.complete, 200)
        return exchange
