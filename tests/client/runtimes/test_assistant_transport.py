"""A thread of a server as a runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import threadwire
from tests.support.live_server import live_server
from tests.support.scripted_server import Peer, scripted_server
from threadwire.client import CommandError, connect
from threadwire.client.errors import InvalidAdapter, InvalidMessage, NotFound, NotNow
from threadwire.client.runtimes.assistant_transport import (
    EXECUTING,
    AssistantTransportRuntime,
    ConnectionMetadata,
    TransportState,
)
from threadwire.client.runtimes.langchain_state import LangChainConverter
from threadwire.core.frames import CommandState, Open, Run, SendCommand, Snapshot, Update
from threadwire.core.operations import Set
from threadwire.messages.model import message_text

pytestmark = pytest.mark.anyio


@threadwire.agent
async def talker(run: threadwire.Run) -> None:
    """Answers in LangChain's form; `tool NAME` calls a tool of the client, `hang` hangs, `fail` fails."""
    messages = run.state.setdefault("messages", [])
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        text = command.message.text
        if command.source_id is not None:
            at = next(i for i, each in enumerate(messages) if each["id"] == command.source_id)
            del messages[at:]
        messages.append({"type": "human", "id": command.message.id, "content": text})
        if text == "refuse":
            raise threadwire.AgentError("refused")
        if text.startswith("tool "):
            name = text.removeprefix("tool ")
            calls = [{"id": "c1", "name": name, "args": {"x": 1}}]
            messages.append({"type": "ai", "id": run.new_id(), "content": "", "tool_calls": calls})
            answer = await run.call_client_tool(name, {"x": 1})
            messages.append(
                {"type": "tool", "tool_call_id": "c1", "content": str(answer), "status": "success"}
            )
            continue
        messages.append({"type": "ai", "id": run.new_id(), "content": ""})
        for token in ("You ", "said ", text):
            messages[-1]["content"] += token
            await run.flush()
        if text == "hang":
            await asyncio.sleep(3600)


class SetTitle(threadwire.Command, tag="set-title"):
    title: str


@talker.on(SetTitle)
async def set_title(run: threadwire.Run, command: SetTitle) -> None:
    run.state["title"] = command.title


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    app = threadwire.create_app(agents={"talker": talker}, store="memory:")
    async with live_server(app) as (_, port):
        yield f"ws://127.0.0.1:{port}/ws"


@asynccontextmanager
async def following(url: str, **options: Any) -> AsyncIterator[AssistantTransportRuntime]:
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connect(url))
        options = {"converter": LangChainConverter(), **options}
        yield await stack.enter_async_context(AssistantTransportRuntime(connection, "t", **options))


def texts(runtime: AssistantTransportRuntime) -> list[str]:
    return [message_text(message) for message in runtime.messages]


async def test_message_is_shown_at_once_and_stays_the_same_when_it_arrives() -> None:
    with anyio.fail_after(60):
        async with serving() as url, following(url) as runtime:
            seen: list[list[str]] = []
            runtime.subscribe(lambda: seen.append([each.id for each in runtime.messages]))
            for text in ("one", "two", "three"):
                await runtime.append(text)
                await runtime.idle()
            assert texts(runtime) == ["one", "You said one", "two", "You said two", "three", "You said three"]
            assert runtime.pending_commands == ()
            assert not runtime.is_running
            users = [message.id for message in runtime.messages if message.role == "user"]
            for ids in seen:
                shown = [id for id in ids if id in users]
                assert shown == users[: len(shown)], "none comes twice, or goes again"
            lengths = [sum(id in users for id in ids) for ids in seen]
            assert lengths == sorted(lengths)


async def test_message_is_shown_once_by_an_agent_that_keeps_no_ids() -> None:
    state = [{"type": "human", "content": "one"}, {"type": "ai", "content": "You said one"}]

    async def script(peer: Peer) -> None:
        await peer.hear(Open)
        await peer.say(Snapshot(thread="t", epoch=1, seq=1, state={}, run=None), Run(thread="t", run=None))
        sent = await peer.hear(SendCommand)
        await peer.say(CommandState(thread="t", id=sent.id, status="queued"))
        await peer.say(
            Update(thread="t", epoch=1, seq=2, ops=[Set(("messages",), state)]),
            CommandState(thread="t", id=sent.id, status="applied", seq=2),
        )

    async with scripted_server(script) as url, following(url) as runtime:
        seen: list[list[str]] = []
        runtime.subscribe(lambda: seen.append(texts(runtime)))
        await runtime.append("one")
        await runtime.wait(lambda: texts(runtime)[1:] == ["You said one"] and not runtime.pending_commands)
        assert ["one", ""] in seen  # at once, with a place for the answer
        assert all(shown.count("one") == 1 for shown in seen)


