"""Stock clients' routes: what a client that knows only AssistantTransport is shown, in both encodings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import threadwire
from tests.support.engine import Commands, Reader, follow, say
from tests.support.http import client_of, error_of
from tests.support.stock_client import PROTOCOLS, Exchange, body, message, post
from tests.support.virtual_time import in_virtual_time
from threadwire.core.frames import Limits
from threadwire.endpoints.app import Application
from threadwire.engine.settings import Settings
from threadwire.engine.thread import Thread
from threadwire.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("protocol", PROTOCOLS)


class Rename(threadwire.Command, tag="rename"):
    title: str


class Poke(threadwire.Command, tag="poke"):
    id: str


@threadwire.agent
async def talker(run: threadwire.Run) -> None:
    """Does what the message says; its words are its tokens."""
    for command in run.commands:
        if not isinstance(command, threadwire.AddMessage):
            raise threadwire.AgentError("only messages")
        text = command.message.text
        messages = run.state.setdefault("messages", [])
        if command.source_id is not None:
            kept = [each["id"] for each in messages]
            del messages[kept.index(command.parent_id) + 1 if command.parent_id else 0 :]
        messages.append({"id": run.new_id(), "type": "human", "content": text})
        messages.append({"id": run.new_id(), "type": "ai", "content": ""})
        await say_words(run, text)


async def say_words(run: threadwire.Run, text: str) -> None:
    if text == "ask":
        run.state["answer"] = await run.interrupt("well?")
    if text == "tool":
        run.state["picked"] = (await run.call_client_tool("pick", {"n": 1})).result
    if text == "shuffle":
        await shuffle(run)
    for word in text.split():
        run.append_text(("messages", -1, "content"), word + " ")
        await asyncio.sleep(0.1)
        if word == "fail":
            raise threadwire.AgentError("it failed: ünï")
        if word == "crash":
            raise ValueError("secret")
        if word == "hang":
            await asyncio.sleep(3600)


async def shuffle(run: threadwire.Run) -> None:
    """Edits that the stock operations can't say."""
    items = run.state["items"] = [{"n": n, "text": "x"} for n in range(5)]
    items = run.state["items"]
    for step in (
        lambda: items.insert(0, {"n": 9, "text": ""}),
        lambda: items[0].update(text="new"),
        lambda: items.pop(2),
        lambda: items.reverse(),
        lambda: items.__delitem__(slice(1, 3)),
        lambda: items.extend([{"n": 10}, {"n": 11}]),
        lambda: items.sort(key=lambda item: -item["n"]),
        lambda: run.state.pop("gone", None),
        lambda: items.__setitem__(slice(0, 1), [1, 2, 3]),
    ):
        step()
        run.state["gone"] = len(items)
        run.append_text(("messages", -1, "content"), ".")
        await asyncio.sleep(0.01)
    del run.state["gone"]


@talker.on(Rename)
async def rename(run: threadwire.Run, command: Rename) -> None:
    if not command.title:
        raise threadwire.CommandError("no-title", "a title has letters", "command.title")
    run.state["title"] = command.title


@talker.on(Poke, immediate=True)
async def poke(run: threadwire.Run, command: Poke) -> None:
    run.state["poked"] = command.id


@talker.title
async def make_title(state: Any) -> str | None:
    if not state.get("messages"):
        return None
    if state["messages"][0]["content"] == "rude":
        raise threadwire.AgentError("no title for that")
    return f"About {state['messages'][0]['content']}"


@threadwire.agent
async def contexts(run: threadwire.Run) -> None:
    for _ in run.commands:
        run.state["context"] = json.loads(json.dumps(dict(run.context)))


@asynccontextmanager
async def serving(
    *agents: Any, store: Any = None, limits: Limits | None = None, allow: str = "", **settings: Any
) -> AsyncIterator[Application]:
    served = {agent.name: agent for agent in agents or (talker, contexts)}
    app = threadwire.create_app(
        agents=served,
        store=store or MemoryStore(),
        settings=Settings(limits=limits or Limits(), **settings),
        allow_origins=[allow] if allow else (),
    )
    async with app.running():
        yield app


