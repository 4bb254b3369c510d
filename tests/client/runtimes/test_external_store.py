"""A thread whose messages somebody else owns."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.support.steps import Steps
from tests.support.vectors import cases
from threadwire.client.errors import (
    InvalidAdapter,
    InvalidMessage,
    NotFound,
    NotNow,
    NotSupported,
)
from threadwire.client.runtimes.actions import (
    AddToolResultOptions,
    AppendMessage,
    ResumeRun,
    StartRun,
    ToolApprovalAnswer,
)
from threadwire.client.runtimes.external_store import (
    BranchChange,
    ExternalStoreAdapter,
    ExternalStoreRuntime,
    RuntimeAdapters,
)
from threadwire.client.runtimes.queue import MessageQueue
from threadwire.messages.external import ExternalMessageConverter
from threadwire.messages.like import from_thread_message_like
from threadwire.messages.model import ThreadMessage, message_text, to_json
from threadwire.messages.repository import ExportedMessageRepository, RepositoryItem

pytestmark = pytest.mark.anyio


async def nothing(*args: Any) -> None:
    pass


def message(id: str, role: str = "user", text: str | None = None) -> ThreadMessage:
    return from_thread_message_like({"id": id, "role": role, "content": id if text is None else text})


def ids(runtime: ExternalStoreRuntime[Any]) -> list[str]:
    return [each.id for each in runtime.messages]


def runtime_of(*messages: ThreadMessage, **options: Any) -> ExternalStoreRuntime[ThreadMessage]:
    return ExternalStoreRuntime(ExternalStoreAdapter(messages=list(messages), on_new=nothing, **options))


# the same as in JavaScript


@pytest.mark.parametrize("case", cases("capabilities"), ids=lambda case: str(len(case["handlers"])))
def test_capabilities_follow_from_what_is_given_as_in_javascript(case: dict[str, Any]) -> None:
    runtime = runtime_of(
        **dict.fromkeys(case["handlers"], nothing),
        adapters=RuntimeAdapters(**dict.fromkeys(case["adapters"], object())),
        copy=case["copy"],
    )
    assert to_json(runtime.capabilities) == case["expected"]


class Owner:
    """Keeps messages as the vectors' owner does."""

    def __init__(self) -> None:
        self.count = 0
        self.messages: list[Any] = []
        self.is_running = False
        self.calls: list[Any] = []
        self.known: set[str] = set()
        self.runtime: ExternalStoreRuntime[Any] = ExternalStoreRuntime(self.adapter())

    def adapter(self) -> ExternalStoreAdapter[Any]:
        return ExternalStoreAdapter(
            messages=self.messages,
            is_running=self.is_running,
            convert_message=convert,
            on_new=self.on_new,
            on_edit=self.on_edit,
            on_reload=self.on_reload,
            on_cancel=self.on_cancel,
            set_messages=self.set_messages,
        )

    def show(self) -> None:
        self.runtime.set_adapter(self.adapter())

    def next(self, role: str, text: str | None = None) -> dict[str, Any]:
        id = f"h{self.count}"
        self.count += 1
        self.known.add(id)
        return {"id": id, "role": role, "content": [{"type": "text", "text": id if text is None else text}]}

    def named(self, id: str | None) -> str | None:
        return id if id is None or id in self.known else "<new>"

    def index(self, id: str | None) -> int:
        return next((at for at, each in enumerate(self.messages) if each["id"] == id), -1)

    async def on_new(self, message: AppendMessage) -> None:
        text = message_text(message)
        self.calls.append(["new", self.named(message.parent_id), text])
        self.messages = [*self.messages, self.next("user", text)]
        self.show()

    async def on_edit(self, message: AppendMessage) -> None:
        self.calls.append(["edit", self.named(message.parent_id), self.named(message.source_id)])
        kept = self.messages[: self.index(message.parent_id) + 1]
        self.messages = [*kept, self.next("user", message_text(message))]
        self.show()

    async def on_reload(self, parent_id: str | None, run: StartRun) -> None:
        self.calls.append(["reload", self.named(parent_id)])
        self.messages = self.messages[: self.index(parent_id) + 1]
        self.is_running = True
        self.show()

    async def on_cancel(self) -> None:
        self.calls.append(["cancel"])
        self.is_running = False
        self.show()

    def set_messages(self, messages: Any) -> None:
        self.calls.append(["set", [each["id"] for each in messages]])
        self.messages = messages
        self.show()


