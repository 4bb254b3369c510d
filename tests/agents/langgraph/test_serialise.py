"""A graph's values as JSON: what each kind becomes, that a restart doesn't change it, and messages."""

# PROTOCOL §15.6
from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import json
import math
import pathlib
import re
import threading
import types
import uuid
import warnings
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import attrs
import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document as LangChainDocument
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    ToolMessageChunk,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Interrupt, Overwrite, Send

from tests.support.documents import same
from tests.support.strategies import values
from threadwire.core.document import Document
from threadwire_agents.langgraph.serialise import (
    CUT,
    MAX_DEPTH,
    SECRET,
    exception_to_json,
    message_to_json,
    to_json,
)


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)
    TABLE = {"a": 1}  # noqa: RUF012


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Box:
    a: Any
    b: Any = None


@dataclasses.dataclass(slots=True, frozen=True)
class Frozen:
    a: Any


@dataclasses.dataclass
class Derived:
    a: int
    b: int = dataclasses.field(init=False, default=3)


class Point(NamedTuple):
    x: Any
    y: Any = None


class Model(pydantic.BaseModel):
    a: Any
    b: Any = None


class Chat(pydantic.BaseModel):
    messages: list[AnyMessage]


class LooseChat(pydantic.BaseModel):
    messages: list[BaseMessage]


class Listed(pydantic.RootModel[list[int]]):
    pass


class Aliased(pydantic.BaseModel):
    a: int = pydantic.Field(alias="A")


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int = 1


class Partly(pydantic.BaseModel):
    a: int = 1
    hidden: int = pydantic.Field(2, exclude=True)
    _private: int = pydantic.PrivateAttr(5)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def next(self) -> int:
        return self.a + 1


class Masked(pydantic.BaseModel):
    key: str
    when: Annotated[dt.datetime, pydantic.PlainSerializer(lambda value: value.isoformat())]

    @pydantic.field_serializer("key")
    def _mask(self, value: str) -> str:
        return "***"


class AsText(pydantic.BaseModel):
    a: int

    @pydantic.model_serializer
    def _as_text(self) -> str:
        return f"a={self.a}"


class Struct(msgspec.Struct):
    a: Any


@attrs.define
class Attrs:
    a: Any


class Failure(Exception):
    pass


class Text(str):
    __slots__ = ()


class Plain:
    pass


class Noted(HumanMessage):
    note: Any = None


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
CALL = {"name": "find", "args": {"city": "Paris"}, "id": "c1", "type": "tool_call"}
SHOWN = {"type": "ai", "content": "x", "tool_calls": [CALL]}


def ai(**fields: Any) -> AIMessage:
    return AIMessage("x", tool_calls=[CALL], **fields)


