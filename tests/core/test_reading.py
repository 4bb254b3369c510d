from __future__ import annotations

import json
import math
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwire.core.errors import InvalidValue, Refused
from threadwire.core.operations import FORBIDDEN_KEYS
from threadwire.core.reading import MAX_FIELD, read_json, read_msgpack

MAX = 2**53 - 1

Reader = Callable[[bytes], Any]


def refusal(reader: Reader, data: Any, **options: Any) -> tuple[str, str | None]:
    """(code, field) of the refusal, which is small whatever the input was."""
    with pytest.raises(Refused) as caught:
        reader(data, **options)
    error = caught.value
    assert len(error.message) <= 200
    assert error.field is None or len(error.field) <= MAX_FIELD
    msgspec.json.encode(error.info)
    return error.code, error.field


def nested_json(depth: int, *, closed: bool = True) -> str:
    return "[" * depth + "]" * (depth if closed else 0)


# the rules, in both encodings; a message is written by hand where the encoders refuse to

HOSTILE_JSON = [
    ('{"a": NaN}', "not-finite", "a"),
    ('{"a": Infinity}', "not-finite", "a"),
    ('{"a": [1, -Infinity]}', "not-finite", "a.1"),
    ('{"a": 1e400}', "not-finite", "a"),
    ('{"a": -1e99999999999999999999}', "not-finite", "a"),
    ("NaN", "not-finite", None),
    (f'{{"a": {MAX + 1}}}', "integer-range", "a"),
    (f'{{"a": {-MAX - 1}}}', "integer-range", "a"),
    ('{"a": 18446744073709551615}', "integer-range", "a"),
    ('{"a": ' + "1" * 5_000 + "}", "integer-range", "a"),
    ('{"a": -' + "9" * 1_000_000 + "}", "integer-range", "a"),
    ('{"a": ' + "1" * 5_000 + ".5}", "not-finite", "a"),
    (r'{"a": "\ud800"}', "invalid-unicode", "a"),
    (r'{"a": {"b": ["x", "\udc00\ud800"]}}', "invalid-unicode", "a.b.1"),
    ('{"a": "\ud800"}', "invalid-unicode", "a"),
    (r'{"a": {"x\ud800": 1}}', "invalid-unicode", "a.x?"),
    ('{"a": 1, "a": 1}', "duplicate-key", "a"),
    ('{"a": {"b": 1, "c": 2, "b": 3}}', "duplicate-key", "a.b"),
    (r'{"a": 1, "\u0061": 1}', "duplicate-key", "a"),
    ('{"__proto__": 1}', "forbidden-key", "__proto__"),
    ('{"a": [{"constructor": 1}]}', "forbidden-key", "a.0.constructor"),
    ('{"a": {"prototype": {}}}', "forbidden-key", "a.prototype"),
    (r'{"a": {"__proto\u005f_": {}}}', "forbidden-key", "a.__proto__"),
]

STR_A = b"\xa1a"
HOSTILE_MSGPACK = [
    (b"\x81" + STR_A + b"\xcb" + struct.pack(">d", math.nan), "not-finite", "a"),
    (b"\x81" + STR_A + b"\xca" + struct.pack(">f", math.inf), "not-finite", "a"),
    (b"\x91\xcb" + struct.pack(">d", -math.inf), "not-finite", "0"),
    (msgpack.packb({"a": MAX + 1}), "integer-range", "a"),
    (msgpack.packb({"a": -MAX - 1}), "integer-range", "a"),
    (msgpack.packb({"a": 2**64 - 1}), "integer-range", "a"),
    (msgpack.packb({"a": -(2**63)}), "integer-range", "a"),
    (b"\x81" + STR_A + b"\xa2\xff\xfe", "invalid-unicode", "a"),
    (b"\x81" + STR_A + b"\xa3\xed\xa0\x80", "invalid-unicode", "a"),
    (b"\x81" + STR_A + b"\xa2\xc0\xaf", "invalid-unicode", "a"),
    (b"\x81\xa2x\xff\x01", "invalid-unicode", "x?"),
    (b"\x82" + STR_A + b"\x01" + STR_A + b"\x02", "duplicate-key", "a"),
    (b"\x82" + STR_A + b"\x01\xd9\x01a\x02", "duplicate-key", "a"),
    (msgpack.packb({"a": [{"__proto__": 1}]}), "forbidden-key", "a.0.__proto__"),
    (msgpack.packb({"a": {"constructor": 1}}), "forbidden-key", "a.constructor"),
    (msgpack.packb({1: 2}), "invalid-key", None),
    (msgpack.packb({"a": {None: 2}}), "invalid-key", "a"),
    (msgpack.packb({"a": {b"b": 2}}), "invalid-key", "a"),
    (b"\x81" + STR_A + b"\x81\x91\x01\x02", "invalid-key", "a"),  # an array as key
    (b"\x81\x80\x01", "invalid-key", None),  # an object as key
    (b"\x81\xd4\x05x\x01", "invalid-key", None),  # an extension as key
    (msgpack.packb({"a": b"bytes"}), "unsupported-type", "a"),
    (msgpack.packb([msgpack.ExtType(5, b"x")]), "unsupported-type", "0"),
    (msgpack.packb({"a": msgpack.Timestamp(0, 0)}), "unsupported-type", "a"),
    (msgpack.packb(b"bytes"), "unsupported-type", None),
]