def convert(message: Any) -> Any:
    return message


async def perform(owner: Owner, step: dict[str, Any]) -> None:
    runtime = owner.runtime
    match step["kind"]:
        case "new":
            await runtime.append(step["text"])
        case "answer":
            owner.is_running = True
            owner.messages = [*owner.messages, owner.next("assistant")]
            owner.show()
        case "stream":
            owner.is_running = True
            last = owner.messages[-1]
            grown = {**last, "content": [{"type": "text", "text": last["content"][0]["text"] + "+"}]}
            owner.messages = [*owner.messages[:-1], grown]
            owner.show()
        case "stop":
            owner.is_running = False
            owner.show()
        case "cut":
            owner.messages = owner.messages[: step["at"]]
            owner.show()
        case "cancel":
            await runtime.cancel_run()
            runtime.composer.text = ""
        case "edit":
            await runtime.append(
                {"content": "edited", "parentId": runtime.parent_id(step["id"]), "sourceId": step["id"]}
            )
        case "reload":
            await runtime.reload(step["id"])
        case "switch":
            await runtime.switch_to_branch(step["id"])
        case "delete":
            await runtime.delete_message(step["id"])


@pytest.mark.parametrize("case", cases("external_store"), ids=lambda case: str(len(case["steps"])))
async def test_owner_is_told_and_shown_the_same_as_in_javascript(case: dict[str, Any]) -> None:
    owner = Owner()
    for step in case["steps"]:
        owner.calls.clear()
        await perform(owner, step)
        shown = owner.runtime.messages
        assert owner.calls == step["calls"], step
        assert [owner.named(each.id) for each in shown] == step["shown"], step
        statuses = [each.status.type if each.role == "assistant" else None for each in shown]
        assert statuses == step["statuses"], step
        branches = [[owner.named(id) for id in owner.runtime.branches(each.id)] for each in shown]
        assert branches == step["branches"], step
        assert owner.is_running == step["running"], step


# the owner's messages


async def test_deleting_a_reply_shows_another_one() -> None:
    owner = Owner()
    await owner.runtime.append("hi")
    for _ in range(2):
        owner.messages = [owner.messages[0], owner.next("assistant")]
        owner.show()
    assert owner.runtime.branches("h2") == ("h1", "h2")
    await owner.runtime.delete_message("h2")
    assert ids(owner.runtime) == ["h0", "h1"]
    assert [each["id"] for each in owner.messages] == ["h0", "h1"]


async def test_deletion_that_the_owner_declines_deletes_nothing() -> None:
    runtime = runtime_of(message("a"), message("b"), on_delete=nothing)
    await runtime.delete_message("b")
    assert ids(runtime) == ["a", "b"]
    runtime.update(messages=[message("a")])
    assert ids(runtime) == ["a"]
    with pytest.raises(NotFound):
        runtime.message("b")


async def test_failed_deletion_is_raised_and_forgotten() -> None:
    async def fail(message_id: str) -> None:
        raise RuntimeError("no")

    runtime = runtime_of(message("a"), message("b"), on_delete=fail)
    with pytest.raises(RuntimeError, match="no"):
        await runtime.delete_message("b")
    assert ids(runtime) == ["a", "b"]


