"""A thread that lives here, with a chat model of one function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.support.steps import Steps
from tests.support.vectors import cases
from threadwire.client.errors import (
    InvalidAdapter,
    InvalidMessage,
    MessageNotSent,
    NotFound,
    NotNow,
    NotSupported,
)
from threadwire.client.runtimes.actions import (
    AddToolResultOptions,
    ResumeRun,
    ThreadSuggestion,
    ToolApprovalAnswer,
)
from threadwire.client.runtimes.adapters import LoadedHistory, SpeechState
from threadwire.client.runtimes.local import LocalAdapters, LocalRuntime
from threadwire.messages.chat_model import ChatModelRunOptions, ChatModelRunResult, RunAborted
from threadwire.messages.model import (
    CompleteStatus,
    IncompleteStatus,
    RequiresActionStatus,
    SubmittedFeedback,
    TextMessagePart,
    ThreadAssistantMessage,
    ToolCallMessagePart,
    message_text,
    to_json,
)
from threadwire.messages.repository import (
    ExportedMessageRepository,
    MessageRepository,
    RepositoryItem,
)

pytestmark = pytest.mark.anyio


# the same as in JavaScript


class Scripted:
    """Plays a vector: its model, its history, and what users do."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.names: dict[str, str] = {}
        self.log: list[Any] = []
        self.script: list[Any] = []
        history = Kept(self.log) if case["update"] else AppendOnly(self.log)
        options: dict[str, Any] = {"max_steps": case["maxSteps"]} if "maxSteps" in case else {}
        self.runtime = LocalRuntime(
            self.model,
            human_tools=case.get("humanTools"),
            adapters=LocalAdapters(history=history, suggestion=Suggesting(self.log)),
            **options,
        )

    def name(self, id: str | None) -> str | None:
        return None if id is None else self.names.setdefault(id, f"m{len(self.names)}")

    def id(self, name: str) -> str:
        return next(id for id, each in self.names.items() if each == name)

    def model(self, options: ChatModelRunOptions) -> Any:
        self.log.append(["model", [each.id for each in options.messages], len(options.current().content)])
        given = self.script.pop(0) if self.script else PLAIN
        return whole(given) if given.get("whole") else play(given, options)

    async def perform(self, step: dict[str, Any], raised: list[str]) -> None:
        runtime = self.runtime
        id = self.id(step["id"]) if "id" in step else ""
        text = step.get("text", "text")
        try:
            match step["kind"]:
                case "append":
                    await runtime.append(text)
                case "quiet":
                    await runtime.append({"content": text, "startRun": False})
                case "edit" | "edit-assistant":
                    role = runtime.message(id).role
                    where = {"parentId": runtime.parent_id(id), "sourceId": id}
                    await runtime.append({"role": role, "content": text, **where})
                case "reload":
                    await runtime.reload(id)
                case "resume":
                    stream = step["stream"]
                    await runtime.resume_run(
                        ResumeRun(
                            parent_id=runtime.parent_id(id),
                            source_id=id,
                            stream=lambda options: play(stream, options),
                        )
                    )
                case "switch":
                    await runtime.switch_to_branch(id)
                case "cancel":
                    await runtime.cancel_run()
                case "result":
                    await runtime.add_tool_result(
                        AddToolResultOptions(
                            message_id=id,
                            tool_call_id=step["call"],
                            tool_name="x",
                            result="given",
                            is_error=step["isError"],
                        )
                    )
                case "answer":
                    await runtime.answer_approval(
                        ToolApprovalAnswer(approval_id=step["approval"], approved=step["approved"])
                    )
        except Boom as error:
            raised.append(str(error))


PLAIN = {
    "results": [{"content": [{"type": "text", "text": "plain"}], "metadata": {"steps": [{}]}}],
    "end": "end",
}


async def settle() -> None:
    """Lets all that can go on do so."""
    for _ in range(100):
        await anyio.lowlevel.checkpoint()


class Boom(Exception):
    pass


async def whole(given: Any) -> Any:
    return given["results"][-1]


async def play(given: Any, options: ChatModelRunOptions) -> AsyncIterator[Any]:
    for result in given["results"]:
        yield result
    if given["end"] == "error":
        raise Boom("boom")
    if given["end"] == "abort":
        raise RunAborted
    if given["end"] == "hang":
        await options.abort_signal.wait()
        yield {"content": [{"type": "text", "text": "too late"}]}