@pytest.mark.parametrize(("text", "code", "field"), HOSTILE_JSON)
def test_hostile_json_is_refused_with_code_and_field(text: str, code: str, field: str | None) -> None:
    assert refusal(read_json, text) == (code, field)


@pytest.mark.parametrize(("data", "code", "field"), HOSTILE_MSGPACK)
def test_hostile_msgpack_is_refused_with_code_and_field(data: bytes, code: str, field: str | None) -> None:
    assert refusal(read_msgpack, data) == (code, field)


MALFORMED_JSON = [
    "",
    " ",
    "{",
    "[1,]",
    "[1 2]",
    "{'a': 1}",
    "{a: 1}",
    "01",
    "1.",
    "+1",
    "0x10",
    "nan",
    "undefined",
    "٣",
    "1 2",
    "[]\x00",
    '"\x00"',
    '"a\nb"',
    r'"\x"',
    r'"\u12"',
    "\ufeff[]",
    "\u2003[]",
    "// no\n[]",
    b"\xef\xbb\xbf[]",
    b'"\xff"',
    b'"\xed\xa0\x80"',
    "[]".encode("utf-16"),
    "[]".encode("utf-32-le"),
]

MALFORMED_MSGPACK = [
    b"",
    b"\xc1",
    b"\x93\x01",
    b"\x81\xa1a",
    b"\xa5abc",
    b"\xcb\x00",
    b"\x01\x02",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x05",
    b"\xc7\x01\xff\x00",  # a timestamp of one byte
    b"\xd7\xff" + b"\xff" * 8,  # a timestamp of 1,073,741,823 ns
]


@pytest.mark.parametrize("data", MALFORMED_JSON)
def test_text_that_is_not_json_is_malformed(data: bytes | str) -> None:
    assert refusal(read_json, data) == ("malformed", None)


@pytest.mark.parametrize("data", MALFORMED_MSGPACK)
def test_bytes_that_are_not_msgpack_are_malformed(data: bytes) -> None:
    assert refusal(read_msgpack, data) == ("malformed", None)


# depth


@pytest.mark.parametrize("depth", [101, 500, 2_000, 100_000])
@pytest.mark.parametrize("form", [("[", "1", "]"), ('{"a":', "1", "}"), ('[{"a":', "[]", "}]")])
def test_json_nested_too_deep_is_refused(depth: int, form: tuple[str, str, str]) -> None:
    opening, inner, closing = form
    assert refusal(read_json, opening * depth + inner + closing * depth)[0] == "too-deep"