async def test_of_two_messages_with_one_id_the_last_is_shown() -> None:
    runtime = runtime_of(message("a", text="1"), message("b"), message("a", text="2"))
    assert [message_text(each) for each in runtime.messages] == ["b", "2"]
    kept = runtime.messages
    runtime.update(messages=[message("a", text="1"), *kept, message("c")])
    assert ids(runtime) == ["b", "a", "c"]
    runtime.update(messages=[*kept, message("c"), message("b", text="later")])
    assert [message_text(each) for each in runtime.messages] == ["2", "c", "later"]


async def test_answer_on_its_way_has_a_place_of_its_own_until_it_is_there() -> None:
    runtime = runtime_of(message("u"), is_running=True)
    waiting = runtime.messages[-1]
    assert (waiting.role, waiting.metadata.is_optimistic) == ("assistant", True)
    runtime.update(messages=list(runtime.adapter.messages or ()), suggestions=())
    assert runtime.messages[-1] is waiting
    assert [each.message.id for each in runtime.export().messages] == ["u"]
    runtime.update(messages=[message("u"), message("a", "assistant")])
    assert ids(runtime) == ["u", "a"]
    assert runtime.branches("a") == ("a",)


async def test_repository_of_the_owner_is_shown_with_its_branches() -> None:
    def tree(head_id: str, *items: tuple[str, str | None]) -> ExportedMessageRepository:
        messages = tuple(RepositoryItem(message=message(id), parent_id=parent) for id, parent in items)
        return ExportedMessageRepository(messages=messages, head_id=head_id)

    told: list[Any] = []
    runtime: ExternalStoreRuntime[Any] = ExternalStoreRuntime(
        ExternalStoreAdapter(
            message_repository=tree("b", ("a", None), ("b", "a"), ("c", "a")),
            on_new=nothing,
            set_messages=lambda messages: told.append([each.id for each in messages]),
            on_branch_change=told.append,
        )
    )
    assert ids(runtime) == ["a", "b"]
    assert runtime.branches("b") == ("b", "c")
    await runtime.switch_to_branch("c")
    assert told == [["a", "c"], BranchChange(head_id="c", visible_message_ids=("a", "c"))]
    assert ids(runtime) == ["a", "b"]
    runtime.update(message_repository=tree("c", ("a", None), ("b", "a"), ("c", "a")))
    assert ids(runtime) == ["a", "c"]
    runtime.update(message_repository=tree("d", ("a", None), ("d", "a")))
    assert runtime.branches("d") == ("d",)
    with pytest.raises(NotFound):
        runtime.update(message_repository=tree("x", ("x", "missing")))
    assert ids(runtime) == ["a", "d"]


async def test_switching_branches_tells_once_of_each_other_head() -> None:
    changes: list[BranchChange] = []
    runtime = runtime_of(message("a"), message("b"), set_messages=nothing, on_branch_change=changes.append)
    runtime.update(messages=[message("a"), message("c")])
    await runtime.switch_to_branch("b")
    await runtime.switch_to_branch("b")
    assert [(each.head_id, each.visible_message_ids) for each in changes] == [("b", ("a", "b"))]
    assert ids(runtime) == ["a", "b"]


async def test_import_replaces_all_messages_and_tells_the_owner() -> None:
    told: list[Any] = []
    runtime = runtime_of(message("a"), on_import=lambda messages: told.append([each.id for each in messages]))
    exported = runtime.export()
    with pytest.raises(NotFound):
        await runtime.load(
            ExportedMessageRepository(messages=(RepositoryItem(message=message("x"), parent_id="?"),))
        )
    assert ids(runtime) == ["a"]
    await runtime.reset([{"id": "n", "role": "user", "content": "new"}])
    assert (ids(runtime), told) == (["n"], [["n"]])
    await runtime.load(exported)
    assert ids(runtime) == ["a"]