async def ask(app: Application, content: Any, path: str = "/assistant", **options: Any) -> Exchange:
    """A request whose stream is read to its end, in order."""
    async with post(app, path, content, **options) as exchange:
        await exchange.end(60)
        return exchange


async def state_of(app: Application, id: str) -> Any:
    async with client_of(app) as http:
        return (await http.get(f"/threads/{id}/state")).json()["state"]


async def thread_of(app: Application, exchange: Exchange) -> Thread:
    thread = await app.threads.find(exchange.headers["threadwire-thread"])
    assert thread is not None
    return thread


async def refused(
    app: Application, content: Any, status: int, path: str = "/assistant", **options: Any
) -> Any:
    async with post(app, path, content, **options) as exchange:
        await exchange.until(lambda: exchange.complete)
    assert exchange.status == status, exchange.raw
    assert len(exchange.raw) < 1000
    error = exchange.json["error"]
    assert {"code", "message"} <= error.keys() <= {"code", "message", "field"}
    return error


def texts(exchange: Exchange) -> list[str]:
    return [state["messages"][-1]["content"] for state in exchange.reader.states if state.get("messages")]


# a round trip


@both
@pytest.mark.spec("14.10")
async def test_answer_streams_from_the_whole_state_to_the_end_of_the_run(protocol: str) -> None:
    async with serving() as app:
        exchange = await ask(app, body("one two three"), protocol=protocol)
        reader = exchange.reader
        assert reader.errors == []
        assert texts(exchange)[-1] == "one two three "
        assert all(
            later.startswith(text) for text, later in zip(texts(exchange), texts(exchange)[1:], strict=False)
        )
        assert len(set(texts(exchange))) >= 3
        assert reader.state["messages"][0]["content"] == "one two three"
        assert reader.state == await state_of(app, exchange.headers["threadwire-thread"])
        kinds = {
            "data-stream": "text/plain; charset=utf-8",
            "assistant-transport": "text/event-stream; charset=utf-8",
        }
        assert exchange.headers["content-type"] == kinds[protocol]
        assert exchange.headers["cache-control"] == "no-store, no-transform"
        assert exchange.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in exchange.headers


@in_virtual_time
async def test_first_state_shows_the_message_it_answers() -> None:
    @threadwire.agent
    async def slow(run: threadwire.Run) -> None:
        await asyncio.sleep(0.2)
        await talker.run(run)

    async with serving(slow) as app:
        exchange = await ask(app, body("hello"))
        assert exchange.reader.states[0]["messages"][0]["content"] == "hello"


@both
@pytest.mark.spec("3.9")
async def test_edits_that_stock_clients_do_not_know_reach_them_as_sets(protocol: str) -> None:
    async with serving() as app:
        exchange = await ask(app, body("shuffle"), protocol=protocol)
        assert exchange.reader.state == await state_of(app, exchange.headers["threadwire-thread"])
        assert len(exchange.reader.states) > 8
        assert b"splice" not in exchange.raw
        assert b"delete" not in exchange.raw


@both
async def test_text_of_any_kind_and_size_arrives_exactly(protocol: str) -> None:
    text = "\x00 \u2028 \u2029 \r\n \t 🎈é\U0010ffff " + "x" * 200_000 + "é" * 100_000
    async with serving() as app:
        exchange = await ask(app, body(text), protocol=protocol)
        assert exchange.reader.state["messages"][0]["content"] == text
        assert texts(exchange)[-1] == "".join(word + " " for word in text.split())


@both
async def test_error_of_the_agent_is_the_last_part_of_a_stream_that_ends_in_order(protocol: str) -> None:
    async with serving() as app:
        exchange = await ask(app, body("so it will fail here"), protocol=protocol)
        assert exchange.reader.errors == ["it failed: ünï"]
        assert texts(exchange)[-1] == "so it will fail "
        crashed = await ask(app, body("crash"), protocol=protocol)
        (error,) = crashed.reader.errors
        assert "secret" not in error
        assert (
            await ask(app, body("then well", threadId=(await thread_of(app, exchange)).id))
        ).reader.errors == []