class AppendOnly:
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    async def load(self) -> None:
        return None

    async def append(self, item: RepositoryItem) -> None:
        self._note("append", item)

    def _note(self, kind: str, item: RepositoryItem) -> None:
        status = item.message.status.type if isinstance(item.message, ThreadAssistantMessage) else None
        self.log.append([kind, item.message.id, item.parent_id, status])


class Kept(AppendOnly):
    async def update(self, item: RepositoryItem) -> None:
        self._note("update", item)


class Suggesting:
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    async def generate(self, messages: Any) -> list[ThreadSuggestion]:
        self.log.append(["suggest", len(messages)])
        return [ThreadSuggestion(prompt=f"s{len(messages)}")]


def shown(part: Any) -> Any:
    if part.type == "text":
        return part.text
    result = "-" if part.result is msgspec.UNSET else part.result
    return [part.tool_call_id, result, part.is_error, part.approval and to_json(part.approval)]


@pytest.mark.parametrize("case", cases("local"), ids=lambda case: str(len(case["steps"])))
async def test_runs_go_as_in_javascript(case: dict[str, Any]) -> None:
    scripted = Scripted(case)
    name = scripted.name
    async with scripted.runtime as runtime, anyio.create_task_group() as tasks:
        await runtime.loaded()
        for step in case["steps"]:
            scripted.log.clear()
            scripted.script = list(step.get("script", ()))
            raised: list[str] = []
            tasks.start_soon(scripted.perform, step, raised)
            await settle()
            messages = runtime.messages
            told = {key: step[key] for key in ("kind", "id", "script", "stream") if key in step}
            for message, expected in zip(messages, step["shown"], strict=True):
                assert name(message.id) == expected["id"], told
                status = to_json(message.status) if isinstance(message, ThreadAssistantMessage) else None
                assert status == expected["status"], (told, expected)
                if message.role == "assistant":
                    assert [shown(part) for part in message.content] == expected["content"], told
                    metadata = message.metadata
                    counts = [metadata.state, len(metadata.data), len(metadata.steps), metadata.custom]
                    assert counts == expected["metadata"], told
            branches = [[name(id) for id in runtime.branches(message.id)] for message in messages]
            assert branches == step["branches"], told
            log = [
                ["model", [name(id) for id in each[1]], each[2]]
                if each[0] == "model"
                else [each[0], *map(name, each[1:3]), each[3]]
                if each[0] != "suggest"
                else each
                for each in scripted.log
            ]
            assert log == step["log"], told
            assert [each.prompt for each in runtime.suggestions] == step["suggestions"], told
            assert raised == ([step["raised"]] if step["raised"] else []), told
        tasks.cancel_scope.cancel()


# what is better here