@pytest.mark.parametrize("converted", [False, True])
async def test_list_may_be_changed_in_its_place(converted: bool) -> None:
    def made(id: str, text: str) -> Any:
        return {"id": id, "role": "user", "content": text} if converted else message(id, text=text)

    mine = [made("a", "one")]
    options: dict[str, Any] = {"convert_message": lambda like: like} if converted else {}
    runtime = ExternalStoreRuntime(
        ExternalStoreAdapter(messages=mine, on_new=nothing, set_messages=nothing, **options)
    )
    mine.append(made("b", "two"))
    runtime.update(messages=mine)
    assert [message_text(each) for each in runtime.messages] == ["one", "two"]
    mine[1] = made("b", "three")
    runtime.update(extras="something else")
    assert [message_text(each) for each in runtime.messages] == ["one", "three"]
    await runtime.delete_message("b")
    runtime.update(extras="nothing new in the list: what is shown stays")
    assert ids(runtime) == ["a"]
    mine.clear()
    runtime.update(messages=mine)
    assert runtime.messages == ()


async def test_updates_are_announced_to_subscribers_until_they_leave() -> None:
    runtime = runtime_of(message("a"))
    seen: list[list[str]] = []
    leave = runtime.subscribe(lambda: seen.append(ids(runtime)))
    runtime.update(messages=[message("a"), message("b")])
    leave()
    runtime.update(messages=[])
    assert seen == [["a", "b"]]


async def test_failing_subscriber_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    runtime = runtime_of(message("a"))
    seen: list[int] = []
    runtime.subscribe(lambda: 1 / 0)
    runtime.subscribe(lambda: seen.append(1))
    runtime.update(is_running=True)
    assert seen == [1]
    assert "a subscriber failed" in caplog.text


async def test_change_is_waited_for() -> None:
    runtime = runtime_of()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.wait, lambda: ids(runtime) == ["a"])
            await anyio.lowlevel.checkpoint()
            runtime.update(messages=[message("a")])


# misuse


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"on_edit": "yes"}, "on_edit"),
        ({"on_new": None}, "on_new"),
        ({"messages": None}, "messages"),
        ({"messages": "text"}, "messages"),
        ({"messages": [message("a"), {"role": "user"}]}, "messages.1"),
        ({"is_disabled": 1}, "is_disabled"),
        ({"message_repository": {}}, "message_repository"),
        ({"convert_message": 3}, "convert_message"),
        ({"on_everything": nothing}, "on_everything"),
        ({"is_running": "yes"}, "is_running"),
        ({"suggestions": None}, "suggestions"),
        ({"adapters": None}, "adapters"),
    ],
)
async def test_wrong_adapter_is_refused_by_the_name_of_its_field(wrong: dict[str, Any], field: str) -> None:
    runtime = runtime_of(message("a"))
    with pytest.raises(InvalidAdapter) as caught:
        runtime.update(**wrong)
    assert caught.value.field == field
    assert ids(runtime) == ["a"]


async def test_what_has_no_handler_is_not_supported() -> None:
    runtime = runtime_of(message("u"), message("a", "assistant"))
    result = AddToolResultOptions(message_id="a", tool_call_id="c", tool_name="t", result=1)
    for attempt in (
        lambda: runtime.append({"content": "x", "sourceId": "u", "parentId": None}),
        lambda: runtime.reload("a"),
        lambda: runtime.cancel_run(),
        lambda: runtime.resume_run(ResumeRun(parent_id="u")),
        lambda: runtime.delete_message("a"),
        lambda: runtime.switch_to_branch("a"),
        lambda: runtime.add_tool_result(result),
        lambda: runtime.resume_tool_call("c", 1),
        lambda: runtime.answer_approval(ToolApprovalAnswer(approval_id="p", approved=True)),
        lambda: runtime.refetch_thread(),
        lambda: runtime.speak("a"),
        lambda: runtime.submit_feedback("a", "positive"),
        lambda: runtime.composer.dictate(),
        lambda: runtime.composer.add_attachment("/nowhere/file.txt"),
    ):
        with pytest.raises(NotSupported):
            await attempt()
    with pytest.raises(NotSupported):
        runtime.begin_edit("u")
    with pytest.raises(NotSupported):
        runtime.composer.remove_queue_item("q")