async def test_messages_of_one_request_are_answered_in_order_by_one_stream() -> None:
    async with serving() as app:
        exchange = await ask(app, body("a", "b", "c"))
        said = [each["content"] for each in exchange.state["messages"] if each["type"] == "human"]
        assert said == ["a", "b", "c"]


async def test_edit_replaces_what_came_after_and_only_with_a_source() -> None:
    async with serving() as app:
        first = await ask(app, body("a", "b", "c", threadId="t"))
        ids = [each["id"] for each in first.state["messages"]]
        odd = {**body(threadId="t"), "commands": [message("d", parentId="nobody knows")]}
        assert len((await ask(app, odd)).state["messages"]) == 8
        mid = {**body(threadId="t"), "commands": [message("e", parentId=ids[1], sourceId=ids[2])]}
        assert [each["content"] for each in (await ask(app, mid)).state["messages"]] == ["a", "a ", "e", "e "]
        all_of_it = {**body(threadId="t"), "commands": [message("f", parentId=None, sourceId=ids[0])]}
        assert [each["content"] for each in (await ask(app, all_of_it)).state["messages"]] == ["f", "f "]


async def test_custom_commands_are_handled_and_their_refusal_is_an_error_of_the_stream() -> None:
    async with serving() as app:
        commands = [{"type": "rename", "title": "Ünï"}, {"type": "poke", "id": "its own"}]
        exchange = await ask(app, body(commands=commands, threadId="t"))
        assert (exchange.state["title"], exchange.state["poked"]) == ("Ünï", "its own")
        refused_one = await ask(app, body(commands=[{"type": "rename", "title": ""}], threadId="t"))
        assert refused_one.reader.errors == ["a title has letters"]
        assert refused_one.state["title"] == "Ünï"


async def test_earlier_failure_is_not_shown_for_what_has_nothing_to_do_with_it() -> None:
    async with serving() as app:
        assert (await ask(app, body("fail", threadId="t"))).reader.errors
        poked = await ask(app, body(commands=[{"type": "poke", "id": "x"}], threadId="t"))
        assert poked.reader.errors == []
        assert (await ask(app, body(commands=[], threadId="t"))).reader.errors == []


async def test_websocket_clients_and_two_streams_see_the_same_states() -> None:
    async with serving() as app:
        thread = await app.threads.get("t")
        first, second = Reader("json"), Reader("msgpack")
        await thread.subscribe(first)
        await thread.subscribe(second)
        async with post(app, "/assistant", body("shuffle", threadId="t")) as one:
            await one.until(lambda: bool(one.reader.states))
            resumed = post(app, "/resume", {"threadId": "t"}, protocol="assistant-transport")
            async with resumed as two:
                await two.end()
            await one.end()
        await first.until(lambda: bool(first.runs) and first.runs[-1].status == "completed")
        assert one.state == two.state == first.state == second.state == await state_of(app, "t")


async def test_message_of_a_websocket_client_is_seen_by_streams_that_are_open() -> None:
    async with serving() as app, post(app, "/assistant", body("hang", threadId="t")) as exchange:
        await exchange.until(lambda: bool(exchange.state) and "messages" in exchange.state)
        thread = await app.threads.get("t")
        await thread.submit("ws", {"type": "poke", "id": "from afar"}, strategy=None, watcher=Commands())
        await exchange.until(lambda: exchange.state.get("poked") == "from afar")
        await thread.runner.cancel(None)
        assert (await exchange.end()).errors == []


# waiting for clients


