"""The calculator is right about arithmetic, and refuses the rest before it costs anything."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwire_agents.demos.calculator import MAX_BITS, CalculationError, calculate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 + 3", 5),
        ("3 * (4 + 1) ** 2", 75),
        ("17.5 * 15 / 100", 2.625),
        ("0.1 + 0.2", 0.3),
        ("10 / 4", 2.5),
        ("10 / 5", 2),
        ("7 // 2 + 7 % 4", 6),
        ("-2 ** 2", -4),
        ("+-+3", -3),
        ("2^10 × 3 ÷ 2 − 1", 1535),
        ("1e3 + .5", 1000.5),
        ("sqrt(2)", 1.41421356237),
        ("round(2 / 3, 2)", 0.67),
        ("round(2.6)", 3),
        ("max(1, 2, 3) - min(4, 5)", -1),
        ("log(1000) + log2(8) + ln(e)", 7),
        ("floor(2.7) + ceil(2.2)", 5),
        ("2 ** 1000", 2**1000),
        ("(-8) ** 3", -512),
        ("4 ** -1", 0.25),
        ("1 ** 999999999999", 1),
        (" 1\n+ 1 ", 2),
    ],
)
def test_arithmetic_is_worked_out(expression: str, result: float) -> None:
    assert calculate(expression) == result


def test_whole_results_are_whole_numbers() -> None:
    assert type(calculate("10 / 5")) is int
    assert type(calculate("2.5 * 2")) is int
    assert type(calculate("1e300")) is float


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "nothing to calculate"),
        ("   ", "nothing to calculate"),
        ("1 +", "no complete expression"),
        ("1 2", "no complete expression"),
        ("(" * 99 + "1", "no complete expression"),
        ("1 / 0", "divides by zero"),
        ("1 % 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("2 ** 99999999999", "too large"),
        ("10.0 ** 400", "too large"),
        ("1e999", "too large"),
        ("exp(1000)", "too large"),
        (f"2 ** {MAX_BITS}", "too large"),
        ("*".join(["9" * 60] * 3) + " * 9**300", "too large"),
        ("(-8) ** 0.5", "negative"),
        ("sqrt(-1)", "no result"),
        ("log(0)", "no result"),
        ("sqrt(1, 2)", "takes 1 numbers, not 2"),
        ("max(1)", "takes 2 or more"),
        ("sqrt()", "not 0"),
        ("1(2)", "only numbers"),
        ("min", "not known"),
        ("foo(1)", "not known"),
        ("__import__('os')", "no arithmetic"),
        ("().__class__", "no arithmetic"),
        ("1 if 1 else 2", "no complete|only numbers"),
        ("a.b", "no arithmetic"),
        ("1 < 2", "no arithmetic"),
        ("'a' * 3", "no arithmetic"),
        ("[1]", "no arithmetic"),
        ("1j", "no arithmetic"),
        ("0x10", "no arithmetic"),
        ("1or 2", "no arithmetic"),
        ("1_000", "no arithmetic"),
        ("x := 1", "no arithmetic"),
        ("²", "no arithmetic"),
        ("٣ + ٤", "no arithmetic"),
        ("1 + 1 " * 100, "longer than 200"),
        ("True", "no arithmetic"),
        ("lambda", "no complete"),
        ("1, 2", "only numbers"),
    ],
)
def test_what_is_no_bounded_arithmetic_is_refused_with_a_reason(expression: str, reason: str) -> None:
    with pytest.raises(CalculationError, match=reason):
        calculate(expression)


@given(st.text(alphabet="0123456789.e+-*/%() ,sqrtoundlogmaxpi^\n", max_size=60) | st.text(max_size=220))
def test_any_text_has_a_finite_value_or_is_refused(text: str) -> None:
    try:
        value = calculate(text)
    except CalculationError:
        return
    assert math.isfinite(value) if isinstance(value, float) else value.bit_length() <= MAX_BITS


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.sampled_from("+-*"))
def test_whole_numbers_are_exact(a: int, b: int, sign: str) -> None:
    assert calculate(f"{a} {sign} ({b})") == {"+": a + b, "-": a - b, "*": a * b}[sign]
