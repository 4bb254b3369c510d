"""Messages that wait for the run to end."""

from __future__ import annotations

import pytest

from threadwire.client.errors import InvalidAdapter, NotFound
from threadwire.client.runtimes.actions import AppendMessage, read_append
from threadwire.client.runtimes.queue import MessageQueue
from threadwire.messages.model import (
    CompleteAttachment,
    FileMessagePart,
    ImageMessagePart,
    TextMessagePart,
    message_text,
)


def message(text: str) -> AppendMessage:
    return read_append(text, None)


def waiting(queue: MessageQueue) -> list[str]:
    return [item.prompt for item in (*queue.steer_items, *queue.items)]


class Runs:
    def __init__(self, *, cancel: bool = False) -> None:
        self.sent: list[str] = []
        self.cancelled = 0
        self.queue = MessageQueue(
            lambda message: self.sent.append(message_text(message)), self.stop if cancel else None
        )

    def stop(self) -> None:
        self.cancelled += 1


def test_one_message_goes_at_a_time() -> None:
    runs = Runs()
    for text in "abc":
        runs.queue.enqueue(message(text))
    assert (runs.sent, waiting(runs.queue)) == (["a"], ["b", "c"])
    runs.queue.notify_idle()
    assert (runs.sent, waiting(runs.queue)) == (["a", "b"], ["c"])


def test_steered_message_goes_next() -> None:
    runs = Runs()
    for text in "ab":
        runs.queue.enqueue(message(text))
    runs.queue.steer(message("now"))
    assert waiting(runs.queue) == ["now", "b"]
    runs.queue.notify_idle()
    assert runs.sent == ["a", "now"]


def test_steering_stops_a_run_that_can_be_stopped() -> None:
    runs = Runs(cancel=True)
    runs.queue.enqueue(message("a"))
    runs.queue.enqueue(message("b"))
    runs.queue.steer(message("now"))
    assert (runs.sent, runs.cancelled) == (["a", "now"], 1)
    runs.queue.notify_idle()  # of the run that was stopped
    assert runs.sent == ["a", "now"]
    runs.queue.notify_idle()
    assert runs.sent == ["a", "now", "b"]


def test_items_move_between_and_within_lanes() -> None:
    runs = Runs()
    for text in "abcd":
        runs.queue.enqueue(message(text))
    b, c, d = runs.queue.items
    runs.queue.move(d.id, before=b.id)
    assert waiting(runs.queue) == ["d", "b", "c"]
    runs.queue.move(c.id, lane="steer")
    assert [item.prompt for item in runs.queue.steer_items] == ["c"]
    runs.queue.edit(b.id, message("B"))
    runs.queue.remove(d.id)
    assert waiting(runs.queue) == ["c", "B"]
    for unknown in (
        lambda: runs.queue.move("x"),
        lambda: runs.queue.move(b.id, before="x"),
        lambda: runs.queue.remove("x"),
        lambda: runs.queue.edit("x", message("y")),
    ):
        with pytest.raises(NotFound):
            unknown()
    assert waiting(runs.queue) == ["c", "B"]


def test_moving_into_the_steer_lane_stops_the_run() -> None:
    runs = Runs(cancel=True)
    for text in "abc":
        runs.queue.enqueue(message(text))
    runs.queue.move(runs.queue.items[1].id, lane="steer")
    assert (runs.sent, runs.cancelled, waiting(runs.queue)) == (["a", "c"], 1, ["b"])


def test_cancelled_run_lets_the_others_wait_until_something_is_sent() -> None:
    runs = Runs()
    for text in "ab":
        runs.queue.enqueue(message(text))
    runs.queue.notify_cancelled()
    runs.queue.notify_idle()
    assert (runs.sent, waiting(runs.queue)) == (["a"], ["b"])
    runs.queue.enqueue(message("c"))
    assert (runs.sent, waiting(runs.queue)) == (["a", "b"], ["c"])


def test_message_whose_run_cannot_begin_waits_again() -> None:
    def refuse(message: AppendMessage) -> None:
        raise RuntimeError("no")

    queue = MessageQueue(refuse)
    with pytest.raises(RuntimeError, match="no"):
        queue.enqueue(message("a"))
    assert waiting(queue) == ["a"]
    queue.clear()
    assert waiting(queue) == []


def test_files_are_shown_with_the_text_but_the_text_of_files_is_not() -> None:
    queue = MessageQueue(lambda message: None)
    queue.notify_busy()
    image, text = ImageMessagePart("https://x", filename="x.png"), TextMessagePart("inside")
    attachment = CompleteAttachment(id="a", type="image", name="n", content=(image, text))
    queue.enqueue(
        AppendMessage(content=(TextMessagePart("look"),), attachments=(attachment,), parent_id=None)
    )
    shown = FileMessagePart(data="https://x", mime_type="image/*", filename="x.png")
    assert queue.items[0].parts == (TextMessagePart("look"), shown)


def test_run_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidAdapter):
        MessageQueue(None)  # type: ignore[arg-type]
