"""The tree of a thread's messages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.vectors import cases
from threadwire.client.errors import InvalidMessage, NotFound
from threadwire.messages.like import from_thread_message_like
from threadwire.messages.model import ThreadMessage, message_text, replace, to_json
from threadwire.messages.repository import ExportedMessageRepository, MessageRepository, RepositoryItem


def message(id: str, optimistic: bool = False) -> ThreadMessage:
    like = {"role": "assistant", "content": id, "id": id, "metadata": {"isOptimistic": optimistic}}
    return from_thread_message_like(like)


def tree(*items: tuple[ThreadMessage, str | None], head_id: Any = msgspec.UNSET) -> ExportedMessageRepository:
    messages = tuple(RepositoryItem(message=each, parent_id=parent) for each, parent in items)
    return ExportedMessageRepository(messages=messages, head_id=head_id)


def ids(messages: Any) -> list[str]:
    return [each.id for each in messages]


def perform(repository: MessageRepository, step: dict[str, Any]) -> Any:
    match step["kind"]:
        case "add":
            repository.put(step["parent"], message(step["id"], step["optimistic"]))
        case "delete":
            repository.delete(step["id"], step.get("replacement", msgspec.UNSET))
        case "switch":
            repository.switch(step["id"])
        case "reset":
            repository.reset_head(step["id"])
        case "branches":
            return list(repository.branches(step["id"]))
        case "messages":
            return ids(repository.messages(step["id"]))
        case "import":
            items = [
                RepositoryItem(message=message(each["id"]), parent_id=each["parentId"])
                for each in step["items"]
            ]
            repository.clear()
            repository.load(ExportedMessageRepository(messages=tuple(items), head_id=step.get("headId")))
    return None


@pytest.mark.parametrize("case", cases("repository"), ids=lambda case: str(len(case["steps"])))
def test_tree_is_the_same_as_in_javascript_after_each_step(case: dict[str, Any]) -> None:
    repository = MessageRepository()
    for step in case["steps"]:
        refused = False
        gave = None
        try:
            gave = perform(repository, step)
        except (NotFound, InvalidMessage):
            refused = True
        assert refused == step.get("refused", False), step
        assert gave == step.get("gave"), step
        assert repository.head_id == step["head"], step
        assert ids(repository.messages()) == step["path"], step
        exported = repository.export()
        assert exported.head_id == step["export"]["headId"], step
        assert [[e.message.id, e.parent_id] for e in exported.messages] == step["export"]["messages"], step


def chain(*names: str) -> MessageRepository:
    repository = MessageRepository()
    for parent, name in zip((None, *names), names, strict=False):
        repository.put(parent, message(name))
    return repository


def test_unknown_ids_are_refused_by_name() -> None:
    repository = chain("a")
    for call in (
        lambda: repository.message("x"),
        lambda: repository.branches("x"),
        lambda: repository.switch("x"),
        lambda: repository.reset_head("x"),
        lambda: repository.delete("x"),
        lambda: repository.put("x", message("b")),
        lambda: repository.messages("x"),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert (caught.value.kind, caught.value.id) == ("message", "x")
    assert ids(repository.messages()) == ["a"]


def test_message_below_itself_is_refused_and_changes_nothing() -> None:
    repository = chain("a", "b", "c")
    before = to_json(repository.export())
    with pytest.raises(InvalidMessage):
        repository.put("c", message("a"))
    with pytest.raises(InvalidMessage):
        repository.delete("a", "c")
    with pytest.raises(InvalidMessage):
        repository.delete("a", "a")
    assert to_json(repository.export()) == before


def test_failed_load_changes_nothing() -> None:
    repository = chain("a", "b")
    before = to_json(repository.export())
    with pytest.raises(NotFound):
        repository.load(tree((message("c"), None), (message("d"), "missing")))
    with pytest.raises(NotFound):
        repository.load(tree((message("c"), None), head_id="missing"))
    assert to_json(repository.export()) == before


def test_new_value_keeps_the_place_and_shows_at_once() -> None:
    repository = chain("a", "b", "c")
    first = repository.messages()
    assert repository.messages() is first
    repository.put("a", replace(message("b"), content=message("new").content))
    assert [message_text(each) for each in repository.messages()] == ["a", "new", "c"]
    assert ids(first) == ["a", "b", "c"]


def test_export_is_the_json_that_it_was_loaded_from() -> None:
    repository = chain("a", "b")
    repository.put("a", message("b2"))
    exported = to_json(repository.export())
    again = MessageRepository()
    again.load(msgspec.convert(exported, ExportedMessageRepository))
    assert to_json(again.export()) == exported
    assert exported["headId"] == "b"
    assert [each["parentId"] for each in exported["messages"]] == [None, "a", "a"]


def test_messages_in_a_row_follow_each_other() -> None:
    exported = ExportedMessageRepository.from_messages(
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello", "id": "a"}]
    )
    assert [each.parent_id for each in exported.messages] == [None, exported.messages[0].message.id]
    assert exported.head_id is msgspec.UNSET


def test_messages_with_parents_need_ids() -> None:
    with pytest.raises(InvalidMessage, match="has an id"):
        ExportedMessageRepository.from_branches([({"role": "user", "content": "hi"}, None)])
    made = ExportedMessageRepository.from_branches(
        [
            ({"role": "user", "content": "hi", "id": "u"}, None),
            ({"role": "user", "content": "ho", "id": "v"}, "u"),
        ],
        head_id="u",
    )
    repository = MessageRepository()
    repository.load(made)
    assert ids(repository.messages()) == ["u"]


def test_optimistic_messages_are_neither_exported_nor_kept_off_the_path() -> None:
    repository = chain("a")
    repository.put("a", message("guess", optimistic=True))
    repository.put("guess", message("b"))
    assert (repository.head_id, repository.canonical_head_id) == ("b", "b")
    assert [(e.message.id, e.parent_id) for e in repository.export().messages] == [("a", None), ("b", "a")]
    repository.put("a", message("c"))
    repository.switch("c")
    assert "guess" not in repository
    assert repository.branches("c") == ("c", "b")


def test_random_steps_keep_path_and_snapshot_right() -> None:
    for case in cases("repository"):
        repository = MessageRepository()
        for step in case["steps"]:
            try:
                perform(repository, step)
            except (NotFound, InvalidMessage):
                continue
            head = repository.head_id
            if head is not None:
                repository.put(repository.parent_id(head), message(head))
                assert repository.messages()[-1] is repository.message(head)
            copied = MessageRepository()
            copied.load(repository.export())
            assert copied.canonical_head_id == repository.canonical_head_id
