"""Arithmetic on text that anybody may have written: numbers, operators and a few functions, with bounds.

Expressions are read by Python's own parser, but never run as Python: each node is worked out here.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Final, TypeAlias

Number: TypeAlias = int | float

MAX_LENGTH: Final = 200
MAX_BITS: Final = 1024
"""Whole numbers are exact up to here, about 300 digits; what is larger is refused before it is worked out."""

_NUMBER: Final = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])"
_TOKENS: Final = re.compile(rf"(?:\s|{_NUMBER}|[a-z][a-z0-9]*|\*\*|//|[-+*/%(),])*+", re.ASCII)
_SPELLINGS: Final = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**"})

_OPERATORS: Final[dict[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Final[dict[str, tuple[Callable[..., Number], range]]] = {
    "abs": (abs, range(1, 2)),
    "ceil": (math.ceil, range(1, 2)),
    "cos": (math.cos, range(1, 2)),
    "exp": (math.exp, range(1, 2)),
    "floor": (math.floor, range(1, 2)),
    "ln": (math.log, range(1, 2)),
    "log": (math.log10, range(1, 2)),
    "log2": (math.log2, range(1, 2)),
    "max": (max, range(2, 100)),
    "min": (min, range(2, 100)),
    "round": (lambda number, digits=0: round(float(number), int(digits)), range(1, 3)),
    "sin": (math.sin, range(1, 2)),
    "sqrt": (math.sqrt, range(1, 2)),
    "tan": (math.tan, range(1, 2)),
}
_CONSTANTS: Final = {"pi": math.pi, "e": math.e}


class CalculationError(ValueError):
    """An expression that can't be worked out; says why."""


def calculate(expression: str) -> Number:
    """The value of an expression such as `3 * (4 + 1) ** 2` or `sqrt(2)`; angles are in radians.

    Whole results are ints; others are rounded to 12 significant digits.

    Raises:
        CalculationError: it is no arithmetic, has no result, or one that is too large.
    """
    text = " ".join(expression.translate(_SPELLINGS).split())
    if not text:
        raise CalculationError("there is nothing to calculate")
    if len(text) > MAX_LENGTH:
        raise CalculationError(f"the expression is longer than {MAX_LENGTH} characters")
    # What Python reads but warns about, and all that isn't arithmetic, never gets to its parser.
    if not _TOKENS.fullmatch(text):
        raise CalculationError(f"{text!r} is no arithmetic: write it like 3 * (4 + 1) ** 2")
    try:
        value = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise CalculationError(f"{text!r} is no complete expression") from None
    except ZeroDivisionError:
        raise CalculationError(f"{text!r} divides by zero") from None
    except OverflowError:
        raise CalculationError("the result is too large") from None
    if isinstance(value, int):
        return value
    value = float(f"{value:.12g}")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(number)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _bounded(_OPERATORS[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _call(name, [_value(argument) for argument in arguments])
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            known = ", ".join(sorted((*_FUNCTIONS, *_CONSTANTS)))
            raise CalculationError(f"{name!r} is not known here; there are {known}")
    raise CalculationError("only numbers, operators and functions can be calculated")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int):
        # At least so many bits has the result, and at most twice as many.
        if abs(exponent) * (base.bit_length() - 1) > MAX_BITS:
            raise CalculationError("the power is too large")
        return _bounded(base**exponent)
    if base < 0 and not float(exponent).is_integer():
        raise CalculationError("a root of a negative number is no real number")
    return _bounded(float(base) ** exponent)


def _call(name: str, arguments: list[Number]) -> Number:
    function, counts = _FUNCTIONS[name]
    if len(arguments) not in counts:
        expected = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} or more"
        raise CalculationError(f"{name} takes {expected} numbers, not {len(arguments)}")
    try:
        return _bounded(function(*arguments))
    except ValueError:
        raise CalculationError(f"{name} has no result there") from None


def _bounded(number: Number) -> Number:
    if isinstance(number, int):
        if number.bit_length() > MAX_BITS:
            raise CalculationError("the result is too large")
    elif not math.isfinite(number):
        raise CalculationError("the result is too large")
    return number
