"""The common beginning of two lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from threadwire.messages.sharing import common_prefix

LISTS = st.lists(st.integers(0, 2), max_size=40)


@given(LISTS, LISTS, LISTS)
def test_common_prefix_is_the_longest(start: list[int], old: list[int], new: list[int]) -> None:
    before, after = start + old, start + new
    length = common_prefix(before, tuple(after))
    assert before[:length] == after[:length]
    assert length in (len(before), len(after)) or before[length] != after[length]