@both
async def test_stream_ends_where_the_run_waits_and_the_answer_opens_another(protocol: str) -> None:
    async with serving() as app:
        asked = await ask(app, body("ask", threadId="t"), protocol=protocol)
        (question,) = asked.state["threadwire"]["interrupts"]
        thread = await thread_of(app, asked)
        assert thread.run_info is not None
        assert thread.run_info.status == "waiting"
        answer = {"type": "resume", "answers": {question: {"yes": 1}}}
        answered = await ask(app, body(commands=[answer], threadId="t"), protocol=protocol)
        assert answered.state["answer"] == {"yes": 1}
        assert "threadwire" not in answered.state
        assert texts(answered)[-1] == "ask "


@pytest.mark.parametrize("result", ["text", {"a": [1, None]}, None, 0])
async def test_tool_result_goes_on_with_the_run(result: Any) -> None:
    async with serving() as app:
        asked = await ask(app, body("tool", threadId="t"))
        ((call, shown),) = asked.state["threadwire"]["tool_calls"].items()
        assert shown == {"name": "pick", "args": {"n": 1}}
        command = {
            "type": "add-tool-result",
            "toolCallId": call,
            "toolName": "pick",
            "result": result,
            "isError": False,
        }
        answered = await ask(app, body(commands=[command], threadId="t"))
        assert answered.state["picked"] == result
        again = await ask(app, body(commands=[command], threadId="t"))
        assert again.reader.errors == ["this call has its result"]


# hanging up


@pytest.mark.spec("14.13")
@in_virtual_time
async def test_run_is_cancelled_some_time_after_its_reader_hung_up() -> None:
    async with serving() as app:
        loop = asyncio.get_running_loop()
        for query, status, took_s in (
            ("", "cancelled", 15),
            ("on_disconnect=cancel", "cancelled", 0),
            ("on_disconnect=40.5", "cancelled", 40.5),
            ("on_disconnect=continue", "completed", 3600),
        ):
            async with post(app, "/assistant", body("hang"), query=query) as exchange:
                await exchange.until(lambda: "hang " in texts(exchange))
                thread = await thread_of(app, exchange)
                exchange.hang_up()
                left = loop.time()
            await thread.runner.ended()
            assert thread.run_info is not None
            assert thread.run_info.status == status
            assert took_s <= loop.time() - left <= took_s + 1
            assert not thread.subscribers


@in_virtual_time
async def test_server_says_how_long_runs_go_on_alone() -> None:
    for absence_s, status in ((None, "completed"), (3.0, "cancelled")):
        async with serving(absence_s=absence_s) as app:
            async with post(app, "/assistant", body("hang")) as exchange:
                await exchange.until(lambda: "hang " in texts(exchange))
            thread = await thread_of(app, exchange)
            await thread.runner.ended()
            assert thread.run_info is not None
            assert thread.run_info.status == status


@in_virtual_time
async def test_new_message_interrupts_a_run_that_was_left() -> None:
    async with serving() as app:
        loop = asyncio.get_running_loop()
        async with post(app, "/assistant", body("hang on", threadId="t")) as exchange:
            await exchange.until(lambda: "hang " in texts(exchange))
        left = loop.time()
        next_one = await ask(app, body("next", threadId="t"))
        assert loop.time() - left < 2
        said = [each["content"] for each in next_one.state["messages"]]
        assert said == ["hang on", "hang ", "next", "next "]
        assert next_one.reader.errors == []


@in_virtual_time
async def test_new_message_interrupts_a_run_whose_client_is_seen_to_leave_a_moment_later() -> None:
    async with serving() as app:
        loop = asyncio.get_running_loop()
        async with post(app, "/assistant", body("hang on", threadId="t")) as first:
            await first.until(lambda: "hang " in texts(first))
            began = loop.time()
            async with post(app, "/assistant", body("next", threadId="t")) as second:
                await asyncio.sleep(0.05)
                first.hang_up()
                await second.end()
            assert loop.time() - began < 2
            assert texts(second)[-1] == "next "


