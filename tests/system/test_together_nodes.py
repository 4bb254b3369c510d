"""What clients do at the same moment on several nodes, and what they ask of an owner that is elsewhere."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from tests.support.cluster import Node, cluster
from tests.support.postgresql import new_database
from tests.support.server import user_messages
from tests.support.stock_client import body, message
from tests.support.streams import post, until_run
from threadwire.core.frames import Error, Tool

pytestmark = [pytest.mark.anyio, pytest.mark.spec("7.5"), pytest.mark.spec("14.11")]

LEASE_S = 5.0
TOOLS = """
import threadwire


@threadwire.agent
async def asking(run: threadwire.Run) -> None:
    for command in run.commands:
        run.state["said"] = command.message.text
    result = await run.call_client_tool("look", {"at": 1})
    run.state["seen"] = result.result
"""


@asynccontextmanager
async def nodes(
    tmp: Path, count: int, *args: str, **options: Any
) -> AsyncIterator[tuple[list[Node], httpx.AsyncClient, str]]:
    options = {"lease_s": LEASE_S, **options}
    url = new_database()
    async with cluster(tmp, url, count, *args, **options) as running, httpx.AsyncClient(timeout=60) as http:
        yield running, http, url
        for node in running:
            assert "Traceback" not in node.log(), node.log()


def said(state: Any) -> list[str]:
    return [each["content"] for each in state["messages"] if each["role"] == "user"]


async def test_the_same_command_on_two_nodes_and_over_both_transports_is_done_once(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 2) as ((first, second), http, _),
        first.client() as here,
        second.client("msgpack") as there,
    ):
        for number in range(4):
            thread = f"t{number}"
            one = await here.open(thread)
            other = await there.open(thread)
            text = message(f"hello {number}", id=f"c{number}")
            command = {key: value for key, value in text.items() if key != "id"}
            frame = {"type": "command", "thread": thread, "id": f"c{number}", "command": command}

            async def ask(node: Node, thread: str = thread, text: Any = text) -> None:
                async with post(node, http, body(commands=[text], threadId=thread)) as stream:
                    await stream.end()
                assert stream.errors == []

            async with anyio.create_task_group() as group:
                group.start_soon(here.send, frame)
                group.start_soon(there.send, frame)
                group.start_soon(ask, first)
                group.start_soon(ask, second)
            for client, view in ((here, one), (there, other)):
                await client.until_run(thread, "completed")
                await client.until(lambda client=client: client.commands.get(f"c{number}"))  # type: ignore[misc]  # noqa: B023
                assert said(view.state) == [f"hello {number}"]
            assert one.state == other.state


async def test_a_repeated_request_without_a_thread_shares_one_on_all_nodes(tmp_path: Path) -> None:
    async with nodes(tmp_path, 2) as (running, http, url):
        for number in range(3):
            asked = body("hello there", state={"messages": [], "n": number})
            shown = []

            async def ask(
                node: Node, number: int = number, asked: Any = asked, shown: list[Any] = shown
            ) -> None:
                key = {"Idempotency-Key": f"key-{number}"}
                async with post(node, http, asked, headers=key) as stream:
                    await stream.end()
                assert stream.errors == []
                shown.append((stream.response.headers["threadwire-thread"], stream.reader.state))

            async with anyio.create_task_group() as group:
                for node in running:
                    group.start_soon(ask, node)
                    group.start_soon(ask, node)
            (thread, state), *_ = shown
            assert all(each == (thread, state) for each in shown)
            assert said(state) == ["hello there"]
            assert state["threadwire"] == {"thread": thread}
            assert state["n"] == number
        connection = await asyncpg.connect(url)
        try:
            assert await connection.fetchval("SELECT count(*) FROM thread") == 3
        finally:
            await connection.close()


async def test_of_two_first_states_one_is_taken_whole(tmp_path: Path) -> None:
    async with nodes(tmp_path, 2) as (running, http, _):
        for number in range(4):

            async def ask(name: str, node: Node, thread: str = f"t{number}") -> None:
                seed = {"messages": [], "a": [name] * 3, "b": name}
                async with post(node, http, body(name, state=seed, threadId=thread)) as stream:
                    await stream.end()
                assert stream.errors == []

            async with anyio.create_task_group() as group:
                for name, node in zip("xy", running, strict=True):
                    group.start_soon(ask, name, node)
            states = [(await node.state(f"t{number}"))["state"] for node in running]
            assert states[0] == states[1]
            assert states[0]["b"] in ("x", "y")
            assert states[0]["a"] == [states[0]["b"]] * 3
            assert sorted(said(states[0])) == ["x", "y"]


async def test_a_first_state_of_any_size_reaches_the_owner_of_a_thread_that_was_only_opened(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, 2) as ((owner, other), http, _), owner.client() as client:
        for thread, text in (("small", "é\0"), ("large", "ü" * 200_000)):
            view = await client.open(thread)
            await client.until(lambda view=view: view.seq >= 0)  # type: ignore[misc]
            seed = {"messages": [], "text": text, "numbers": [1.5, -3, 2**53 - 1]}
            async with post(other, http, body("hello", state=seed, threadId=thread)) as stream:
                await stream.end()
            assert stream.errors == []
            state = (await owner.state(thread))["state"]
            assert (state["text"], state["numbers"]) == (seed["text"], seed["numbers"])
            assert said(state) == ["hello"]


async def test_a_message_to_another_node_interrupts_an_abandoned_run_at_once(tmp_path: Path) -> None:
    async with nodes(tmp_path, 2) as ((owner, other), http, _):
        asked = body("hang on", threadId="t")
        async with post(owner, http, asked, query={"on_disconnect": "600"}) as stream:
            await stream.until(lambda: bool(stream.text))
        async with post(other, http, body("next one", threadId="t")) as stream:
            await stream.end()
        assert stream.text == "next one"
        assert said(stream.reader.state) == ["hang on", "next one"]


async def test_a_run_goes_on_while_it_is_read_on_any_node_and_ends_when_nobody_is_left(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, 3, "--on-disconnect", "0.5") as ((owner, other, third), http, _):
        async with AsyncExitStack() as stack:
            async with post(owner, http, body("count 5000 every 10", threadId="t")) as first:
                await first.until(lambda: bool(first.text))
                second = await stack.enter_async_context(post(other, http, {"threadId": "t"}, path="/resume"))
                await second.until(lambda: bool(second.text))
            began = time.monotonic()
            await second.until(lambda: time.monotonic() - began > 1.5)
            assert (await third.state("t"))["run"]["status"] == "running"
        await until_run(third, "t", "cancelled")


async def test_cancel_reaches_a_run_whose_owner_is_killed_or_hangs(tmp_path: Path) -> None:
    async with nodes(tmp_path, 3, lease_s=2) as ((first, second, other), http, _):
        for owner in (first, second):
            thread = f"t{owner.port}"
            async with owner.client() as client:
                await client.open(thread)
                await client.say(thread, "c", "hang on")
                await client.until_run(thread, "running")
                assert (await other.state(thread))["run"]["status"] == "running"
                if owner is first:
                    await owner.kill()
                else:
                    owner.pause()
                answer = await http.post(f"{other.url}/cancel", json={"threadId": thread})
                assert answer.status_code == 200, answer.text
                assert answer.json()["run"]["status"] in ("cancelled", "failed")
        second.resume()


async def test_a_client_tool_is_executed_on_any_node_and_again_when_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    target = f"{tmp_path / 'tools.py'}:asking"
    async with (
        nodes(tmp_path, 3, lease_s=2, target=target) as ((owner, near, far), _, _),
        owner.client() as watching,
        far.client() as later,
    ):
        view = await watching.open("t")
        await watching.until(lambda: view.seq >= 0)
        async with near.client() as asking:
            await asking.open("t", tools=["look"])
            await asking.say("t", "c", "please")
            await asking.until(lambda: any(isinstance(each, Tool) for each in asking.frames))
            await later.open("t", tools=["look"])
            await later.until(lambda: later.views["t"].seq >= 0)
            await near.kill()
        await later.until(lambda: any(isinstance(each, Tool) for each in later.frames), timeout_s=120)
        (call,) = [each for each in later.frames if isinstance(each, Tool)]
        assert (call.name, call.args) == ("look", {"at": 1})
        result = {"type": "add-tool-result", "toolCallId": call.tool_call_id, "result": "a hat"}
        await later.send({"type": "command", "thread": "t", "id": "r", "command": result})
        await later.until_run("t", "completed")
        await watching.until_run("t", "completed")
        assert view.state["seen"] == later.views["t"].state["seen"] == "a hat"


async def test_changes_of_the_thread_list_are_seen_on_every_node(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 2) as ((owner, other), http, _),
        owner.client() as client,
        other.client() as follower,
    ):
        made = await http.post(f"{owner.url}/threads", json={"id": "t", "title": "one"})
        assert made.status_code == 201
        again = await http.post(f"{other.url}/threads", json={"id": "t"})
        assert again.status_code == 409
        await client.open("t")
        await client.say("t", "c", "hello")
        await client.until_run("t", "completed")
        await follower.open("t")
        await follower.until(lambda: follower.views["t"].seq >= 0)
        changed = await http.patch(f"{other.url}/threads/t", json={"title": "two", "custom": {"a": 1}})
        assert changed.status_code == 200
        (listed,) = (await http.get(f"{owner.url}/threads")).json()["threads"]
        assert (listed["title"], listed["custom"]) == ("two", {"a": 1})
        await client.say("t", "c2", "hello again")
        await client.until(lambda: len(user_messages(client.views["t"].state)) == 2)
        assert (await http.get(f"{other.url}/threads/t")).json()["title"] == "two", "the owner has kept it"
        await http.post(f"{other.url}/threads/t/archive")
        assert (await http.get(f"{owner.url}/threads")).json()["threads"] == []
        assert (await http.delete(f"{other.url}/threads/t")).status_code == 204
        for each in (client, follower):
            await each.until(lambda each=each: bool(each.errors))  # type: ignore[misc]
            assert isinstance(each.errors[0], Error)
            assert each.errors[0].code == "not-found"
        for node in (owner, other):
            assert (await http.get(f"{node.url}/threads/t/state")).status_code == 404