async def test_all_is_shown_when_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()

    async def late(self: AssistantTransportRuntime) -> None:
        await anyio.sleep_forever()

    @threadwire.agent
    async def slow(run: threadwire.Run) -> None:
        for _ in run.commands:
            run.state["messages"] = [{"type": "ai", "id": "a", "content": "One"}]
            await run.flush()
            await gate.wait()
            run.state["messages"][0]["content"] += " two"

    monkeypatch.setattr(AssistantTransportRuntime, "_follow", late)  # it has no turn before who waits
    app = threadwire.create_app(agents={"slow": slow}, store="memory:")
    with anyio.fail_after(60):
        async with live_server(app) as (_, port), following(f"ws://127.0.0.1:{port}/ws") as runtime:
            await runtime.append("go")
            await runtime.wait(lambda: not runtime.pending_commands)
            assert (texts(runtime), runtime.is_running) == (["One"], True)
            gate.set()
            await runtime.idle()
            assert (texts(runtime), runtime.is_running) == (["One two"], False)


async def test_two_runtimes_on_one_thread_see_each_other_live() -> None:
    with anyio.fail_after(60):
        async with serving() as url, following(url) as here, following(url) as there:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(there.wait, lambda: there.is_running)
                await here.append("hang")
            await there.wait(lambda: texts(there) == ["hang", "You said hang"])
            assert there.composer.can_cancel
            await there.composer.cancel()
            await here.idle()
            assert not here.is_running
            assert [each.id for each in here.messages] == [each.id for each in there.messages]


async def test_edit_takes_the_place_of_a_message_at_once() -> None:
    with anyio.fail_after(60):
        async with serving() as url, following(url) as runtime:
            await runtime.append("one")
            await runtime.idle()
            seen: list[list[str]] = []
            runtime.subscribe(lambda: seen.append(texts(runtime)))
            edit = runtime.begin_edit(runtime.messages[0].id)
            edit.text = "better"
            await edit.send()
            await runtime.idle()
            assert texts(runtime) == ["better", "You said better"]
            assert next(each for each in seen if each != ["one", "You said one"])[0] == "better"


async def test_tool_is_executed_where_the_server_says_and_its_status_shown() -> None:
    go_on = anyio.Event()
    statuses: list[Any] = []
    plain = LangChainConverter()

    def converter(state: Any, connection: ConnectionMetadata) -> TransportState:
        statuses.append(dict(connection.tool_statuses))
        return plain(state, connection)

    async def search(args: Any) -> Any:
        await go_on.wait()
        return {"found": args["x"] + 1}

    with anyio.fail_after(60):
        async with (
            serving() as url,
            following(url) as other,
            following(url, converter=converter, tools={"search": search}) as runtime,
        ):
            await other.append("tool search")
            await runtime.wait(lambda: any(statuses[-1]))
            assert list(statuses[-1].values()) == [EXECUTING]
            go_on.set()
            await runtime.wait(lambda: runtime.messages[-1].content != () and _call(runtime).has_result)
            assert "found" in _call(runtime).result
            await runtime.idle()
            assert statuses[-1] == {}


def _call(runtime: AssistantTransportRuntime) -> Any:
    return next((part for part in runtime.messages[-1].content if part.type == "tool-call"), None)


async def test_tool_that_fails_gives_an_error() -> None:
    def broken(args: Any) -> Any:
        raise RuntimeError("no network")

    with anyio.fail_after(60):
        async with serving() as url, following(url, tools={"search": broken}) as runtime:
            await runtime.append("tool search")
            await runtime.idle()
            assert "no network" in _call(runtime).result


