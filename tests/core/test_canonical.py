from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwire.core.canonical import canonical, state_hash
from threadwire.core.errors import InvalidValue

MAX = 2**53 - 1


def test_the_example_of_rfc_8785_has_its_bytes() -> None:
    value = json.loads(
        r"""{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"""
    )
    assert (
        canonical(value)
        == (
            r'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            r'"string":"€$\u000f\nA' + "'" + r'B\"\\\\\"/"}'
        ).encode()
    )


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_are_spelled_as_in_rfc_8785_appendix_b(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number) == text.encode()


def test_keys_are_sorted_by_utf_16() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\xf6", ""]
    got = json.loads(canonical(dict.fromkeys(keys, 0)))
    assert list(got) == ["", "\r", "1", "\x80", "\xf6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0, -0.0),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}),
        ([1e2], [100]),
    ],
)
def test_equal_values_have_the_same_hash(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other)
    assert state_hash(one) == state_hash(other)


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (0, False), ("1", 1), ([], {}), (None, {}), ("é", "e\u0301")]
)
def test_different_values_have_different_hashes(one: Any, other: Any) -> None:
    assert state_hash(one) != state_hash(other)


def test_the_hash_is_hexadecimal_sha_256_of_the_canonical_bytes() -> None:
    assert state_hash({}) == hashlib.sha256(b"{}").hexdigest()
    assert state_hash(None) == "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (math.nan, "not-finite"),
        ([math.inf], "not-finite"),
        ({"a": -math.inf}, "not-finite"),
        (MAX + 1, "integer-range"),
        (-MAX - 1, "integer-range"),
        ([10**5_000], "integer-range"),
        ("\ud800", "invalid-unicode"),
        ({"\udc00": 1}, "invalid-unicode"),
        ({"\udc00": 1, "a": 2}, "invalid-unicode"),
        ({1: 2}, "invalid-key"),
        ({"a": {None: 2}}, "invalid-key"),
        (b"bytes", "unsupported-type"),
        ([{1, 2}], "unsupported-type"),
        (object(), "unsupported-type"),
        (deep(100_000), "too-deep"),
    ],
)
def test_what_json_cannot_hold_is_refused(value: Any, code: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        canonical(value)
    assert caught.value.code == code
    assert len(caught.value.message) < 100


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX, MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_the_canonical_form_is_json_of_an_equal_value_and_its_own_canonical_form(value: Any) -> None:
    data = canonical(value)
    # Doubles of 17 to 21 digits are spelled as integers: only as doubles do they come back.
    again = json.loads(data, parse_int=float)
    assert again == value
    assert canonical(again) == data
