"""Which thread a stock client's request is about, what it begins with, and what a repetition does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import threadwire
from tests.support.asgi import connected
from tests.support.engine import follow
from tests.support.http import client_of, error_of
from tests.support.stock_client import Exchange, body, message, post
from tests.support.virtual_time import in_virtual_time
from threadwire.core.errors import Refused
from threadwire.core.frames import CommandState, Error, Snapshot
from threadwire.endpoints.app import Application, create_app
from threadwire.engine.settings import Settings
from threadwire.engine.store import ThreadRecord
from threadwire.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


@threadwire.agent
async def echo(run: threadwire.Run) -> None:
    """Adds each message; `hang` and `fail` do that."""
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        run.state.setdefault("messages", []).append(command.message.text)
        if command.message.text == "hang":
            await asyncio.sleep(1000)
        if command.message.text == "fail":
            raise threadwire.AgentError("it failed")


@threadwire.agent(name="other")
async def other(run: threadwire.Run) -> None:
    run.state["other"] = len(run.commands)


@asynccontextmanager
async def serving(*agents: Any, store: Any = None, **settings: Any) -> AsyncIterator[Application]:
    served = {agent.name: agent for agent in agents or (echo, other)}
    app = create_app(agents=served, store=store or MemoryStore(), settings=Settings(**settings))
    async with app.running():
        yield app


async def ask(app: Application, content: Any, path: str = "/assistant", **options: Any) -> Exchange:
    async with post(app, path, content, **options) as exchange:
        await exchange.end()
        return exchange


def thread(exchange: Exchange) -> str:
    return exchange.headers["threadwire-thread"]


async def listed(app: Application) -> list[str]:
    async with client_of(app) as http:
        return [each["id"] for each in (await http.get("/threads")).json()["threads"]]


async def state_of(app: Application, id: str) -> Any:
    async with client_of(app) as http:
        return (await http.get(f"/threads/{id}/state")).json()["state"]


async def refused(
    app: Application, content: Any, status: int, path: str = "/assistant", **options: Any
) -> Any:
    async with post(app, path, content, **options) as exchange:
        await exchange.until(lambda: exchange.complete)
    assert exchange.status == status, exchange.raw
    return exchange.json["error"]


# identity


@pytest.mark.spec("14.11")
async def test_conversation_without_an_id_goes_on_by_the_token_in_its_state() -> None:
    async with serving() as app:
        first = await ask(app, body("one"))
        token = first.state["threadwire"]["thread"]
        assert token == thread(first)
        assert len(token) == 22
        again = await ask(app, body("two", state=first.state))
        assert again.state == {"messages": ["one", "two"], "threadwire": {"thread": token}}
        assert await listed(app) == []
        stranger = await ask(app, body("three"))
        assert thread(stranger) != token
        assert stranger.state["messages"] == ["three"]


async def test_id_that_comes_with_the_token_names_the_same_thread_from_then_on() -> None:
    async with serving() as app:
        first = await ask(app, body("one"))
        second = await ask(app, body("two", threadId="__LOCALID_x1", state=first.state))
        third = await ask(app, body("three", threadId="__LOCALID_x1", state={"anything": "else"}))
        assert thread(first) == thread(second) == thread(third)
        assert third.state["messages"] == ["one", "two", "three"]
        assert await listed(app) == [], "an id that goes with the page keeps nothing"
        async with client_of(app) as http:
            record = (await http.get("/threads/__LOCALID_x1")).json()
            assert record["id"] == thread(first)
            assert (await http.post("/initial-state", json={"threadId": "__LOCALID_x1"})).status_code == 204


async def test_thread_that_gets_a_lasting_name_is_listed_and_found_by_both_on_every_route() -> None:
    async with serving() as app, client_of(app) as http:
        first = await ask(app, body("one"))
        token = thread(first)
        made = await http.post("/threads", json={"id": "mine", "title": "Lunch", "custom": {"a": 1}})
        assert made.status_code == 201
        second = await ask(app, body("two", threadId="mine", state=first.state))
        assert second.state["messages"] == ["one", "two"]
        assert await listed(app) == [token]
        for name in ("mine", token):
            assert (await http.get(f"/threads/{name}")).json()["title"] == "Lunch"
            assert (await http.get(f"/threads/{name}/state")).json()["state"] == second.state
            assert (await http.get(f"/threads/{name}/history")).json()["thread"] == token
            assert (await http.post(f"/threads/{name}/archive")).json()["archived"] is True
            assert (await http.post(f"/threads/{name}/unarchive")).json()["archived"] is False
            assert (await http.patch(f"/threads/{name}", json={"custom": {}})).json()["id"] == token
        assert error_of(await http.post("/threads", json={"id": "mine"}), 409)["code"] == "conflict"
        assert (await http.delete("/threads/mine")).status_code == 204
        assert (await http.get(f"/threads/{token}")).status_code == 404
        assert (await http.post("/threads", json={"id": "mine"})).status_code == 201


async def test_thread_made_beforehand_and_open_elsewhere_gives_its_place() -> None:
    async with serving() as app:
        empty = await app.threads.get("mine")
        reader = await follow(empty)
        first = await ask(app, body("one"))
        second = await ask(app, body("two", threadId="mine", state=first.state))
        assert second.state["messages"] == ["one", "two"]
        assert reader.lost_subscribers
        with pytest.raises(Refused) as conflict:
            await app.threads.get("mine")
        assert (conflict.value.code, conflict.value.field) == ("conflict", "thread")
        assert thread(first) in conflict.value.message
        found = await app.threads.find("mine")
        assert found is not None
        assert found.id == thread(first)


@pytest.mark.spec("9.5")
async def test_websocket_clients_are_told_the_id_behind_another_name() -> None:
    async with serving() as app:
        first = await ask(app, body("one"))
        await ask(app, body("two", threadId="mine", state=first.state))
        async with connected(app) as socket:
            command = {"type": "command", "thread": "mine", "id": "c", "command": message("no")}
            socket.say({"type": "open", "thread": "mine"}, command)
            error = await socket.until(Error, code="conflict")
            assert (error.thread, error.field) == ("mine", "thread")
            assert thread(first) in error.message
            refusal = await socket.until(CommandState, id="c")
            assert refusal.error is not None
            assert (refusal.status, refusal.error.code) == ("rejected", "conflict")
            socket.say({"type": "open", "thread": thread(first)})
            assert (await socket.until(Snapshot)).state["messages"] == ["one", "two"]


async def test_thread_made_beforehand_gives_its_place_after_a_restart_too() -> None:
    store = MemoryStore()
    async with serving(store=store) as app, client_of(app) as http:
        await http.post("/threads", json={"id": "mine", "title": "Lunch"})
        first = await ask(app, body("one"))
    async with serving(store=store) as app:
        assert await state_of(app, "mine") == {}
        second = await ask(app, body("two", threadId="mine", state=first.state))
        assert second.state["messages"] == ["one", "two"]
        assert await listed(app) == [thread(first)]


async def test_names_and_tokens_outlive_a_restart() -> None:
    store = MemoryStore()
    async with serving(store=store) as app:
        first = await ask(app, body("one"))
        await ask(app, body("two", threadId="mine", state=first.state))
    async with serving(store=store) as app:
        third = await ask(app, body("three", threadId="mine"))
        assert third.state["messages"] == ["one", "two", "three"]
        nameless = await ask(app, body("a"))
    async with serving(store=store) as app:
        again = await ask(app, body("b", state=nameless.state))
        assert again.state["messages"] == ["a", "b"]


async def test_token_leads_to_no_thread_that_has_a_lasting_name_or_is_none() -> None:
    async with serving() as app:
        first = await ask(app, body("one"))
        await ask(app, body("two", threadId="mine", state=first.state))
        for state in (
            first.state,
            {"threadwire": {"thread": "x" * 22}},
            {"threadwire": {"thread": 5}},
            {"threadwire": []},
        ):
            stranger = await ask(app, body("three", state=state))
            assert thread(stranger) != thread(first)
        assert (await state_of(app, "mine"))["messages"] == ["one", "two"]


async def test_known_thread_is_not_changed_by_the_state_that_is_posted() -> None:
    async with serving() as app:
        await ask(app, body("one", threadId="t"))
        state = b'{"messages":["other"],"n":9007199254740993,"a":1,"a":2}'
        hostile = b'{"commands":[%b],"threadId":"t","state":' + state + b"}"
        exchange = await ask(app, hostile % json.dumps(message("two")).encode())
        assert exchange.state == {"messages": ["one", "two"]}


async def test_id_that_goes_with_the_page_makes_no_lasting_thread() -> None:
    async with serving() as app:
        exchanges: list[Exchange] = []

        async def begin(text: str) -> None:
            exchanges.append(await ask(app, body(text, threadId="__LOCALID_new", state={"n": 1})))

        async with anyio.create_task_group() as group:
            for text in "abc":
                group.start_soon(begin, text)
        (id,) = {thread(each) for each in exchanges}
        assert id != "__LOCALID_new"
        state = await state_of(app, "__LOCALID_new")
        assert sorted(state["messages"]) == ["a", "b", "c"]
        assert (state["n"], state["threadwire"]) == (1, {"thread": id})
        assert await listed(app) == []


@in_virtual_time
async def test_anonymous_threads_go_some_time_after_their_last_update() -> None:
    loop = asyncio.get_running_loop()
    async with serving(anonymous_s=600, clock=loop.time, idle_s=30) as app:
        first = await ask(app, body("one"))
        kept = await ask(app, body("one"))
        await ask(app, body("two", threadId="mine", state=kept.state))
        await asyncio.sleep(500)
        again = await ask(app, body("two", state=first.state))
        assert again.state["messages"] == ["one", "two"]
        async with post(
            app, "/assistant", body("hang", state=again.state), query="on_disconnect=continue"
        ) as busy:
            await busy.until(lambda: "hang" in busy.state["messages"] if busy.state else False)
        await asyncio.sleep(900)
        assert await app.threads.store.find_name(thread(first)) is not None, "its run goes on"
        await asyncio.sleep(900)
        assert await app.threads.store.find_name(thread(first)) is None
        assert await listed(app) == [thread(kept)]
        late = await ask(app, body("three", state=again.state))
        assert late.state["messages"] == ["one", "two", "three"], "the client had it still"
        assert thread(late) != thread(first)


@in_virtual_time
async def test_anonymous_thread_stays_whose_client_comes_back_while_others_go() -> None:
    class SlowStore(MemoryStore):
        async def delete_thread(self, id: str) -> bool:
            deleting.set()
            await asyncio.sleep(60)
            return await super().delete_thread(id)

    loop = asyncio.get_running_loop()
    deleting = asyncio.Event()
    async with serving(store=SlowStore(), anonymous_s=600, clock=loop.time, idle_s=30) as app:
        gone = await ask(app, body("one"))
        await asyncio.sleep(1)
        kept = await ask(app, body("one"))
        await deleting.wait()
        again = await ask(app, body("two", state=kept.state))
        assert thread(again) == thread(kept)
        await asyncio.sleep(300)
        third = await ask(app, body("three", state=again.state))
        assert third.state["messages"] == ["one", "two", "three"]
        assert thread(third) == thread(kept)
        assert await app.threads.store.find_name(thread(gone)) is None


@in_virtual_time
async def test_any_number_of_anonymous_threads_goes_at_once() -> None:
    loop = asyncio.get_running_loop()
    store = MemoryStore()
    async with serving(store=store, anonymous_s=600, clock=loop.time) as app:
        for number in range(250):
            record = ThreadRecord(id=f"{number:022}", agent="echo", created_at=0.0, updated_at=0.0)
            await store.create(record, anonymous=True)
        busy = await follow(await app.threads.get(f"{9:022}"))
        await asyncio.sleep(900)
        left = await store.anonymous_before(1e9, limit=1000)
        assert left == [f"{9:022}"]
        assert busy.lost_subscribers == []


# seeds


async def test_new_thread_begins_with_what_the_client_has() -> None:
    async with serving() as app:
        state = {"messages": ["zero"], "n": 1.5, "threadwire": {"thread": "gone", "values": {"x": 1}}}
        for members in ({"threadId": "t"}, {}):
            exchange = await ask(app, body("one", state=state, **members))
            assert exchange.state.pop("threadwire", {}).keys() <= {"thread"}
            assert exchange.state == {"messages": ["zero", "one"], "n": 1.5}
        wide = b'{"commands":[],"state":{"n":100000000000000000000},"threadId":"wide"}'
        assert (await ask(app, wide)).state == {"n": 1e20}


@pytest.mark.parametrize("seed", [None, True, False])
async def test_agents_say_who_may_give_a_first_state(seed: bool | None) -> None:
    @threadwire.agent(seed=seed)
    async def agent(run: threadwire.Run) -> None: ...

    async with serving(agent) as app:
        stock = await ask(app, body(commands=[], state={"a": 1}, threadId="t"))
        assert stock.state == ({} if seed is False else {"a": 1})
        if seed:
            assert (await app.threads.get("u", state={"a": 1})).document.root == {"a": 1}
        else:
            with pytest.raises(Refused, match="takes no first state"):
                await app.threads.get("u", state={"a": 1})


async def test_agent_may_change_a_seed_or_refuse_it_naming_the_place() -> None:
    class Choosy(threadwire.FunctionAgent):
        def read_seed(self, state: dict[str, Any]) -> dict[str, Any]:
            for key in state:
                if key not in ("messages", "extra"):
                    raise Refused("invalid-request", "not a channel", f"state.{key}")
            return {"messages": state["messages"]}

    async def nothing(run: threadwire.Run) -> None: ...

    async with serving(Choosy(nothing, name="choosy")) as app:
        kept = await ask(app, body(commands=[], state={"messages": [1], "extra": 2}, threadId="t"))
        assert kept.state == {"messages": [1]}
        error = await refused(app, body("x", state={"messages": [], "odd": 1}, threadId="u"), 400)
        assert (error["code"], error["field"]) == ("invalid-request", "body.state.odd")
        assert await app.threads.find("u") is None


async def test_two_clients_that_begin_one_thread_at_once_share_it() -> None:
    async with serving() as app:
        exchanges: list[Exchange] = []

        async def begin(text: str) -> None:
            exchanges.append(await ask(app, body(text, threadId="t", state={"messages": [], "by": text})))

        async with anyio.create_task_group() as group:
            for text in "ab":
                group.start_soon(begin, text)
        state = await state_of(app, "t")
        assert sorted(state["messages"]) == ["a", "b"]
        assert state["by"] in "ab"


# repetition


@pytest.mark.spec("14.12")
async def test_request_that_is_repeated_by_its_key_has_its_effect_once() -> None:
    async with serving() as app:
        key = {"Idempotency-Key": "k-1"}
        for content in (body("one", "two", threadId="t"), body("one", "two")):
            first = await ask(app, content, headers=key)
            again = await ask(app, content, headers=key)
            assert again.state == first.state
            assert again.state["messages"] == ["one", "two"]
            assert thread(again) == thread(first)
        once_more = await ask(app, body("one", threadId="t"))
        assert once_more.state["messages"] == ["one", "two", "one"], "without a key each counts"


async def test_commands_with_ids_have_their_effect_once() -> None:
    async with serving() as app:
        for members in ({"threadId": "t"}, {}):
            content = body(commands=[message("one", id="c-1"), message("two", id="c-2")], **members)
            first, again = await ask(app, content), await ask(app, content)
            assert again.state == first.state
            assert again.state["messages"] == ["one", "two"]
        partly = await ask(
            app, body(commands=[message("two", id="c-2"), message("three", id="c-3")], threadId="t")
        )
        assert partly.state["messages"] == ["one", "two", "three"]


async def test_id_of_another_command_is_a_conflict_that_names_it() -> None:
    async with serving() as app:
        await ask(app, body(commands=[message("one", id="c-1")], threadId="t"))
        content = body(commands=[message("new", id="c-9"), message("other", id="c-1")], threadId="t")
        error = await refused(app, content, 409)
        assert (error["code"], error["field"]) == ("command-id-reused", "body.commands.1.id")
        await ask(app, body("one", threadId="u"), headers={"Idempotency-Key": "k"})
        error = await refused(app, body("two", threadId="u"), 409, headers={"Idempotency-Key": "k"})
        assert error["code"] == "command-id-reused"
        assert (await state_of(app, "u"))["messages"] == ["one"]


async def test_key_that_two_clients_happen_to_choose_mixes_nothing_but_equal_requests() -> None:
    async with serving() as app:
        key = {"Idempotency-Key": "1"}
        one, two = await ask(app, body("one"), headers=key), await ask(app, body("two"), headers=key)
        assert thread(one) != thread(two)


@in_virtual_time
async def test_repetition_while_the_run_goes_on_follows_it_to_its_end() -> None:
    async with serving() as app:
        key = {"Idempotency-Key": "k-1"}
        async with post(app, "/assistant", body("hang", threadId="t"), headers=key) as first:
            await first.until(lambda: bool(first.state) and "messages" in first.state)
            async with post(app, "/assistant", body("hang", threadId="t"), headers=key) as again:
                await again.end(2000)
            await first.end()
        assert first.state == again.state == {"messages": ["hang"]}


async def test_repetition_of_what_failed_shows_the_error_again() -> None:
    async with serving() as app:
        key = {"Idempotency-Key": "k-1"}
        for _ in range(2):
            exchange = await ask(app, body("fail", threadId="t"), headers=key)
            assert exchange.reader.errors == ["it failed"]
        assert exchange.state["messages"] == ["fail"]


async def test_command_type_with_an_id_of_its_own_keeps_it() -> None:
    class Remove(threadwire.Command, tag="remove"):
        id: str

    @threadwire.agent
    async def keeper(run: threadwire.Run) -> None: ...

    @keeper.on(Remove)
    async def remove(run: threadwire.Run, command: Remove) -> None:
        run.state["removed"] = [*run.state.get("removed", []), command.id]

    async with serving(keeper) as app:
        for _ in range(2):
            exchange = await ask(app, body(commands=[{"type": "remove", "id": "r1"}], threadId="t"))
        assert exchange.state["removed"] == ["r1", "r1"]
        for _ in range(2):
            content = body(commands=[{"type": "remove", "id": "r2"}], threadId="t")
            exchange = await ask(app, content, headers={"Idempotency-Key": "k"})
        assert exchange.state["removed"] == ["r1", "r1", "r2"]


@in_virtual_time
async def test_more_than_may_wait_is_refused_and_nothing_else_suffers() -> None:
    async with (
        serving(limits=threadwire.Limits(max_pending_commands=2)) as app,
        post(app, "/assistant", body("hang", threadId="t"), query="on_disconnect=continue") as exchange,
    ):
        await exchange.until(lambda: bool(exchange.state) and "messages" in exchange.state)
        error = await refused(app, body("a", "b", "c", threadId="t"), 429)
        assert error["code"] == "too-many-pending"
        assert (await ask(app, body("fine", threadId="u"))).state["messages"] == ["fine"]
        found = await app.threads.get("t")
        assert found.run_info is not None
        await found.runner.cancel(found.run_info.id)
        await exchange.end()
        assert exchange.state["messages"] == ["hang"]
        assert (await ask(app, body("next", threadId="t"))).state["messages"] == ["hang", "next"], (
            "none of what was refused was done"
        )
