from __future__ import annotations

import enum
import math
from collections import OrderedDict, UserDict, defaultdict
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.documents import same
from threadwire.core.errors import InvalidValue, Refused
from threadwire.core.operations import Json
from threadwire.core.values import MAX_INTEGER, Wrapper, copy_in, measure, plain_copy, text_bytes


class Color(enum.Enum):
    RED = "red"


class Word(str, enum.Enum):  # noqa: UP042 - the older way to write it
    YES = "yes"

    def __str__(self) -> str:
        return "not this"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


class Length(int):
    def __int__(self) -> int:
        return 99


class Weight(float):
    pass


class Point(NamedTuple):
    x: int
    y: int


class Boxed(Wrapper):
    def __init__(self, inner: Json) -> None:
        self._inner = inner

    def value(self) -> Json:
        return plain_copy(self._inner)


def copied(value: object, *, depth: int = 100, path: tuple[str | int, ...] = ("a",)) -> Json:
    copy, size = copy_in(value, depth=depth, path=path)
    assert size == measure(copy)
    return copy


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
keys = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda key: key not in ("__proto__", "constructor", "prototype")
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)


@given(values)
def test_json_values_are_copied_as_they_are(value: Json) -> None:
    assert same(copied(value), value)
    assert same(plain_copy(value), value)


@given(values)
def test_a_copy_shares_no_container_with_the_value(value: Json) -> None:
    def containers(value: Json) -> list[Json]:
        if type(value) is dict:
            return [value, *(inner for item in value.values() for inner in containers(item))]
        if type(value) is list:
            return [value, *(inner for item in value for inner in containers(item))]
        return []

    given_ = containers(value)
    for copy in (copied(value), plain_copy(value)):
        assert not {id(each) for each in given_} & {id(each) for each in containers(copy)}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Text("text"), "text"),
        (Word.YES, "yes"),
        (Number.ONE, 1),
        (Length(7), 7),
        (Weight(1.5), 1.5),
        (True, True),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[]), {"a": []}),
        (UserDict(a=(1,)), {"a": [1]}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({Text("a"): 1, Word.YES: 2}, {"a": 1, "yes": 2}),
        (Boxed({"a": [1]}), {"a": [1]}),
        ([Boxed("x"), Boxed([])], ["x", []]),
    ],
)
def test_what_json_has_no_word_for_becomes_the_nearest_plain_value(value: object, plain: Json) -> None:
    copy = copied(value)
    assert same(copy, plain)
    if type(copy) is dict:
        assert all(type(key) is str for key in copy)


def test_minus_zero_becomes_zero() -> None:
    assert math.copysign(1, copied(-0.0)) == 1
    assert math.copysign(1, copied([Weight(-0.0)])[0]) == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (math.nan, "not-finite"),
        (math.inf, "not-finite"),
        (-math.inf, "not-finite"),
        (Weight("nan"), "not-finite"),
        (2**53, "integer-range"),
        (-(2**53), "integer-range"),
        pytest.param(10**5000, "integer-range", id="5001 digits"),
        (Length(2**53), "integer-range"),
        ("a\ud800", "invalid-unicode"),
        (Text("\udfff"), "invalid-unicode"),
        (b"bytes", "unsupported-type"),
        ({1}, "unsupported-type"),
        (frozenset(), "unsupported-type"),
        (Color.RED, "unsupported-type"),
        (object(), "unsupported-type"),
        (range(3), "unsupported-type"),
        ({}.keys(), "unsupported-type"),
        (iter([]), "unsupported-type"),
        (1j, "unsupported-type"),
        (int, "unsupported-type"),
    ],
)
def test_what_no_state_may_hold_is_refused_by_name(value: object, code: str) -> None:
    for put, field in ((value, "state.a"), ([0, value], "state.a.1"), ({"k": (value,)}, "state.a.k.0")):
        with pytest.raises(InvalidValue) as refusal:
            copied(put)
        assert (refusal.value.code, refusal.value.field) == (code, field)
        assert refusal.value.message


@pytest.mark.parametrize(
    ("key", "code", "field"),
    [
        (1, "invalid-key", "state.a.k"),
        (None, "invalid-key", "state.a.k"),
        (("x",), "invalid-key", "state.a.k"),
        (b"x", "invalid-key", "state.a.k"),
        pytest.param(10**5000, "invalid-key", "state.a.k", id="5001 digits"),
        ("\ud800", "invalid-unicode", "state.a.k"),
        ("__proto__", "forbidden-key", "state.a.k.__proto__"),
        (Text("constructor"), "forbidden-key", "state.a.k.constructor"),
        ("prototype", "forbidden-key", "state.a.k.prototype"),
    ],
)
def test_what_can_be_no_key_is_refused(key: object, code: str, field: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        copied({"k": {key: 1}})
    assert (refusal.value.code, refusal.value.field) == (code, field)
    refusal.value.info.message.encode()


def test_two_keys_that_are_one_string_are_refused() -> None:
    class Odd(str):
        __slots__ = ()
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    with pytest.raises(InvalidValue) as refusal:
        copied({Odd("k"): 1, Odd("k"): 2})
    assert (refusal.value.code, refusal.value.field) == ("duplicate-key", "state.a.k")


def test_depth_counts_containers() -> None:
    assert copied([{"a": []}], depth=3) == [{"a": []}]
    assert copied("text", depth=0) == "text"
    too_deep: list[tuple[object, int, str]] = [
        ([{"a": []}], 2, "state.a.0.a"),
        ([], 0, "state.a"),
        (Boxed([[]]), 1, "state.a"),
        ((((),),), 2, "state.a.0.0"),
    ]
    for value, depth, field in too_deep:
        with pytest.raises(InvalidValue) as refusal:
            copied(value, depth=depth)
        assert (refusal.value.code, refusal.value.field) == ("too-deep", field)


def test_a_cycle_is_refused_as_too_deep() -> None:
    knot: list[Any] = []
    knot += [knot, knot]
    loop: dict[str, Any] = {}
    loop["loop"] = [loop]
    for value in (knot, loop):
        with pytest.raises(InvalidValue) as refusal:
            copied(value)
        assert refusal.value.code == "too-deep"


def test_the_same_object_in_two_places_becomes_two() -> None:
    shared: list[int] = []
    a, b = copied([shared, shared])
    a.append(1)
    assert b == []


def test_a_small_value_that_unfolds_without_end_is_refused_before_it_fills_the_memory() -> None:
    bomb: object = []
    for _ in range(60):
        bomb = [bomb, bomb]
    with pytest.raises(Refused) as refusal:
        copy_in(bomb, depth=100, path=(), max_bytes=10_000)
    assert refusal.value.code == "state-too-large"


def test_the_size_counts_bytes_of_utf8() -> None:
    assert text_bytes("aé€😀") == 10
    assert measure("aé€😀") == 12
    assert measure({"é": ["x", None]}) == 2 + (2 + 4) + 2 + (1 + 3) + (1 + 6)