async def test_tool_whose_own_task_is_cancelled_gives_an_error() -> None:
    async def broken(args: Any) -> Any:
        task = asyncio.ensure_future(anyio.sleep_forever())
        await anyio.lowlevel.checkpoint()
        task.cancel()
        await task

    with anyio.fail_after(60):
        async with serving() as url, following(url, tools={"search": broken}) as runtime:
            await runtime.append("tool search")
            await runtime.idle()
            assert "CancelledError" in _call(runtime).result
            await runtime.append("still there")
            await runtime.idle()


async def test_tool_is_stopped_when_its_run_is() -> None:
    started, stopped = anyio.Event(), anyio.Event()

    async def slow(args: Any) -> Any:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    with anyio.fail_after(60):
        async with serving() as url, following(url, tools={"search": slow}) as runtime:
            await runtime.append("tool search")
            await started.wait()
            await runtime.cancel_run()
            await stopped.wait()
            await runtime.idle()


async def test_refused_command_is_told_and_no_longer_shown() -> None:
    told: list[Any] = []

    def on_error(error: CommandError, commands: list[Any], update_state: Any) -> None:
        told.append((error.code, len(commands)))
        update_state(lambda state: {**state, "title": "refused"})

    with anyio.fail_after(60):
        async with serving() as url, following(url, on_error=on_error) as runtime:
            with pytest.raises(CommandError) as caught:
                await runtime.send_command({"type": "set-title"})
            assert caught.value.field == "command.title"
            assert told == [("invalid-command", 1)]
            assert runtime.agent_state["title"] == "refused"
            await (await runtime.send_command({"type": "set-title", "title": "x"})).applied()
            await runtime.wait(lambda: runtime.pending_commands == ())
            assert runtime.agent_state["title"] == "x"


async def test_cancel_tells_what_was_pending() -> None:
    told: list[Any] = []

    async def on_cancel(commands: list[Any], update_state: Any) -> None:
        told.append([each.message.text for each in commands])

    with anyio.fail_after(60):
        async with serving() as url, following(url, on_cancel=on_cancel) as runtime:
            await runtime.append("hang")
            await runtime.wait(lambda: texts(runtime)[-1:] == ["You said hang"])
            await runtime.append("later")
            assert texts(runtime)[-1] == "later" or texts(runtime)[-2] == "later"
            await runtime.cancel_run()
            await runtime.idle()
            assert told == [["later"]]
            assert texts(runtime) == ["hang", "You said hang"]


async def test_failed_run_is_shown_where_the_agent_says_so() -> None:
    with anyio.fail_after(60):
        async with serving() as url, following(url) as runtime:
            await runtime.append("refuse")
            await runtime.idle()
            run = runtime.thread.run
            assert run is not None
            assert run.status == "failed"
            assert not runtime.is_running


async def test_thread_that_is_gone_disables_the_runtime() -> None:
    opened: list[Any] = []
    ready, leave = anyio.Event(), anyio.Event()

    async def connected(url: str) -> None:
        async with connect(url) as connection:
            opened.append(connection)
            ready.set()
            await leave.wait()

    with anyio.fail_after(60):
        async with serving() as url, anyio.create_task_group() as tasks:
            tasks.start_soon(connected, url)
            await ready.wait()
            async with AssistantTransportRuntime(opened[0], "t", converter=LangChainConverter()) as runtime:
                leave.set()
                await runtime.wait(lambda: runtime.failure is not None)
                assert runtime.is_disabled
                with pytest.raises(NotNow):
                    await runtime.append("late")


async def test_misuse_is_refused() -> None:
    with anyio.fail_after(60):
        async with serving() as url, connect(url) as connection:
            with pytest.raises(InvalidAdapter) as caught:
                AssistantTransportRuntime(connection, "t", converter=LangChainConverter(), tools={"x": 1})  # type: ignore[dict-item]
            assert caught.value.field == "tools.x"
            runtime = AssistantTransportRuntime(connection, "t", converter=LangChainConverter())
            with pytest.raises(NotNow):
                await runtime.append("early")
            async with runtime:
                with pytest.raises(InvalidMessage):
                    await runtime.append({"role": "assistant", "content": "x"})
                with pytest.raises(InvalidMessage):
                    await runtime.append({"content": []})
                with pytest.raises(NotFound):
                    await runtime.switch_to_branch("x")
