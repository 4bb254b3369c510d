"""The rows a thread keeps in memory: contiguous, bounded, and true to the epochs that wrote them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from threadwire.engine.history import History

rows = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=30)), min_size=1, max_size=60)


@given(rows, st.integers(1, 20), st.integers(10, 200), st.integers(0, 5))
def test_history_holds_the_newest_rows_within_its_bounds(
    added: list[tuple[bool, bytes]], max_updates: int, max_bytes: int, start: int
) -> None:
    history = History(start, None, max_updates=max_updates, max_bytes=max_bytes)
    epoch = 1
    known: dict[int, tuple[int, bytes]] = {}
    for seq, (new_epoch, data) in enumerate(added, start + 1):
        epoch += new_epoch
        known[seq] = (epoch, data)
        history.add(seq, epoch, data)

        kept = history.after(history.floor)
        assert history.head == seq
        assert [row.seq for row in kept] == list(range(history.floor + 1, seq + 1))
        assert all((row.epoch, row.data) == known[row.seq] for row in kept)
        assert 1 <= len(kept) <= max_updates
        assert len(kept) == 1 or sum(len(row.data) for row in kept) <= max_bytes


@given(rows, st.integers(1, 20))
def test_history_tells_the_epoch_of_every_row_it_holds_and_of_its_floor(
    added: list[tuple[bool, bytes]], max_updates: int
) -> None:
    history = History(0, 1, max_updates=max_updates)
    epochs = [1]
    for seq, (new_epoch, data) in enumerate(added, 1):
        epochs.append(epochs[-1] + new_epoch)
        history.add(seq, epochs[seq], data)
    for seq in range(-1, history.head + 2):
        held = history.floor <= seq <= history.head
        assert history.epoch_at(seq) == (epochs[seq] if held else None)


def test_epoch_of_the_start_may_be_unknown() -> None:
    history = History(7, None)
    assert history.epoch_at(7) is None
    history.add(8, 3, b"row")
    assert history.epoch_at(8) == 3
    assert [row.seq for row in history.after(7)] == [8]
    assert history.after(8) == []