def text(*parts: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": part} for part in parts]}


def call(id: str, tool: str = "search", **fields: Any) -> dict[str, Any]:
    return {"type": "tool-call", "toolCallId": id, "toolName": tool, "args": {}, **fields}


def asks(*calls: Any) -> dict[str, Any]:
    return {"content": list(calls), "status": {"type": "requires-action", "reason": "tool-calls"}}


async def hello(options: ChatModelRunOptions) -> AsyncIterator[Any]:
    yield text("Hel")
    yield text("Hello")


def texts(runtime: LocalRuntime) -> list[str]:
    return [message_text(message) for message in runtime.messages]


def last(runtime: LocalRuntime) -> ThreadAssistantMessage:
    message = runtime.messages[-1]
    assert isinstance(message, ThreadAssistantMessage)
    return message


class Hanging:
    """A model that begins to answer, and hangs."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.cancelled = 0

    async def run(self, options: ChatModelRunOptions) -> AsyncIterator[Any]:
        yield text("partial")
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled += 1


async def test_answer_grows_and_is_complete_at_the_end() -> None:
    seen: list[str] = []
    async with LocalRuntime(hello) as runtime:
        runtime.subscribe(lambda: seen.append(texts(runtime)[-1]) if runtime.messages else None)
        await runtime.append("Hi")
        assert texts(runtime) == ["Hi", "Hello"]
        assert last(runtime).status == CompleteStatus("unknown")
        assert not runtime.is_running
    assert [each for at, each in enumerate(seen) if at == 0 or each != seen[at - 1]] == [
        "Hi",
        "",
        "Hel",
        "Hello",
    ]


async def test_plain_coroutine_function_is_a_model() -> None:
    async def model(options: ChatModelRunOptions) -> Any:
        return ChatModelRunResult(content=[TextMessagePart(f"{len(options.messages)} messages")])

    async with LocalRuntime(model) as runtime:
        await runtime.append("Hi")
        assert texts(runtime) == ["Hi", "1 messages"]


async def test_cancel_keeps_what_is_written_and_stops_the_model() -> None:
    model = Hanging()
    with anyio.fail_after(60):
        async with LocalRuntime(model) as runtime, anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.append, "Hi")
            await model.begun.wait()
            assert runtime.is_running
            assert runtime.composer.can_cancel
            await runtime.cancel_run()
            await runtime.idle()
            assert texts(runtime) == ["Hi", "partial"]
            assert last(runtime).status == IncompleteStatus("cancelled")
            assert model.cancelled == 1


async def test_run_outlives_who_waits_for_it() -> None:
    model = Hanging()
    with anyio.fail_after(60):
        async with LocalRuntime(model) as runtime:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runtime.append, "Hi")
                await model.begun.wait()
                tasks.cancel_scope.cancel()
            assert runtime.is_running
            assert model.cancelled == 0
            await runtime.cancel_run()
            await runtime.idle()


async def test_leaving_ends_the_run_as_cancelled_and_keeps_it() -> None:
    model, log = Hanging(), []
    runtime = LocalRuntime(model, adapters=LocalAdapters(history=AppendOnly(log)))
    with anyio.fail_after(60):
        async with runtime, anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.append, "Hi")
            await model.begun.wait()
            tasks.cancel_scope.cancel()
    assert last(runtime).status == IncompleteStatus("cancelled")
    assert [(each[0], each[3]) for each in log] == [("append", None), ("append", "incomplete")]
    with pytest.raises(NotNow):
        await runtime.append("late")


async def test_cancelling_the_block_ends_the_run_as_cancelled() -> None:
    model, log = Hanging(), []
    runtime = LocalRuntime(model, adapters=LocalAdapters(history=AppendOnly(log)))
    with anyio.fail_after(60), anyio.CancelScope() as scope:
        async with runtime, anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.append, "Hi")
            await model.begun.wait()
            scope.cancel()
    assert last(runtime).status == IncompleteStatus("cancelled")
    assert [each[3] for each in log] == [None, "incomplete"]


def test_runtime_can_be_made_before_there_is_an_event_loop() -> None:
    runtime = LocalRuntime(hello)

    async def talk() -> None:
        async with runtime:
            await runtime.append("Hi")

    anyio.run(talk)
    assert texts(runtime) == ["Hi", "Hello"]


async def test_newer_run_ends_the_older_one_at_once() -> None:
    model = Hanging()
    with anyio.fail_after(60):
        async with LocalRuntime(model) as runtime, anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.append, "one")
            await model.begun.wait()
            model.begun = anyio.Event()
            tasks.start_soon(runtime.append, "two")
            await model.begun.wait()
            assert texts(runtime) == ["one", "partial", "two", "partial"]
            first = runtime.messages[1]
            assert isinstance(first, ThreadAssistantMessage)
            assert first.status == IncompleteStatus("cancelled")
            assert runtime.is_running
            await runtime.cancel_run()


async def test_reset_ends_the_run() -> None:
    model = Hanging()
    with anyio.fail_after(60):
        async with LocalRuntime(model) as runtime, anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.append, "one")
            await model.begun.wait()
            await runtime.reset([{"role": "user", "content": "new"}])
            await runtime.idle()
            await settle()
            assert texts(runtime) == ["new"]
            assert model.cancelled == 1


async def test_error_is_raised_and_stands_in_the_message() -> None:
    async def model(options: ChatModelRunOptions) -> AsyncIterator[Any]:
        yield text("so far")
        raise RuntimeError("no credit")

    async with LocalRuntime(model) as runtime:
        with pytest.raises(RuntimeError, match="no credit"):
            await runtime.append("Hi")
        assert texts(runtime) == ["Hi", "so far"]
        status = last(runtime).status
        assert status == IncompleteStatus("error", {"code": "unknown", "message": "no credit"})
        assert runtime.suggestions == ()


async def test_model_without_reported_steps_is_called_max_steps_times() -> None:
    calls = []

    async def model(options: ChatModelRunOptions) -> Any:
        calls.append(options.current().content)
        return asks(call(f"c{len(calls)}", result=1))

    async with LocalRuntime(model, max_steps=3) as runtime:
        await runtime.append("Hi")
        assert len(calls) == 3
        assert last(runtime).status == IncompleteStatus("tool-calls")
        assert len(last(runtime).content) == 3


async def test_result_from_a_human_lets_the_run_go_on() -> None:
    async def model(options: ChatModelRunOptions) -> Any:
        given = options.current().content
        return text("thanks") if given else asks(call("c1", "ask"), call("c2"))

    async with LocalRuntime(model, human_tools=["ask"], max_steps=5) as runtime:
        await runtime.append("Hi")
        assert last(runtime).status == RequiresActionStatus("tool-calls")
        await give(runtime, "c1", "yes")
        await runtime.idle()
        parts = last(runtime).content
        assert [part.type for part in parts] == ["tool-call", "tool-call", "text"]
        assert isinstance(parts[0], ToolCallMessagePart)
        assert (parts[0].result, parts[0].is_error) == ("yes", False)
        before = runtime.messages
        await give(runtime, "c1", "again")
        assert len(runtime.messages) == len(before)
        assert not runtime.is_running
        with pytest.raises(NotFound):
            await give(runtime, "c9", "x")


async def give(runtime: LocalRuntime, tool_call_id: str, result: Any, message_id: str | None = None) -> None:
    await runtime.add_tool_result(
        AddToolResultOptions(
            message_id=message_id or runtime.messages[-1].id,
            tool_call_id=tool_call_id,
            tool_name="ask",
            result=result,
        )
    )


async def test_tools_are_executed_between_the_calls_of_the_model() -> None:
    async def find(args: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return {"found": args["q"]}

    def broken(args: Any) -> Any:
        raise RuntimeError("no network")

    async def model(options: ChatModelRunOptions) -> Any:
        given = options.current().content
        if given:
            return text("done")
        return asks(call("c1", "find", args={"q": 1}), call("c2", "broken"), call("c3", "broken", result=0))

    log: list[Any] = []
    async with LocalRuntime(
        model, tools={"find": find, "broken": broken}, adapters=LocalAdapters(history=Kept(log))
    ) as runtime:
        await runtime.append("Hi")
        parts = last(runtime).content
        results = [part.result for part in parts if isinstance(part, ToolCallMessagePart)]
        assert results == [{"found": 1}, {"error": "no network"}, 0]
        assert message_text(last(runtime)) == "done"
        assert [(each[0], each[3]) for each in log] == [("append", None), ("append", "complete")]


async def test_tool_is_executed_once_it_is_approved() -> None:
    executed: list[Any] = []

    async def model(options: ChatModelRunOptions) -> Any:
        given = options.current().content
        return text("done") if given else asks(call("c1", "deploy", approval={"id": "p"}))

    async with LocalRuntime(model, tools={"deploy": executed.append}) as runtime:
        await runtime.append("Hi")
        assert (executed, last(runtime).status) == ([], RequiresActionStatus("tool-calls"))
        await runtime.respond_to_approval("c1", approved=True)
        await runtime.idle()
        assert executed == [{}]
        assert message_text(last(runtime)) == "done"
        await runtime.append("again")
        await runtime.respond_to_approval("c1", approved=False, reason="not today")
        await runtime.idle()
        assert executed == [{}]


async def test_cancel_stops_the_tools() -> None:
    started, stopped = anyio.Event(), anyio.Event()

    async def slow(args: Any) -> Any:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    async def model(options: ChatModelRunOptions) -> Any:
        return asks(call("c1", "slow"))

    with anyio.fail_after(60):
        async with LocalRuntime(model, tools={"slow": slow}) as runtime, anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.append, "Hi")
            await started.wait()
            assert runtime.is_running
            await runtime.cancel_run()
            await stopped.wait()
            await runtime.idle()
            assert last(runtime).status == IncompleteStatus("cancelled")


async def test_result_for_an_older_message_leaves_the_later_ones() -> None:
    async def model(options: ChatModelRunOptions) -> Any:
        return asks(call("c1")) if len(options.messages) == 1 else text("fine")

    async with LocalRuntime(model) as runtime:
        await runtime.append("one")
        asking = runtime.messages[-1].id
        await runtime.append("two")
        await give(runtime, "c1", "late", asking)
        await runtime.idle()
        assert texts(runtime) == ["one", "", "two", "fine"]
        part = runtime.message(asking).content[0]
        assert isinstance(part, ToolCallMessagePart)
        assert part.result == "late"


async def test_result_that_comes_while_the_model_writes_is_kept() -> None:
    seen = anyio.Event()
    go_on = anyio.Event()

    async def model(options: ChatModelRunOptions) -> AsyncIterator[Any]:
        if options.current().content:
            yield text("done")
            return
        yield {"content": [call("c1")]}
        seen.set()
        await go_on.wait()
        yield asks(call("c1"))

    with anyio.fail_after(60):
        async with LocalRuntime(model) as runtime, anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.append, "Hi")
            await seen.wait()
            await give(runtime, "c1", "early")
            go_on.set()
            await runtime.idle()
            assert [part.type for part in last(runtime).content] == ["tool-call", "text"]
            assert last(runtime).content[0].result == "early"  # type: ignore[union-attr]


async def test_feedback_during_a_run_is_kept() -> None:
    class Feedback:
        def __init__(self) -> None:
            self.given: list[Any] = []

        def submit(self, message: Any, type: Any, comment: str | None) -> None:
            self.given.append((message_text(message), type, comment))

    model, feedback = Hanging(), Feedback()
    with anyio.fail_after(60):
        async with LocalRuntime(model, adapters=LocalAdapters(feedback=feedback)) as runtime:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runtime.append, "Hi")
                await model.begun.wait()
                await runtime.submit_feedback(last(runtime).id, "negative", "  too slow ")
                await runtime.submit_feedback(runtime.messages[0].id, "positive")
                await runtime.cancel_run()
            assert last(runtime).metadata.submitted_feedback == SubmittedFeedback("negative", "too slow")
            assert feedback.given == [("partial", "negative", "too slow"), ("Hi", "positive", None)]


async def test_history_is_there_before_a_message_goes_to_its_end() -> None:
    ready = anyio.Event()
    tree = ExportedMessageRepository.from_messages(
        [{"role": "user", "content": "old"}, {"role": "assistant", "content": "answer"}]
    )

    class Slow(AppendOnly):
        async def load(self) -> Any:
            await ready.wait()
            return tree

    with anyio.fail_after(60):
        async with LocalRuntime(hello, adapters=LocalAdapters(history=Slow([]))) as runtime:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runtime.append, "new")
                await settle()
                assert runtime.is_loading
                ready.set()
            assert texts(runtime) == ["old", "answer", "new", "Hello"]
            assert not runtime.is_loading


async def test_history_that_cannot_be_loaded_is_raised_to_who_needs_it() -> None:
    class Broken(AppendOnly):
        async def load(self) -> Any:
            raise OSError("disk")

    async with LocalRuntime(hello, adapters=LocalAdapters(history=Broken([]))) as runtime:
        with pytest.raises(OSError, match="disk"):
            await runtime.loaded()


async def test_history_can_go_on_with_a_run() -> None:
    tree = ExportedMessageRepository.from_messages([{"role": "user", "content": "old"}])

    class Resuming(AppendOnly):
        async def load(self) -> Any:
            return LoadedHistory(messages=tree, resume=True)

        async def resume(self, options: ChatModelRunOptions) -> AsyncIterator[Any]:
            yield text("went on")

    log: list[Any] = []
    async with LocalRuntime(hello, adapters=LocalAdapters(history=Resuming(log))) as runtime:
        await runtime.loaded()
        await runtime.idle()
        assert texts(runtime) == ["old", "went on"]
        assert [each[0] for each in log] == ["append"]


async def test_message_that_the_history_refuses_is_raised_after_the_run() -> None:
    class Refusing(AppendOnly):
        async def append(self, item: RepositoryItem) -> None:
            if item.message.role == "user":
                raise OSError("disk")

    async with LocalRuntime(hello, adapters=LocalAdapters(history=Refusing([]))) as runtime:
        with pytest.raises(OSError, match="disk"):
            await runtime.append("Hi")
        assert texts(runtime) == ["Hi", "Hello"]


async def test_deleting_goes_through_the_history() -> None:
    deleted: list[Any] = []

    class Deleting(AppendOnly):
        async def delete(self, items: list[RepositoryItem]) -> None:
            deleted.extend(message_text(item.message) for item in items)

    async with LocalRuntime(hello, adapters=LocalAdapters(history=Deleting([]))) as runtime:
        assert runtime.capabilities.delete
        await runtime.append("Hi")
        await runtime.delete_message(runtime.messages[-1].id)
        assert (texts(runtime), deleted) == (["Hi"], ["Hello"])
        with pytest.raises(NotFound):
            await runtime.delete_message("x")


async def test_thread_that_cannot_be_made_gives_the_message_back() -> None:
    async def refuse() -> None:
        raise OSError("no server")

    async with LocalRuntime(hello, initialize=refuse) as runtime:
        runtime.composer.text = "Hi"
        with pytest.raises(MessageNotSent):
            await runtime.composer.send()
        assert (texts(runtime), runtime.composer.text) == ([], "Hi")


async def test_queued_messages_go_one_after_the_other() -> None:
    model = Hanging()
    with anyio.fail_after(60):
        async with LocalRuntime(model, queue=True) as runtime:
            await runtime.append("one")
            await model.begun.wait()
            await runtime.append({"content": "two", "steer": False})
            await runtime.append({"content": "three", "steer": True})
            assert [item.prompt for item in runtime.composer.queue] == ["three", "two"]
            runtime.composer.remove_queue_item(runtime.composer.queue[1].id)
            model.begun = anyio.Event()
            runtime._active.cancel()  # type: ignore[union-attr]
            await model.begun.wait()
            assert texts(runtime) == ["one", "partial", "three", "partial"]
            assert runtime.composer.queue == ()
            await runtime.append("four")
            await runtime.cancel_run()
            assert runtime.composer.queue == ()


async def test_initial_messages_wait_for_what_can_be_answered() -> None:
    asking = {
        "role": "assistant",
        "id": "a",
        "content": [call("c1", approval={"id": "p"})],
        "status": {"type": "requires-action", "reason": "interrupt"},
    }

    async def model(options: ChatModelRunOptions) -> Any:
        return text("deployed")

    messages = [{"role": "user", "id": "u", "content": "go"}, asking]
    async with LocalRuntime(model, initial_messages=messages) as runtime:
        assert last(runtime).status == RequiresActionStatus("tool-calls")
        await runtime.respond_to_approval("c1", approved=True)
        await runtime.idle()
        assert message_text(last(runtime)) == "deployed"
        with pytest.raises(NotNow):
            await runtime.respond_to_approval("c1", approved=True)


async def test_speech_ends_when_it_is_stopped() -> None:
    spoken: list[str] = []

    class Speech:
        async def speak(self, text: str) -> None:
            spoken.append(text)
            await anyio.sleep_forever()

    with anyio.fail_after(60):
        async with LocalRuntime(hello, adapters=LocalAdapters(speech=Speech())) as runtime:
            await runtime.append("Hi")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runtime.speak, last(runtime).id)
                await settle()
                assert runtime.speech == SpeechState(last(runtime).id)
                tasks.start_soon(runtime.speak, runtime.messages[0].id)
                await settle()
                assert runtime.speech == SpeechState(runtime.messages[0].id)
                runtime.stop_speaking()
            assert runtime.speech is None
            assert spoken == ["Hello", "Hi"]
            with pytest.raises(NotNow):
                runtime.stop_speaking()


async def test_suggestions_are_those_after_the_newest_run() -> None:
    class Better:
        async def generate(self, messages: Any) -> AsyncIterator[list[ThreadSuggestion]]:
            yield [ThreadSuggestion(prompt="one")]
            yield [ThreadSuggestion(prompt="one"), ThreadSuggestion(prompt="two")]

    async with LocalRuntime(hello, adapters=LocalAdapters(suggestion=Better())) as runtime:
        await runtime.append("Hi")
        await settle()
        assert [each.prompt for each in runtime.suggestions] == ["one", "two"]


async def test_misuse_is_refused() -> None:
    with pytest.raises(InvalidAdapter) as caught:
        LocalRuntime(7)  # type: ignore[arg-type]
    assert caught.value.field == "chat_model"
    with pytest.raises(InvalidAdapter):
        LocalRuntime(hello, max_steps=-1)
    with pytest.raises(InvalidMessage):
        LocalRuntime(hello, initial_messages=[{"role": "user"}])
    with pytest.raises(NotNow):
        await LocalRuntime(hello).append("Hi")
    async with LocalRuntime(hello) as runtime:
        await runtime.append("Hi")
        for attempt in (
            lambda: runtime.resume_run(ResumeRun(parent_id=None)),
            lambda: runtime.resume_tool_call("c", 1),
            lambda: runtime.delete_message(runtime.messages[0].id),
            lambda: runtime.speak(runtime.messages[0].id),
            lambda: runtime.reload(runtime.messages[0].id),
            lambda: give(runtime, "c", 1, runtime.messages[0].id),
        ):
            with pytest.raises(NotSupported):
                await attempt()
        for attempt in (
            lambda: runtime.reload("x"),
            lambda: runtime.switch_to_branch("x"),
            lambda: runtime.append({"content": "x", "parentId": "x"}),
            lambda: runtime.answer_approval(ToolApprovalAnswer(approval_id="x", approved=True)),
        ):
            with pytest.raises(NotFound):
                await attempt()


async def test_model_that_gives_nonsense_fails_its_run() -> None:
    for given in (7, {"content": 7}, {"content": [{"type": "?"}]}):

        async def model(options: ChatModelRunOptions, given: Any = given) -> Any:
            return given

        async with LocalRuntime(model) as runtime:
            with pytest.raises(InvalidMessage):
                await runtime.append("Hi")
            assert isinstance(last(runtime).status, IncompleteStatus)
    async with LocalRuntime(lambda options: 7) as runtime:  # type: ignore[arg-type, return-value]
        with pytest.raises(InvalidAdapter):
            await runtime.append("Hi")


async def test_token_takes_the_same_steps_and_no_copy_in_a_long_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies = 0
    messages = MessageRepository.messages

    def counted(self: MessageRepository, head_id: str | None = None) -> Any:
        nonlocal copies
        copies += 1
        return messages(self, head_id)

    async def steps_of(length: int) -> tuple[int, int]:
        steps = Steps()
        taken = (0, 0)

        async def model(options: ChatModelRunOptions) -> AsyncIterator[dict[str, Any]]:
            nonlocal taken
            written, before = "", 0
            for token in range(22):
                if token == 2:
                    before = copies
                    steps.begin()
                written += "token "
                yield {"content": [{"type": "text", "text": written}]}
            taken = steps.end(), copies - before

        past = [{"role": "user" if at % 2 else "assistant", "content": f"{at}"} for at in range(length)]
        async with LocalRuntime(model, initial_messages=past) as runtime:
            runtime.subscribe(
                lambda: (
                    runtime.is_running,
                    runtime.can_cancel,
                    runtime.state,
                    runtime.composer.can_send,
                    runtime.composer.can_cancel,
                )
            )
            await runtime.append("hello")
            assert len(runtime.messages) == length + 2
        return taken

    monkeypatch.setattr(MessageRepository, "messages", counted)
    short, long = await steps_of(10), await steps_of(2000)
    assert short == long
    assert long[1] == 0


async def stray_cancellation() -> None:
    """Waits for a task that somebody else has cancelled."""
    task = asyncio.ensure_future(anyio.sleep_forever())
    await anyio.lowlevel.checkpoint()
    task.cancel()
    await task


async def test_cancellation_of_something_the_model_waits_for_ends_its_run_alone() -> None:
    async def model(options: ChatModelRunOptions) -> AsyncIterator[Any]:
        yield text("half")
        if len(options.messages) == 1:
            await stray_cancellation()

    with anyio.fail_after(60):
        async with LocalRuntime(model) as runtime:
            await runtime.append("one")
            assert last(runtime).status == IncompleteStatus("cancelled")
            await runtime.append("two")
            assert last(runtime).status == CompleteStatus("unknown")
            assert texts(runtime) == ["one", "half", "two", "half"]


async def test_cancellation_of_something_a_tool_waits_for_is_its_error() -> None:
    async def model(options: ChatModelRunOptions) -> Any:
        if options.current().content:
            return text("done")
        return asks(call("c1", "broken"), call("c2", "fine"))

    async def fine(arguments: Any) -> str:
        return "found"

    async def broken(arguments: Any) -> None:
        await stray_cancellation()

    with anyio.fail_after(60):
        async with LocalRuntime(model, tools={"broken": broken, "fine": fine}) as runtime:
            await runtime.append("go")
            first, second, answer = last(runtime).content
            assert isinstance(first, ToolCallMessagePart)
            assert isinstance(second, ToolCallMessagePart)
            assert (first.result, first.is_error) == ({"error": "CancelledError"}, True)
            assert (second.result, second.is_error) == ("found", False)
            assert answer == TextMessagePart("done")


async def test_cancellation_of_something_the_history_waits_for_is_raised_as_an_error() -> None:
    class Broken(AppendOnly):
        async def append(self, item: RepositoryItem) -> None:
            await stray_cancellation()

    with anyio.fail_after(60):
        async with LocalRuntime(hello, adapters=LocalAdapters(history=Broken([]))) as runtime:
            with pytest.raises(RuntimeError, match="cancelled"):
                await runtime.append("one")
            assert texts(runtime) == ["one", "Hello"]


async def test_runs_that_are_superseded_before_they_begin_are_cancelled() -> None:
    async with LocalRuntime(hello) as runtime:
        async with anyio.create_task_group() as tasks:
            for word in ("one", "two", "three"):
                tasks.start_soon(runtime.append, word)
        assert texts(runtime) == ["one", "", "two", "", "three", "Hello"]
        statuses = [each.status for each in runtime.messages if isinstance(each, ThreadAssistantMessage)]
        assert statuses == [IncompleteStatus("cancelled")] * 2 + [CompleteStatus("unknown")]


async def test_history_that_cannot_be_loaded_takes_no_messages_until_there_are_others() -> None:
    class Broken(AppendOnly):
        async def load(self) -> Any:
            raise OSError("disk")

    log: list[Any] = []
    async with LocalRuntime(hello, adapters=LocalAdapters(history=Broken(log))) as runtime:
        for _ in range(2):
            with pytest.raises(OSError, match="disk"):
                await runtime.append("would stand beside what is kept")
        assert (texts(runtime), log) == ([], [])
        await runtime.reset([{"role": "user", "content": "anew"}])
        await runtime.append("hi")
        assert texts(runtime) == ["anew", "hi", "Hello"]


async def test_history_that_is_none_is_named() -> None:
    class Plain:
        def load(self) -> Any:
            return [{"role": "user", "content": "no tree"}]

        def append(self, item: RepositoryItem) -> None:
            raise AssertionError

    async with LocalRuntime(hello, adapters=LocalAdapters(history=Plain())) as runtime:  # type: ignore[arg-type]
        with pytest.raises(InvalidAdapter, match="ExportedMessageRepository or None, not list") as caught:
            await runtime.append("hi")
        assert caught.value.field == "history.load"


async def test_messages_that_are_sent_while_a_run_begins_keep_their_order() -> None:
    made = anyio.Event()
    gate = anyio.Event()

    async def model(options: ChatModelRunOptions) -> Any:
        await gate.wait()
        return text(f"to {message_text(options.messages[-1])}")

    with anyio.fail_after(60):
        async with LocalRuntime(model, queue=True, initialize=made.wait) as runtime:
            await runtime.append("one")
            await runtime.append("two")  # the first one's thread is being made: no run goes on yet
            made.set()
            await runtime.wait(lambda: runtime.is_running)
            await runtime.append("three")
            gate.set()
            await runtime.wait(lambda: "to three" in texts(runtime))
            assert texts(runtime) == ["one", "to one", "two", "to two", "three", "to three"]


async def test_queue_of_a_thread_that_was_replaced_is_empty_and_goes_on() -> None:
    model = Hanging()
    past = [{"role": "user", "content": "past"}, {"role": "assistant", "id": "a", "content": "answer"}]
    with anyio.fail_after(60):
        async with LocalRuntime(model, initial_messages=past, queue=True) as runtime:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runtime.reload, "a")
                await model.begun.wait()
                await runtime.append("belongs to the old thread")
                await runtime.reset()
                assert runtime.queue == ()
            model.begun = anyio.Event()
            await runtime.append("new")
            await model.begun.wait()
            assert texts(runtime) == ["new", "partial"]


async def test_queued_message_whose_thread_cannot_be_made_lets_the_next_one_go() -> None:
    tries = 0

    async def make() -> None:
        nonlocal tries
        tries += 1
        await anyio.lowlevel.checkpoint()
        if tries == 1:
            raise OSError("down")

    with anyio.fail_after(60):
        async with LocalRuntime(hello, queue=True, initialize=make) as runtime:
            await runtime.append("one")
            await runtime.append("two")
            await runtime.wait(lambda: "Hello" in texts(runtime))
            assert texts(runtime) == ["two", "Hello"]