KEPT: list[tuple[str, object, object]] = [
    ("none", None, None),
    ("bool", True, True),
    ("int", 5, 5),
    ("largest int", 2**53 - 1, 2**53 - 1),
    ("larger int", 2**53, "9007199254740992"),
    ("smaller int", -(2**63), "-9223372036854775808"),
    ("float", 0.5, 0.5),
    ("negative zero", -0.0, 0.0),
    ("NaN", math.nan, None),
    ("infinity", [math.inf, -math.inf], [None, None]),
    ("text", "é漢😀\u2028", "é漢😀\u2028"),
    ("surrogate", ["a\ud800b", "\ud83d\ude00"], ["a?b", "??"]),
    ("text subclass", Text("x"), "x"),
    ("NumPy text", np.str_("x"), "x"),
    ("bytes", b"\xff", {"$bytes": "/w=="}),
    ("bytearray", bytearray(b"x"), {"$bytes": "eA=="}),
    ("memoryview", memoryview(b"xz"), {"$bytes": "eHo="}),
    ("tuple", (1, (2,)), [1, [2]]),
    ("NamedTuple", Point(1, (2,)), {"x": 1, "y": [2]}),
    ("set", {30, 4, 100}, [4, 30, 100]),
    ("mixed set", {"b", 2, None, "a", 1.5, frozenset({3, 1})}, [None, 1.5, 2, "a", "b", [1, 3]]),
    ("set of tuples", {(1, 2)}, [[1, 2]]),
    ("set of an enum", {Color.RED}, ["red"]),
    ("set of NamedTuples", {Point(2), Point(1)}, [{"x": 1, "y": None}, {"x": 2, "y": None}]),
    ("frozenset", frozenset("ba"), ["a", "b"]),
    ("deque", collections.deque([1, 2], maxlen=2), [1, 2]),
    ("defaultdict", collections.defaultdict(list, {"a": [1]}), {"a": [1]}),
    ("Counter", collections.Counter("aab"), {"a": 2, "b": 1}),
    ("datetime", dt.datetime(2020, 1, 2, 3, 4, 5, 6), "2020-01-02T03:04:05.000006"),
    ("datetime with a zone", dt.datetime(2020, 7, 1, tzinfo=BERLIN), "2020-07-01T00:00:00+02:00"),
    (
        "second 02:30 of the night the clock goes back",
        dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
        "2020-10-25T02:30:00+01:00",
    ),
    ("date", dt.date(2020, 1, 2), "2020-01-02"),
    ("time", dt.time(1, 2, tzinfo=dt.UTC), "01:02:00+00:00"),
    ("timedelta", dt.timedelta(days=1, microseconds=-1), 86399.999999),
    ("timezone", dt.timezone(dt.timedelta(hours=2)), "UTC+02:00"),
    ("zone", BERLIN, "Europe/Berlin"),
    ("UUID", uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    ("Decimal", decimal.Decimal("1.50"), "1.50"),
    ("path", pathlib.Path("a") / "b", "a/b"),
    ("pattern", re.compile("a+", re.I), "a+"),
    ("address", ipaddress.ip_address("::1"), "::1"),
    ("network", ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    ("enum", Color.RED, "red"),
    ("enum of a tuple", Color.PAIR, [1, 2]),
    ("enum of a dict", Color.TABLE, {"a": 1}),
    ("int enum", Level.LOW, 1),
    ("text enum", Word.YES, "yes"),
    ("flags", Rights.READ | Rights.WRITE, 3),
    ("exception", ValueError("no"), "ValueError('no')"),
    ("exception of one's own", Failure("a", 1), "Failure('a', 1)"),
    ("exception group", ExceptionGroup("g", [KeyError("k")]), "ExceptionGroup('g', [KeyError('k')])"),
    ("exception in a dataclass", Box(OSError(2, "no")), {"a": "FileNotFoundError(2, 'no')", "b": None}),
    ("dataclass", Box((1,), {2}), {"a": [1], "b": [2]}),
    ("slots", Frozen((1,)), {"a": [1]}),
    ("dataclass with a field that isn't given", Derived(1), {"a": 1, "b": 3}),
    ("model", Model(a=(1, 2), b={3}), {"a": [1, 2], "b": [3]}),
    (
        "model of models",
        Model(a=Model(a=Box(1)), b=Point(1)),
        {"a": {"a": {"a": 1, "b": None}, "b": None}, "b": [1, None]},
    ),
    ("model of an exception", Model(a=ValueError("x")), {"a": "ValueError('x')", "b": None}),
    ("model of a message", Model(a=ai()), {"a": SHOWN, "b": None}),
    ("model of messages", Model(a=[ai()], b={"k": ai()}), {"a": [SHOWN], "b": {"k": SHOWN}}),
    ("model with a list of messages", Chat(messages=[ai()]), {"messages": [SHOWN]}),
    ("root model", Listed([1]), [1]),
    ("alias", Aliased(A=1), {"a": 1}),
    ("extra fields", Open(b=(2,)), {"a": 1, "b": [2]}),
    ("excluded, private and computed fields", Partly(a=3, hidden=9), {"a": 3, "next": 4}),
    (
        "field serializers",
        Masked(key="k", when=dt.datetime(2020, 1, 1)),
        {"key": "***", "when": "2020-01-01T00:00:00"},
    ),
    ("model serializer", AsText(a=1), "a=1"),
    ("Pydantic's secret", pydantic.SecretStr("pw"), SECRET),
    ("secrets in a model", Model(a=pydantic.SecretBytes(b"pw")), {"a": SECRET, "b": None}),
    ("array", np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    ("column", np.array([[1, 2], [3, 4]])[:, 0], [1, 3]),
    ("array in Fortran's order", np.asfortranarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    ("array of no dimensions", np.array(5), 5),
    ("array with NaN", np.array([math.nan, -0.0]), [None, 0.0]),
    ("array of complex", np.array([1 + 2j]), ["(1+2j)"]),
    (
        "document",
        LangChainDocument("x", id="3", metadata={"a": (1,)}),
        {"id": "3", "metadata": {"a": [1]}, "page_content": "x", "type": "Document"},
    ),
    ("Send", Send("n", {"a": (1,)}), {"node": "n", "arg": {"a": [1]}}),
    (
        "Command",
        Command(update={"a": 1}, goto=[Send("n", 1)]),
        {"graph": None, "update": {"a": 1}, "resume": None, "goto": [{"node": "n", "arg": 1}]},
    ),
    ("Interrupt", Interrupt(value=(1,), id="i"), {"value": [1], "id": "i", "response_schema": None}),
    ("Overwrite", Overwrite([ai()]), {"value": [SHOWN], "type": "__overwrite__"}),
    (
        "keys",
        {1: "b", None: "c", 1.5: "d", (1, Color.RED): "e", Color.RED: "f", b"x": "g"},
        {"1": "b", "null": "c", "1.5": "d", "(1, 'red')": "e", "red": "f", "b'x'": "g"},
    ),
    ("bool keys", {True: 1, False: 0}, {"true": 1, "false": 0}),
    ("NaN as a key", {math.nan: 1, math.inf: 2}, {"NaN": 1, "Infinity": 2}),
    (
        "time as keys",
        {dt.date(2020, 1, 2): 1, dt.datetime(2020, 1, 2, tzinfo=dt.UTC): 2, uuid.UUID(int=7): 3},
        {
            "2020-01-02": 1,
            "2020-01-02T00:00:00+00:00": 2,
            "00000000-0000-0000-0000-000000000007": 3,
        },
    ),
    ("keys that meet", {1: "a", "1": "b", "1#2": "c"}, {"1": "b", "1#2": "c", "1#3": "a"}),
    (
        "forbidden keys",
        {"__proto__": 1, "$__proto__": 2, "constructor": 3},
        {"$__proto__": 2, "$__proto__#2": 1, "$constructor": 3},
    ),
    ("empty", [{}, [], "", (), set(), b""], [{}, [], "", [], [], {"$bytes": ""}]),
    ("human message", HumanMessage([{"type": "text", "text": "a"}]), None),
    (
        "AI message",
        ai(id="1", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
        None,
    ),
    (
        "chunk",
        AIMessageChunk("x", tool_call_chunks=[{"name": "f", "args": "{", "id": "1", "index": 0}]),
        None,
    ),
    ("tool message", ToolMessage("x", tool_call_id="1", artifact=Box((1,), ValueError("x"))), None),
    ("message with extra fields", HumanMessage("x", note=(1,)), None),
    ("message class of one's own", Noted("x", note=Point(1)), None),
    ("role message", ChatMessage("x", role="developer"), None),
    ("remove message", RemoveMessage(id="1"), None),
]
"""Name, value, and its JSON (None for messages: their tests say it); all survive the checkpointer."""

AROUND: list[tuple[str, Callable[[Any], object]]] = [
    ("alone", lambda value: value),
    ("list", lambda value: [value, value]),
    ("tuple in a dict", lambda value: {"k": (value,)}),
    ("dataclass", lambda value: Box({"k": value})),
    ("NamedTuple", lambda value: Point(value)),
    ("model", lambda value: Model(a=[value])),
    ("model in a dataclass", lambda value: Box(Model(a=value))),
    ("artifact", lambda value: ToolMessage("x", tool_call_id="1", artifact={"k": value})),
    ("keyword arguments", lambda value: HumanMessage("x", additional_kwargs={"k": value})),
]


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    # Pydantic warns of what it loses; that is what some of these show.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def reloaded(value: object, *, strict: bool = False) -> Any:
    serializer = JsonPlusSerializer(allowed_msgpack_modules=None) if strict else JsonPlusSerializer()
    return serializer.loads_typed(serializer.dumps_typed(value))


def accepted(value: object) -> Any:
    """Its JSON, having been taken by a document where the values of a subgraph are."""
    shown = to_json(value)
    place: dict[str, Any] = {"values": {}}
    document = Document({"threadwire": {"subgraphs": {"a": place}}})
    document.set(("threadwire", "subgraphs", "a", "values", "channel"), shown)
    assert same(place["values"]["channel"], shown), "the document changed it"
    return shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [pytest.param(value, json, id=name) for name, value, json in KEPT if not isinstance(value, BaseMessage)],
)
def test_each_kind_has_its_form(value: object, expected: object) -> None:
    assert same(accepted(value), expected), accepted(value)


@pytest.mark.parametrize("around", [pytest.param(make, id=name) for name, make in AROUND])
@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value, _ in KEPT])
def test_a_value_is_the_same_live_and_reloaded(value: Any, around: Callable[[Any], object]) -> None:
    live = around(value)
    assert same(accepted(live), accepted(reloaded(live)))


STRICTLY_OTHER = frozenset(
    {
        "Pydantic's secret",
        "secrets in a model",
        "model of a message",
        "model of messages",
        "model with a list of messages",
        "message class of one's own",
        "set of NamedTuples",
    }
)


@pytest.mark.parametrize(
    "value", [pytest.param(value, id=name) for name, value, _ in KEPT if name not in STRICTLY_OTHER]
)
def test_a_value_whose_class_is_not_allowed_to_come_back_is_the_same(value: Any) -> None:
    live = [value, {"k": (value,)}]
    assert same(accepted(live), accepted(reloaded(live, strict=True)))


def test_a_class_that_is_not_found_again_gives_the_same_fields() -> None:
    @dataclasses.dataclass
    class Local:
        a: Any

    class LocalTuple(NamedTuple):
        a: Any

    live = [Local((1,)), LocalTuple(1)]
    assert accepted(live) == accepted(reloaded(live)) == [{"a": [1]}, {"a": 1}]


REFUSED: list[tuple[str, object, object]] = [
    ("integer beyond 64 bits", 2**70, "1180591620717411303424"),
    ("complex", 1 + 2j, "(1+2j)"),
    ("fraction", fractions.Fraction(1, 3), "1/3"),
    ("memoryview with gaps", memoryview(b"xyz")[::2], {"$bytes": "eHo="}),
    ("range", range(3), [0, 1, 2]),
    ("array", array.array("i", [1, 2]), [1, 2]),
    ("ChainMap", collections.ChainMap({"a": 1}), {"a": 1}),
    ("UserDict", collections.UserDict({"a": 1}), {"a": 1}),
    ("mappingproxy", types.MappingProxyType({"a": (1,)}), {"a": [1]}),
    ("keys of a dict", {"b": 1, "a": 2}.keys(), ["b", "a"]),
    ("tuple subclass", type("Pair", (tuple,), {})([1, 2]), [1, 2]),
    ("float subclass", type("Weight", (float,), {})(0.5), 0.5),
    ("struct", Struct((1,)), {"a": [1]}),
    ("attrs", Attrs(ai()), {"a": SHOWN}),
    ("pure path", pathlib.PurePosixPath("/a"), "/a"),
    ("URL", pydantic.HttpUrl("http://a.b"), "http://a.b/"),
    ("frozenset as a key", {frozenset({1}): 1}, {"frozenset({1})": 1}),
    ("Decimal as a key", {decimal.Decimal("1.0"): 1}, {"1.0": 1}),
    ("NumPy integer", np.int64(3), 3),
    ("NumPy float", np.float32(0.5), 0.5),
    ("NumPy double", np.float64(-0.0), 0.0),
    ("NumPy long double", np.longdouble(1), 1.0),
    ("NumPy bool", np.bool_(True), True),
    ("NumPy date", np.datetime64("2020-01-02"), "2020-01-02"),
    ("NumPy dates", np.array(["2020-01-02"], dtype="datetime64[D]"), ["2020-01-02"]),
    ("object", Plain(), f"<{__name__}.Plain object>"),
    ("function", test_each_kind_has_its_form, "<function test_each_kind_has_its_form>"),
    ("class", Plain, f"<class '{__name__}.Plain'>"),
    ("model class", Model, f"<class '{__name__}.Model'>"),
    ("ellipsis", ..., "Ellipsis"),
]


@pytest.mark.parametrize(
    ("value", "expected"), [pytest.param(value, json, id=name) for name, value, json in REFUSED]
)
def test_what_the_checkpointer_refuses_is_shown_all_the_same(value: object, expected: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        reloaded([value])
    assert same(accepted(value), expected), accepted(value)


def test_what_the_checkpointer_loses_is_shown_until_then() -> None:
    chat = LooseChat(messages=[ai()])
    assert accepted(chat) == {"messages": [SHOWN]}
    assert accepted(reloaded(chat)) == {"messages": [{"type": "ai", "content": "x"}]}
    objects = np.array([1, None], dtype=object)
    assert accepted(objects) == [1, None]
    assert accepted(reloaded(objects)) is None


def test_generators_are_not_consumed() -> None:
    numbers = (number for number in [1, 2])
    assert accepted(numbers).startswith("<generator object")
    assert list(numbers) == [1, 2]


def test_an_unknown_thing_has_no_address_and_a_bounded_length() -> None:
    lock = threading.Lock()
    assert accepted(lock) == "<unlocked _thread.lock object>"
    long = type("Long", (), {"__repr__": lambda self: "x" * 10_000})()
    assert accepted(long) == "x" * 199 + CUT


def test_a_class_whose_code_fails_is_named() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

        def __len__(self) -> int:
            return 1

        def __contains__(self, item: object) -> bool:
            return True

        def __iter__(self) -> Iterator[int]:
            raise RuntimeError

    assert accepted([Broken(), {Broken(): 1}, 1])[2] == 1
    assert "Broken" in accepted(Broken())


def test_what_contains_itself_ends() -> None:
    loop: list[Any] = [1]
    loop.extend([loop, {"again": loop}])
    assert accepted(loop) == [1, CUT, {"again": CUT}]
    box = Box(None)
    box.a = [box, box]
    assert accepted(box) == {"a": [CUT, CUT], "b": None}
    shared = [1]
    assert accepted([shared, shared]) == [[1], [1]]


@pytest.mark.parametrize(
    "wrap", [lambda x: [x], lambda x: {"k": x}, Box, lambda x: Model.model_construct(a=x)]
)
def test_the_depth_is_bounded(wrap: Callable[[Any], Any]) -> None:
    deep: Any = "end"
    for _ in range(500):
        deep = wrap(deep)
    shown = json.dumps(accepted(deep))
    assert shown.count("[") + shown.count("{") == MAX_DEPTH
    edge: Any = dt.date(2020, 1, 2)
    for _ in range(MAX_DEPTH):
        edge = wrap(edge)
    assert "2020-01-02" in json.dumps(accepted(edge))


def test_an_integer_of_thousands_of_digits_is_described() -> None:
    assert accepted([10**5000]) == [f"<an integer of {(10**5000).bit_length()} bits>"]


def test_the_result_shares_nothing_with_the_value() -> None:
    value = {"a": [1], "m": ai(additional_kwargs={"k": [1]})}
    shown = to_json(value)
    shown["a"].append(2)
    shown["m"]["tool_calls"][0]["args"]["city"] = "Rome"
    shown["m"]["additional_kwargs"]["k"].append(2)
    assert value["a"] == [1]
    assert value["m"].tool_calls == [CALL]
    assert value["m"].additional_kwargs == {"k": [1]}


hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(alphabet=st.characters(codec=None, categories=None)),
    st.binary(max_size=4),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.decimals().filter(lambda number: not number.is_snan()),
    st.fractions(),
    st.complex_numbers(),
    st.sampled_from([*Color, *Level, *Word, Rights.READ, "__proto__", "constructor", "prototype", Plain()]),
)
keys = st.one_of(hashable, st.tuples(hashable), st.frozensets(hashable, max_size=2))
anything = st.recursive(
    hashable
    | st.just(decimal.Decimal("sNaN"))
    | st.text().map(ValueError)
    | st.frozensets(keys, max_size=3)
    | st.sets(keys, max_size=3),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(collections.deque),
        st.dictionaries(keys, inner, max_size=3),
        inner.map(Box),
        inner.map(Point),
        inner.map(lambda a: Model.model_construct(a=a)),
        inner.map(Struct),
        inner.map(lambda a: AIMessage("x", additional_kwargs={"a": a})),
        inner.map(lambda a: ToolMessage("x", tool_call_id="1", artifact=a)),
        inner.map(lambda a: Interrupt(value=a, id="i")),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(anything)
def test_a_document_takes_whatever_comes_out(value: object) -> None:
    shown = accepted(value)
    assert same(to_json(shown), shown), "JSON doesn't change again"
    assert same(to_json(value), shown)


@settings(deadline=None)
@given(values)
def test_json_stays_as_it_is(value: Any) -> None:
    assert to_json(value) == value


@settings(deadline=None)
@given(anything)
def test_whatever_the_checkpointer_keeps_is_the_same_reloaded(value: object) -> None:
    try:
        back = reloaded([value])
    except Exception:
        return
    if not _meeting_keys(value):
        assert same(accepted([value]), accepted(back))


def _meeting_keys(value: object) -> bool:
    """Whether the checkpointer itself might join keys, or order a set anew, somewhere in it."""
    text = repr(value)
    return "{" in text


# --- messages


def test_a_message_is_compact() -> None:
    assert message_to_json(HumanMessage("hi")) == {"type": "human", "content": "hi"}
    assert message_to_json(SystemMessage("hi", id="s", name="n")) == {
        "type": "system",
        "id": "s",
        "content": "hi",
        "name": "n",
    }
    assert message_to_json(RemoveMessage(id="1")) == {"type": "remove", "id": "1", "content": ""}
    assert message_to_json(FunctionMessage("x", name="f")) == {
        "type": "function",
        "content": "x",
        "name": "f",
    }
    assert message_to_json(ChatMessage("x", role="r")) == {"type": "chat", "content": "x", "role": "r"}


def test_an_ai_message_has_all_that_is_not_empty() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    message = AIMessage(
        [{"type": "text", "text": "a"}, "b"],
        id="1",
        tool_calls=[CALL],
        invalid_tool_calls=[{"name": "f", "args": "{", "id": "2", "error": "no"}],
        usage_metadata=usage,
        response_metadata={"at": dt.date(2020, 1, 2)},
        additional_kwargs={"k": (1,)},
        example=True,
    )
    assert message_to_json(message) == {
        "type": "ai",
        "id": "1",
        "content": [{"type": "text", "text": "a"}, "b"],
        "tool_calls": [CALL],
        "invalid_tool_calls": [
            {"name": "f", "args": "{", "id": "2", "error": "no", "type": "invalid_tool_call"}
        ],
        "usage_metadata": usage,
        "response_metadata": {"at": "2020-01-02"},
        "additional_kwargs": {"k": [1]},
        "example": True,
    }
    assert "example" not in message_to_json(AIMessage("x", example=False))


def test_a_tool_message_always_says_its_call_and_status() -> None:
    message = ToolMessage("x", tool_call_id="c1", name="find")
    shown = {"type": "tool", "content": "x", "name": "find", "tool_call_id": "c1", "status": "success"}
    assert message_to_json(message) == shown
    message = ToolMessage("x", tool_call_id="c1", status="error", artifact=0)
    assert message_to_json(message) == {
        "type": "tool",
        "content": "x",
        "tool_call_id": "c1",
        "status": "error",
        "artifact": 0,
    }


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        (AIMessageChunk("x", chunk_position="last"), "ai"),
        (HumanMessageChunk("x"), "human"),
        (ToolMessageChunk("x", tool_call_id="1"), "tool"),
    ],
)
def test_a_chunk_has_the_type_of_a_whole_message(chunk: BaseMessage, kind: str) -> None:
    shown = message_to_json(chunk)
    assert shown["type"] == kind
    assert shown.keys() <= {"type", "content", "tool_call_id", "status"}


def test_fields_of_a_class_of_ones_own_are_kept() -> None:
    assert message_to_json(Noted("x", note=(1,))) == {"type": "human", "content": "x", "note": [1]}
    assert message_to_json(HumanMessage("x", more=(1,), __proto__=2)) == {
        "type": "human",
        "content": "x",
        "more": [1],
        "$__proto__": 2,
    }


def test_tool_calls_without_a_type_are_the_same_live_and_reloaded() -> None:
    message = AIMessage("x")
    message.tool_calls = [{"name": "f", "args": {"a": (1,)}, "id": None}]
    assert message_to_json(message) == message_to_json(reloaded(message))


def test_text_with_a_lone_surrogate_is_shown() -> None:
    message = HumanMessage("é\ud800", id="i\ud800", name="\udfff")
    assert accepted(message) == {"type": "human", "id": "i?", "content": "é?", "name": "?"}


def test_an_exception_that_a_task_raised_has_a_type_and_a_message() -> None:
    assert exception_to_json(Failure("a\ud800")) == {"type": "Failure", "message": "a?"}
    broken = type("Broken", (Exception,), {"__str__": lambda self: 1 / 0})
    assert exception_to_json(broken()) == {"type": "Broken", "message": ""}