async def test_unknown_ids_are_not_found() -> None:
    runtime = runtime_of(message("u"), set_messages=nothing, on_edit=nothing, on_reload=nothing)
    for attempt in (
        lambda: runtime.reload("x"),
        lambda: runtime.delete_message("x"),
        lambda: runtime.switch_to_branch("x"),
        lambda: runtime.composer.remove_attachment("x"),
        lambda: runtime.respond_to_approval("x", approved=True),
    ):
        with pytest.raises(NotFound) as caught:
            await attempt()
        assert caught.value.id == "x"
    with pytest.raises(NotFound):
        runtime.begin_edit("x")
    with pytest.raises(NotSupported, match="assistant"):
        await runtime.reload("u")


async def test_sending_while_disabled_is_refused() -> None:
    for option in ("is_disabled", "is_send_disabled"):
        runtime = runtime_of(**{option: True})
        runtime.composer.text = "hello"
        assert not runtime.composer.can_send
        with pytest.raises(NotNow, match="disabled"):
            await runtime.composer.send()
        with pytest.raises(NotNow, match="disabled"):
            await runtime.append("hello")
        assert runtime.composer.text == "hello"


async def test_message_that_is_none_is_refused() -> None:
    runtime = runtime_of()
    with pytest.raises(InvalidMessage) as caught:
        await runtime.append({"content": [{"type": "text"}]})
    assert caught.value.field == "content.0.text"
    with pytest.raises(InvalidMessage) as caught:
        await runtime.append({"content": "x", "parentId": 7})
    assert caught.value.field == "parentId"


# handlers


async def test_handlers_get_what_was_asked() -> None:
    got: list[Any] = []

    async def keep(*args: Any) -> None:
        got.append(args)

    call = {"type": "tool-call", "toolCallId": "c", "toolName": "t", "args": {}, "approval": {"id": "p"}}
    asking = from_thread_message_like({"id": "a", "role": "assistant", "content": [call]})
    runtime = runtime_of(
        message("u"),
        asking,
        on_add_tool_result=keep,
        on_resume_tool_call=keep,
        on_respond_to_tool_approval=keep,
        on_resume=keep,
        on_refetch_thread=keep,
    )
    result = AddToolResultOptions(message_id="a", tool_call_id="c", tool_name="t", result=1)
    resume = ResumeRun(parent_id="u")
    await runtime.add_tool_result(result)
    await runtime.resume_tool_call("c", {"x": 1})
    await runtime.respond_to_approval("c", approved=False, reason="no")
    await runtime.resume_run(resume)
    await runtime.refetch_thread()
    answer = ToolApprovalAnswer(approval_id="p", approved=False, reason="no")
    assert got == [(result,), ("c", {"x": 1}), (answer,), (resume,), ()]


async def test_plain_functions_are_handlers_too() -> None:
    got: list[AppendMessage] = []
    runtime: ExternalStoreRuntime[Any] = ExternalStoreRuntime(
        ExternalStoreAdapter(messages=[], on_new=got.append)
    )
    await runtime.append("hello")
    assert message_text(got[0]) == "hello"
    assert got[0].parent_id is None


async def test_what_a_handler_raises_reaches_the_caller() -> None:
    async def fail(message: AppendMessage) -> None:
        raise RuntimeError("no room")

    runtime: ExternalStoreRuntime[Any] = ExternalStoreRuntime(ExternalStoreAdapter(messages=[], on_new=fail))
    with pytest.raises(RuntimeError, match="no room"):
        await runtime.append("hello")