@in_virtual_time
async def test_new_message_waits_for_a_run_whose_client_stays() -> None:
    async with serving() as app, post(app, "/assistant", body("hang on", threadId="t")) as first:
        await first.until(lambda: "hang " in texts(first))
        async with post(app, "/assistant", body("next", threadId="t")) as second:
            await second.until(lambda: second.state is not None)
            await asyncio.sleep(1)
            assert texts(second)[-1] == "hang "
            (thread,) = app.threads.loaded()
            assert thread.run_info is not None
            assert thread.run_info.status == "running"
            await thread.runner.cancel(thread.run_info.id)
            await second.end()


@in_virtual_time
async def test_an_answer_asked_for_again_interrupts_a_run_that_was_left() -> None:
    async with serving() as app:
        loop = asyncio.get_running_loop()
        async with post(app, "/assistant", body("hang on", threadId="t")) as exchange:
            await exchange.until(lambda: "hang " in texts(exchange))
        left = loop.time()
        (thread,) = app.threads.loaded()
        first = thread.run_info
        assert first is not None
        again = {"commands": [{"type": "regenerate", "parentId": None}], "threadId": "t"}
        async with post(app, "/assistant", again) as exchange:
            await exchange.until(lambda: thread.run_info is not None and thread.run_info.id != first.id)
        assert loop.time() - left < 2


@in_virtual_time
async def test_new_message_waits_for_a_run_that_is_to_be_seen_through() -> None:
    async with serving() as app:
        loop = asyncio.get_running_loop()
        async with post(
            app, "/assistant", body("hang", threadId="t"), query="on_disconnect=continue"
        ) as exchange:
            await exchange.until(lambda: "hang " in texts(exchange))
        async with post(app, "/assistant", body("next", threadId="t")) as exchange:
            await exchange.end(4000)
        assert loop.time() > 3600


@in_virtual_time
async def test_reader_of_any_kind_keeps_the_run_going() -> None:
    async with serving() as app:
        async with post(app, "/assistant", body("hang", threadId="t")) as exchange:
            await exchange.until(lambda: "hang " in texts(exchange))
        thread = await thread_of(app, exchange)
        async with post(app, "/resume", {"threadId": "t"}):
            await asyncio.sleep(100)
        await asyncio.sleep(10)
        reader = await follow(thread)
        await asyncio.sleep(100)
        assert thread.run_info is not None
        assert thread.run_info.status == "running"
        thread.unsubscribe(next(iter(thread.subscribers)))
        await asyncio.sleep(16)
        assert thread.run_info.status == "cancelled"
        assert reader.state["messages"][-1]["content"] == "hang "


@in_virtual_time
async def test_cancel_stops_the_run_and_every_stream_ends_without_an_error() -> None:
    async with serving() as app, post(app, "/assistant", body("hang", threadId="t")) as one:
        await one.until(lambda: "hang " in texts(one))
        run = (await thread_of(app, one)).run_info
        assert run is not None
        resumed = post(app, "/resume", {"threadId": "t"}, protocol="assistant-transport")
        async with resumed as two, client_of(app) as http:
            await two.until(lambda: "hang " in texts(two))
            other = await http.post("/cancel", json={"threadId": "t", "runId": "other"})
            assert other.json()["run"]["status"] == "running"
            answer = await http.post("/cancel", json={"threadId": "t", "runId": run.id})
            assert answer.json() == {"run": {"id": run.id, "status": "cancelled"}}
            again = await http.post("/agents/talker/cancel", json={"threadId": "t"})
            assert again.json() == answer.json()
            missing = error_of(await http.post("/cancel", json={"threadId": "none"}), 404)
            assert missing["code"] == "not-found"
            assert (await one.end()).errors == (await two.end()).errors == []


# coming back


