"""What comes along with commands, joined for the run that they start."""

from __future__ import annotations

import pytest

from threadwire.engine.context import Sent, context_of, joined

A = Sent(context={"a": 1}, absence_s=15)
B = Sent(context={"b": 2}, absence_s=60)
BARE = Sent(absence_s=0)
FOR_EVER = Sent(context={"c": 3})


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ([], None),
        ([None, None], None),
        ([A], A),
        ([A, B], B),
        ([B, A], Sent(context={"a": 1}, absence_s=60)),
        ([A, BARE], A),
        ([BARE], BARE),
        ([A, FOR_EVER], FOR_EVER),
        ([FOR_EVER, A], Sent(context={"a": 1})),
        ([A, None], Sent(context={"a": 1})),
        ([None, B], Sent(context={"b": 2})),
    ],
)
def test_newest_context_and_longest_time_count(batch: list[Sent | None], expected: Sent | None) -> None:
    assert joined(batch) == expected


@pytest.mark.parametrize("sent", [A, BARE, FOR_EVER, Sent(context={"é": [None, 1.5, {"": {}}]})])
def test_what_is_stored_comes_back_as_it_was(sent: Sent) -> None:
    assert Sent.decode(sent.encode()) == sent


def test_command_without_anything_has_nothing_to_decode() -> None:
    assert Sent.decode(None) is None
    assert dict(context_of(None)) == {}


def test_run_gets_a_copy_of_its_own() -> None:
    sent = Sent(context={"tools": {"a": 1}})
    context = context_of(sent)
    context["tools"]["b"] = 2
    assert sent.context == {"tools": {"a": 1}}
