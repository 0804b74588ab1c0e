"""Exponentials, logarithms and trigonometry; 0 where only the noise of a float is left."""

import math
from collections.abc import Callable
from decimal import Decimal

from agentcall_tools.arithmetic import (
    SERIES_WORK,
    Arithmetic,
    CalculationError,
    Number,
    describe,
)

FLOAT_NOISE = 4e-16


def exponential(numbers: Arithmetic, a: Number) -> Number:
    """e ** a."""
    numbers.spend(SERIES_WORK)
    return 1 if a == 0 else numbers.context.exp(numbers.to_decimal(a))


def logarithm(numbers: Arithmetic, a: Number, base: Number | None = None) -> Number:
    """The natural logarithm, or the one to a base."""
    if a <= 0:
        raise CalculationError(f"a logarithm needs a number above 0, got {describe(a)}")
    numbers.spend(SERIES_WORK)
    if base is None:
        return 0 if a == 1 else numbers.context.ln(numbers.to_decimal(a))
    if base == 10:
        return numbers.context.log10(numbers.to_decimal(a))
    if base <= 0 or base == 1:
        raise CalculationError(f"{describe(base)} cannot be the base of a logarithm")
    return numbers.divide(logarithm(numbers, a), logarithm(numbers, base))


def apply_float_function(
    numbers: Arithmetic, function: Callable[..., float], *values: Number
) -> Number:
    """A function of floats, without the noise of its last digit."""
    try:
        result = function(*(float(value) for value in values))
    except OverflowError:
        raise CalculationError("the number is too large for this function") from None
    except ValueError:
        shown = ", ".join(describe(value) for value in values)
        name = function.__name__
        raise CalculationError(f"{name}({shown}) is not a real number") from None
    return numbers.to_exact(Decimal(f"{result:.15g}"))


def sine(numbers: Arithmetic, a: Number) -> Number:
    """The sine of an angle in radians; 0 where only a float's noise is left."""
    refuse_large_angle(numbers, a)
    result = apply_float_function(numbers, math.sin, a)
    return 0 if abs(float(result)) < FLOAT_NOISE * abs(float(a)) else result


def cosine(numbers: Arithmetic, a: Number) -> Number:
    """The cosine of an angle in radians; 0 where only a float's noise is left."""
    refuse_large_angle(numbers, a)
    result = apply_float_function(numbers, math.cos, a)
    return 0 if abs(float(result)) < FLOAT_NOISE * abs(float(a)) else result


def tangent(numbers: Arithmetic, a: Number) -> Number:
    """The tangent of an angle in radians."""
    if cosine(numbers, a) == 0:
        raise CalculationError(f"tan({describe(a)}) has no value: the cosine there is 0")
    return 0 if sine(numbers, a) == 0 else apply_float_function(numbers, math.tan, a)


def refuse_large_angle(numbers: Arithmetic, a: Number) -> None:
    """Refuse an angle of which a float keeps no useful digits."""
    if not -(10**9) <= a <= 10**9:
        raise CalculationError(f"the angle {describe(a)} is too large; use 0 to 2*pi")