@both
@pytest.mark.spec("14.14")
@in_virtual_time
async def test_resumed_streams_show_what_was_and_then_what_comes(protocol: str) -> None:
    async with (
        serving() as app,
        client_of(app) as http,
        post(app, "/assistant", body("a b c d e f", threadId="t"), protocol=protocol) as first,
    ):
        await first.until(lambda: "a b " in texts(first))
        found = (await http.post("/initial-state", json={"threadId": "t"})).json()
        assert found["threadId"] == "t"
        assert found["state"]["messages"][-1]["content"].startswith("a b ")
        by_run = {"commands": [], "threadId": "t", "runId": found["runId"]}
        by_state = {"commands": [], "threadId": "t", "state": {"x": 1}}
        async with (
            post(app, "/resume", by_run, protocol=protocol) as one,
            post(app, "/resume", by_state, protocol=protocol) as two,
        ):
            for each in (one, two):
                await each.end()
                boundary = int(each.headers["aui-replay-content-length"])
                assert each.raw[:boundary].endswith((b"\n ", b"\n\n"))
                assert b"append-text" not in each.raw[:boundary]
                assert texts(each)[0].startswith("a b ")
                assert texts(each)[-1] == "a b c d e f "
        await first.end()
        assert one.state == two.state == first.state


@both
async def test_resuming_what_has_ended_loses_nothing_and_shows_its_error(protocol: str) -> None:
    async with serving() as app:
        await ask(app, body("fine", threadId="ok"))
        await ask(app, body("fail", threadId="bad"))
        for id, errors in (("ok", []), ("bad", ["it failed: ünï"])):
            thread = await app.threads.get(id)
            assert thread.run_info is not None
            for content in ({"threadId": id}, {"threadId": id, "runId": thread.run_info.id}):
                exchange = await ask(app, content, "/resume", protocol=protocol)
                assert exchange.reader.errors == errors
                assert exchange.state == await state_of(app, id)
                assert len(exchange.reader.states) == 1


async def test_another_run_is_a_conflict_and_no_run_is_no_content() -> None:
    async with serving() as app:
        await ask(app, body("fine", threadId="t"))
        error = await refused(app, {"threadId": "t", "runId": "another"}, 409, "/resume")
        assert (error["code"], error["field"]) == ("conflict", "body.runId")
        async with client_of(app) as http:
            for content in (
                {"threadId": "t"},
                {"threadId": "none"},
                {},
                {"state": {"threadwire": {"thread": "x" * 22}}},
            ):
                answer = await http.post("/initial-state", json=content)
                assert (answer.status_code, answer.content) == (204, b"")
            assert (await http.post("/agents/none/initial-state", json={})).status_code == 404
        for content in ({}, {"threadId": "none"}):
            assert (await refused(app, content, 404, "/resume"))["field"] == "body.threadId"
        assert [thread.id for thread in app.threads.loaded()] == ["t"]


@in_virtual_time
async def test_thread_in_the_url_is_for_clients_that_cannot_say_it_in_the_body() -> None:
    async with serving() as app:
        query = "threadId=mine"
        async with post(app, "/assistant", body("a b c d", threadId="__LOCALID_x"), query=query) as first:
            await first.until(lambda: "a b " in texts(first))
            async with client_of(app) as http:
                found = await http.post("/initial-state?threadId=mine", json={})
            assert (found.json()["threadId"], first.headers["threadwire-thread"]) == ("mine", "mine")
            resumed = await ask(app, {"runId": found.json()["runId"]}, "/resume", query=query)
            assert texts(resumed)[-1] == "a b c d "
            await first.end()
        error = await refused(app, body("x"), 400, query="threadId=a/b")
        assert (error["code"], error["field"]) == ("invalid-request", "query.threadId")


async def test_waiting_run_can_be_come_back_to() -> None:
    async with serving() as app:
        asked = await ask(app, body("ask", threadId="t"))
        async with client_of(app) as http:
            found = (await http.post("/initial-state", json={"threadId": "t"})).json()
        assert found["state"] == asked.state
        resumed = await ask(app, {"threadId": "t", "runId": found["runId"]}, "/resume")
        assert resumed.state == asked.state


# signs of life, slow readers, the end of the server