@pytest.mark.parametrize("depth", [101, 500, 2_000, 100_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81" + STR_A, b"\x91\x81" + STR_A])
def test_msgpack_nested_too_deep_is_refused(depth: int, opening: bytes) -> None:
    assert refusal(read_msgpack, opening * depth + b"\x01")[0] == "too-deep"


def test_deep_map_keys_are_refused() -> None:
    assert refusal(read_msgpack, b"\x81" * 2_000 + b"\x01" * 2_001)[0] == "too-deep"


def test_a_message_of_opening_brackets_is_refused() -> None:
    assert refusal(read_json, nested_json(100_000, closed=False))[0] in ("too-deep", "malformed")


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_exactly_max_depth_containers_may_nest(depth: int) -> None:
    text = nested_json(depth)
    assert read_json(text, max_depth=depth) == json.loads(text)
    assert read_msgpack(msgpack.packb(json.loads(text)), max_depth=depth) == json.loads(text)
    assert refusal(read_json, nested_json(depth + 1), max_depth=depth)[0] == "too-deep"


def test_too_deep_names_the_place() -> None:
    assert refusal(read_json, '{"a": [{"b": 1}, {"b": [2]}]}', max_depth=3) == ("too-deep", "a.1.b")


def test_the_default_depth_is_one_hundred() -> None:
    read_json(nested_json(100))
    assert refusal(read_json, nested_json(101))[0] == "too-deep"


# what errors say


def test_a_long_path_is_cut() -> None:
    key = "k" * 1_000_000
    code, field = refusal(read_json, json.dumps({key: {key: math.nan}}))
    assert code == "not-finite"
    assert field == "k" * (MAX_FIELD - 1) + "…"


def test_a_path_of_200_characters_is_whole() -> None:
    key = "k" * (MAX_FIELD - 2)
    assert refusal(read_json, json.dumps({key: [math.nan]})) == ("not-finite", f"{key}.0")


def test_the_callers_field_comes_first() -> None:
    assert refusal(read_json, '{"a": NaN}', field="state") == ("not-finite", "state.a")
    assert refusal(read_json, "NaN", field="state") == ("not-finite", "state")
    assert refusal(read_msgpack, b"\x81\x01\x02", field="state") == ("invalid-key", "state")


def test_a_huge_duplicate_key_is_not_echoed() -> None:
    key = json.dumps("é" * 1_000_000)
    code, field = refusal(read_json, f"{{{key}: 1, {key}: 2}}")
    assert code == "duplicate-key"
    assert field is not None
    assert len(field) == MAX_FIELD


# what is let through, and as what


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0.0),
        ("-0e5", 0.0),
        ("1.0", 1.0),
        ("1e20", 1e20),
        ("1e-400", 0.0),
        (str(MAX), MAX),
        (str(-MAX), -MAX),
        ("9007199254740993.0", 9007199254740992.0),
        ('"\\u0000\\u001f\x7f\u2028\\ud83d\\ude00é"', "\x00\x1f\x7f\u2028😀é"),
        ('{"": {"": []}}', {"": {"": []}}),
        ('{"proto": 1, "Constructor": 2}', {"proto": 1, "Constructor": 2}),
        ('["__proto__", "constructor"]', ["__proto__", "constructor"]),
        ("\t\r\n [true, false, null] \n", [True, False, None]),
    ],
)
def test_valid_json_is_read(text: str, value: object) -> None:
    for data in (text, text.encode()):
        got = read_json(data)
        assert repr(got) == repr(value)


def test_negative_zero_becomes_zero_in_both_encodings() -> None:
    assert math.copysign(1, read_json("[-0.0]")[0]) == 1
    assert math.copysign(1, read_msgpack(msgpack.packb({"a": -0.0}))["a"]) == 1


def test_half_precision_is_kept_as_the_double_it_is() -> None:
    assert read_msgpack(b"\xca" + struct.pack(">f", 0.1)) == struct.unpack(">f", struct.pack(">f", 0.1))[0]


def test_digit_limit_of_the_interpreter_makes_no_difference() -> None:
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(0)
        assert refusal(read_json, "1" * 100_000) == ("integer-range", None)
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (str(10**20), 1e20),
        (str(-(10**20)), -1e20),
        (str(2**53), float(2**53)),
        ("-" + "9" * 21, None),
        (str(2**53 + 1), None),
        ("29080130737143990", 2.908013073714399e16),  # as JavaScript writes 29080130737143992
        ("29080130737143991", None),
        (str(10**21 - 1), None),
        (str(10**21), 1e21),
        ("1" + "0" * 5_000, None),
        (str(MAX), MAX),
        ("-0", 0),
    ],
)
def test_wide_integers_are_read_as_floats_where_a_double_is_meant(literal: str, value: float | None) -> None:
    if value is None:
        assert refusal(read_json, literal, wide_integers=True) == ("integer-range", None)
    else:
        assert repr(read_json(literal, wide_integers=True)) == repr(value)
    if abs(int(literal[:400])) > MAX:
        assert refusal(read_json, literal) == ("integer-range", None)


