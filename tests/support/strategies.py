"""Hypothesis strategies for states and for operations that fit them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from threadwire.core.operations import (
    AppendText,
    Delete,
    Json,
    Operation,
    Path,
    Segment,
    Set,
    Splice,
    apply,
)

MAX_INTEGER = 2**53 - 1

keys = st.sampled_from(["a", "b", "c", "id", "text", "0", "1", "2", "10", "01", "-1", "1.0", "", "é\n"])
"""Few, so that operations meet; some look like array indexes and some only seem to."""

texts = st.text(alphabet='ab \n"é漢😀', max_size=4)

scalars: st.SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 0.0, -0.0, 1.0, 0.1, 1e300, MAX_INTEGER, -MAX_INTEGER]),
    texts,
)

values: st.SearchStrategy[Json] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
"""Any JSON value, small."""

messages: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"id": st.sampled_from(["m1", "m2", "m3", "m4", "m5", 1, 2])},
    optional={"content": texts, "parts": st.lists(st.fixed_dictionaries({"text": texts}), max_size=2)},
)
threads: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"messages": st.lists(messages, max_size=6)}, optional={"title": texts, "done": st.booleans()}
)
"""States as agents have them."""

states: st.SearchStrategy[Json] = values | threads


def places(state: Json, path: tuple[Segment, ...] = ()) -> Iterator[tuple[Path, Json]]:
    """Every value in the state with its path, the state itself first."""
    yield path, state
    if type(state) is dict:
        for key, value in state.items():
            yield from places(value, (*path, key))
    elif type(state) is list:
        for index, value in enumerate(state):
            yield from places(value, (*path, index))


@st.composite
def operation_sequences(
    draw: Callable[[st.SearchStrategy[Any]], Any], state: Json, *, max_size: int = 10
) -> list[Operation]:
    """Operations that fit `state` one after the other, with paths in all their spellings."""
    operations: list[Operation] = []
    for _ in range(draw(st.integers(0, max_size))):
        operation = draw(_operations(state))
        operations.append(operation)
        state = apply(state, [operation])
    return operations


@st.composite
def states_with_operations(
    draw: Callable[[st.SearchStrategy[Any]], Any], *, max_size: int = 10
) -> tuple[Json, list[Operation]]:
    """A state, and operations that fit it one after the other."""
    state = draw(states)
    return state, draw(operation_sequences(state, max_size=max_size))


@st.composite
def _operations(draw: Callable[[st.SearchStrategy[Any]], Any], state: Json) -> Operation:
    everywhere = list(places(state))
    strings = [path for path, value in everywhere if type(value) is str]
    arrays = [(path, value) for path, value in everywhere if type(value) is list]
    items = [path for path, _ in everywhere if path]
    kinds = ["set", "set beneath"]
    kinds += ["append-text"] * 2 * bool(strings) + ["delete"] * bool(items) + ["splice"] * 2 * bool(arrays)
    match draw(st.sampled_from(kinds)):
        case "append-text":
            return AppendText(draw(_spelled(draw(st.sampled_from(strings)))), draw(texts))
        case "delete":
            return Delete(draw(_spelled(draw(st.sampled_from(items)))))
        case "splice":
            path, array = draw(st.sampled_from(arrays))
            index = draw(st.integers(0, len(array)))
            count = draw(st.integers(0, len(array) - index))
            return Splice(draw(_spelled(path)), index, count, draw(st.lists(values, max_size=2)))
        case "set":
            path, _ = draw(st.sampled_from(everywhere))
            return Set(draw(_spelled(path)), draw(values))
        case _:
            # New keys and items, and parents that have to be made.
            roomy = [(path, value) for path, value in everywhere if type(value) in (dict, list, type(None))]
            if not roomy:
                return Set((), draw(values))
            path, value = draw(st.sampled_from(roomy))
            made = draw(st.lists(keys, min_size=1, max_size=2))
            if type(value) is list:
                return Set((*draw(_spelled(path)), *draw(_spelled((len(value),))), *made[1:]), draw(values))
            if type(value) is dict and value.get(made[0]) is not None:
                made = made[:1]  # something is there: only a direct set surely fits
            return Set(draw(_spelled((*path, *made))), draw(values))


@st.composite
def _spelled(draw: Callable[[st.SearchStrategy[Any]], Any], path: Path) -> Path:
    """The path with some integers as strings and some strings as the integers they spell."""
    if not draw(st.integers(0, 3)):
        return tuple(_other_spelling(segment) if draw(st.booleans()) else segment for segment in path)
    return path


def _other_spelling(segment: Segment) -> Segment:
    if type(segment) is int:
        return str(segment)
    return int(segment) if segment in ("0", "1", "2", "10", "-1") else segment


def respelled(value: Json) -> Json:
    """An equal value that looks as different as it can: other key order, 1.0 for 1 and 1 for 1.0."""
    if type(value) is dict:
        return {key: respelled(item) for key, item in reversed(value.items())}
    if type(value) is list:
        return [respelled(item) for item in value]
    if type(value) is int and abs(value) <= MAX_INTEGER:
        return float(value)
    if type(value) is float and value.is_integer() and abs(value) <= MAX_INTEGER:
        return int(value)
    return value