async def test_messages_wait_in_the_queue_while_a_run_goes_on() -> None:
    sent: list[str] = []
    queue = MessageQueue(lambda message: sent.append(message_text(message)))
    runtime = runtime_of(queue=queue)
    for text in ("one", "two", "three"):
        await runtime.append(text)
    assert sent == ["one"]
    assert [item.prompt for item in runtime.composer.queue] == ["two", "three"]
    runtime.update(is_running=True)
    await runtime.append({"content": "now"})
    assert [item.prompt for item in runtime.composer.queue] == ["now", "two", "three"]
    runtime.composer.remove_queue_item(runtime.composer.queue[1].id)
    queue.notify_idle()
    assert sent == ["one", "now"]
    runtime.composer.move_queue_item(runtime.composer.queue[0].id, lane="steer")
    assert [item.prompt for item in queue.steer_items] == ["three"]


# cancelling


async def test_cancel_takes_an_unanswered_text_back_into_the_composer() -> None:
    kept: list[Any] = []
    runtime = runtime_of(
        message("u", text="question"), is_running=True, on_cancel=nothing, set_messages=kept.append
    )
    assert runtime.composer.can_cancel
    await runtime.composer.cancel()
    assert runtime.composer.text == "question"
    assert kept == [[]]


async def test_cancel_leaves_what_the_composer_cannot_hold() -> None:
    image = from_thread_message_like(
        {"id": "u", "role": "user", "content": [{"type": "image", "image": "https://x/y.png"}]}
    )
    kept: list[Any] = []
    runtime = runtime_of(image, on_cancel=nothing, set_messages=kept.append)
    await runtime.cancel_run()
    assert (ids(runtime), runtime.composer.text) == (["u"], "")
    busy = runtime_of(message("u"), on_cancel=nothing, set_messages=kept.append)
    busy.composer.text = "writing"
    await busy.cancel_run()
    assert (ids(busy), busy.composer.text) == (["u"], "writing")


# what it costs


@pytest.mark.parametrize("converted_here", [False, True])
async def test_token_takes_the_same_steps_in_a_long_thread(converted_here: bool) -> None:
    def steps_of(length: int) -> int:
        likes = [
            {"role": "user" if at % 2 else "assistant", "id": f"m{at}", "content": f"text {at}"}
            for at in range(length)
        ]
        converter = ExternalMessageConverter[Any](lambda like, _: like)
        runtime: ExternalStoreRuntime[Any]
        if converted_here:
            runtime = runtime_of(convert_message=lambda like: like, is_running=True)
        else:
            runtime = runtime_of(is_running=True)
        counted = 0
        for token in range(20):
            likes = [*likes[:length], {"role": "assistant", "id": "last", "content": f"so far {token}"}]
            steps = Steps()
            steps.begin()
            messages: Any = likes if converted_here else converter.convert(likes, is_running=True)
            runtime.update(messages=messages)
            shown, running = runtime.messages, runtime.is_running
            last = steps.end()
            if token > 1:
                counted += last
            assert (message_text(shown[-1]), len(shown), running) == (f"so far {token}", length + 1, True)
            # What was made for the runtime is what it shows: it isn't copied once more.
            assert converted_here or shown is messages
        return counted

    assert steps_of(2000) == steps_of(10)


async def test_messages_that_are_equal_stay_the_same_objects() -> None:
    given = ExternalMessageConverter[Any](lambda like, _: like)
    likes = [
        {"role": "user", "id": f"m{at}", "content": "text", "createdAt": "2026-01-01T00:00:00Z"}
        for at in range(3)
    ]
    runtime = runtime_of(*given.convert(likes))
    before = runtime.messages
    again = ExternalMessageConverter[Any](lambda like, _: like)
    for _ in range(2):
        likes = [*likes[:2], {**likes[2], "content": likes[2]["content"] + "!"}]
        runtime.update(messages=again.convert(likes))
        assert [message_text(each) for each in runtime.messages] == [each["content"] for each in likes]
        assert runtime.messages[0] is before[0]