@both
@in_virtual_time
async def test_idle_stream_gives_signs_of_life_of_the_right_kind(protocol: str) -> None:
    async with serving() as app, post(app, "/assistant", body("hang"), protocol=protocol) as exchange:
        await exchange.until(lambda: "hang " in texts(exchange))
        parts, before = len(exchange.reader.states), exchange.reader.heartbeats
        await asyncio.sleep(15 * 10 + 1)
        assert 9 <= exchange.reader.heartbeats - before <= 20
        assert len(exchange.reader.states) == parts


@both
@in_virtual_time
async def test_slow_reader_gets_merged_operations_and_ends_at_the_exact_state(protocol: str) -> None:
    words = " ".join(f"w{n}" for n in range(200))
    async with (
        serving() as app,
        post(app, "/assistant", body(words, threadId="t"), protocol=protocol) as exchange,
    ):
        await exchange.until(lambda: bool(exchange.reader.states))
        exchange.flowing.clear()
        thread = await app.threads.get("t")
        await thread.runner.ended()
        exchange.flowing.set()
        await exchange.end()
        assert exchange.state == await state_of(app, "t")
        assert len(exchange.reader.states) < 10


@in_virtual_time
async def test_client_that_takes_no_byte_is_given_up() -> None:
    async with serving() as app:
        async with post(app, "/assistant", body("hang", threadId="t")) as exchange:
            await exchange.until(lambda: "hang " in texts(exchange))
            exchange.flowing.clear()
            thread = await app.threads.get("t")
            await asyncio.sleep(120)
            assert not thread.subscribers
            assert exchange.finished
            assert not exchange.complete
        await thread.runner.ended()


@in_virtual_time
async def test_client_that_takes_a_large_state_slowly_is_not_given_up() -> None:
    async with serving() as app:
        thread = await app.threads.get("t")
        thread.document.set(("long",), "x" * 500_000)
        await thread.flush()
        async with post(app, "/resume", {"threadId": "t"}) as exchange:
            send = exchange._send

            async def at_1_kb_a_second(event: Any) -> None:
                await asyncio.sleep(len(event.get("body", b"")) / 1000)
                await send(event)

            exchange._send = at_1_kb_a_second  # type: ignore[method-assign]
            await exchange.end(1000)
        assert exchange.state == await state_of(app, "t")


@both
@in_virtual_time
async def test_streams_of_a_server_that_stops_end_with_an_error(protocol: str) -> None:
    async with serving() as app:
        async with (
            post(app, "/assistant", body("hang", threadId="t"), protocol=protocol) as one,
            post(app, "/assistant", body("waits its turn", threadId="t"), protocol=protocol) as two,
        ):
            await one.until(lambda: "hang " in texts(one))
            await app.drain(2)
            for each in (one, two):
                assert len((await each.end()).errors) == 1
        for path in ("/assistant", "/resume", "/initial-state", "/cancel"):
            assert (await refused(app, body("no", threadId="t"), 503, path))["code"] == "draining"


@both
async def test_deleted_thread_ends_its_streams_with_an_error(protocol: str) -> None:
    async with (
        serving() as app,
        post(app, "/assistant", body("hang", threadId="t"), protocol=protocol) as asked,
    ):
        await asked.until(lambda: "hang " in texts(asked))
        async with (
            post(app, "/resume", {"threadId": "t"}, protocol=protocol) as resumed,
            post(app, "/assistant", body("later", threadId="t"), protocol=protocol) as queued,
        ):
            streams = (asked, resumed, queued)
            await resumed.until(lambda: "hang " in texts(resumed))
            await queued.until(lambda: "hang " in texts(queued))
            async with client_of(app) as http:
                assert (await http.delete("/threads/t")).status_code == 204
            for stream in streams:
                assert (await stream.end()).errors == ["the thread was deleted"]
        assert not len(app.threads.feeds)