# properties

keys = st.text(max_size=8).filter(lambda key: key not in FORBIDDEN_KEYS)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX, MAX)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)


@given(values)
def test_valid_values_come_back_as_they_were(value: Any) -> None:
    for ascii_only in (True, False):
        assert repr(read_json(json.dumps(value, ensure_ascii=ascii_only))) == repr(value)
    assert repr(read_msgpack(msgpack.packb(value))) == repr(value)
    assert repr(read_msgpack(msgspec.msgpack.encode(value))) == repr(value)


hostile_leaves = (
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, MAX + 1, 2**64 - 1, b"x", msgpack.ExtType(1, b"")])
    | st.text(st.characters(categories=["Cs", "L"]), max_size=3)
    | scalars
)
hostile_keys = (
    st.text(st.characters(), max_size=3) | st.sampled_from(sorted(FORBIDDEN_KEYS)) | st.integers(0, 9)
)
hostile_values = st.recursive(
    hostile_leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_keys, inner, max_size=4),
    max_leaves=20,
)


def is_valid(value: Any) -> bool:
    """The rules once more, in the plainest words."""
    match value:
        case None | bool():
            return True
        case int():
            return abs(value) <= MAX
        case float():
            return math.isfinite(value)
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
        case list():
            return all(is_valid(item) for item in value)
        case dict():
            return all(
                isinstance(key, str) and is_valid(key) and key not in FORBIDDEN_KEYS and is_valid(item)
                for key, item in value.items()
            )
    return False


@given(hostile_values)
def test_exactly_the_valid_values_are_read_from_msgpack(value: Any) -> None:
    data = msgpack.packb(value, unicode_errors="surrogatepass")
    if is_valid(value):
        assert read_msgpack(data) == value
    else:
        refusal(read_msgpack, data)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for reader in (read_json, read_msgpack):
        try:
            value = reader(data)
        except Refused:
            continue
        assert is_valid(value)


@given(st.text(st.sampled_from('{}[]",:\\u0d89e-+.1NaInfity \ud800é'), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = read_json(text)
    except Refused:
        return
    assert is_valid(value)


# cost

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        pytest.param(read_json, "[" + "1," * (MIB // 2 - 1) + "1]", id="json-integers"),
        pytest.param(read_json, "[" + "[]," * (MIB // 3 - 1) + "1]", id="json-arrays"),
        pytest.param(
            read_json, "{" + ",".join(f'"{n}":{{}}' for n in range(MIB // 12)) + "}", id="json-keys"
        ),
        pytest.param(read_json, '"' + "é" * (MIB // 2) + '"', id="json-text"),
        pytest.param(read_json, "[" * MIB, id="json-brackets"),
        pytest.param(read_json, "9" * MIB, id="json-digits"),
        pytest.param(read_json, "9" * MIB + ".5", id="json-decimals"),
        pytest.param(read_msgpack, b"\xdd" + struct.pack(">I", MIB) + b"\x90" * MIB, id="msgpack-arrays"),
        pytest.param(read_msgpack, b"\x91" * MIB, id="msgpack-brackets"),
        pytest.param(
            # Integers whose hashes collide in every dict: they must never become keys of one.
            read_msgpack,
            b"\xdf"
            + struct.pack(">I", MIB // 10)
            + b"".join(b"\xcf" + struct.pack(">Q", n << 44) + b"\x01" for n in range(MIB // 10)),
            id="msgpack-integer-keys",
        ),
    ],
)
def test_a_mebibyte_of_anything_is_read_or_refused_soon(reader: Reader, data: Any) -> None:
    started = time.process_time()
    with suppress(InvalidValue):
        reader(data)
    # Ten times what it takes, and a hundredth of what quadratic work would.
    assert time.process_time() - started < 3