async def test_nothing_is_left_of_streams_that_ended() -> None:
    async with serving() as app:
        for n in range(3):
            await ask(app, body("hello", threadId=f"t{n}"))
            async with post(
                app, "/assistant", body("hang", threadId=f"t{n}"), query="on_disconnect=cancel"
            ) as exchange:
                await exchange.until(lambda: "hang " in texts(exchange))
            thread = await thread_of(app, exchange)
            await thread.runner.ended()
            assert thread.subscribers == {}
            assert not thread.intake._watchers
        assert not len(app.threads.feeds)
        async with post(
            app, "/assistant", body("hang", "later", threadId="t"), query="on_disconnect=continue"
        ) as exchange:
            await exchange.until(lambda: "hang " in texts(exchange))
            thread = await thread_of(app, exchange)
            assert thread.intake.watched
        assert not thread.intake.watched, "nobody is there to be told what becomes of what goes on"


# what comes along


@pytest.mark.spec("14.9")
async def test_other_members_of_the_body_are_the_context_of_the_run() -> None:
    context = {
        "system": "Be brief.",
        "tools": {"pick": {"description": "x", "parameters": {"type": "object"}}},
        "callSettings": {"temperature": 0.5},
        "config": {"modelName": "m"},
        "temperature": 0.5,
        "modelName": "m",
        "tenant": {"deep": [1, {"a": None}]},
    }
    async with serving() as app:
        exchange = await ask(
            app, body("x", threadId="t", runId=None, **context), "/agents/contexts/assistant"
        )
        assert exchange.state["context"] == context
        assert (await ask(app, body("x", threadId="t"))).state["context"] == {}


async def test_path_names_the_agent_of_a_new_thread_and_must_be_that_of_an_old_one() -> None:
    async with serving() as app:
        await ask(app, body("x", threadId="t"), "/agents/contexts/assistant")
        assert (await app.threads.get("t")).agent_name == "contexts"
        error = await refused(app, body("x", threadId="t"), 409, "/agents/talker/assistant")
        assert (error["code"], error["field"]) == ("agent-mismatch", "body.threadId")
        assert (await refused(app, body("x"), 404, "/agents/nobody/assistant"))["code"] == "not-found"
        assert (await ask(app, body("x", threadId="t"))).state["context"] == {}


async def test_pages_of_allowed_origins_may_ask_and_read_the_headers() -> None:
    origin = {"origin": "https://app.example", "host": "threadwire.test"}
    async with serving(allow="https://app.example") as app:
        async with client_of(app) as http:
            asked = {
                **origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type, idempotency-key",
            }
            preflight = await http.options("/resume", headers=asked)
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        await ask(app, body("x", threadId="t"))
        exchange = await ask(app, {"threadId": "t"}, "/resume", headers=origin)
        exposed = exchange.headers["access-control-expose-headers"]
        assert {"Aui-Replay-Content-Length", "Threadwire-Thread"} <= set(exposed.split(", "))
        evil = await refused(
            app, body("x"), 403, headers={"origin": "https://evil.example", "host": "threadwire.test"}
        )
        assert evil["code"] == "forbidden"


# titles


@pytest.mark.spec("14.3")
async def test_agent_titles_a_thread() -> None:
    async with serving() as app, client_of(app) as http:
        await ask(app, body("lunch", threadId="t"))
        titled = await http.post("/threads/t/title", json={"messages": [{"role": "user"}]})
        assert titled.json()["title"] == "About lunch"
        assert (await http.get("/threads/t")).json() == titled.json()
        await http.post("/threads", json={"id": "empty", "title": "Mine"})
        assert (await http.post("/threads/empty/title")).json()["title"] == "Mine"
        await ask(app, body("rude", threadId="r"))
        assert error_of(await http.post("/threads/r/title"), 400)["code"] == "agent-error"
        await http.post("/threads", json={"id": "c", "agent": "contexts"})
        assert error_of(await http.post("/threads/c/title"), 404)["code"] == "not-found"
        assert error_of(await http.post("/threads/none/title"), 404)["code"] == "not-found"


def test_say_is_what_stock_clients_send_but_for_their_ids() -> None:
    assert say("x")["message"] == message("x")["message"]
