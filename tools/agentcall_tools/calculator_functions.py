"""The functions and constants of the calculator by name, each with its number of arguments.

Each function is refused before it would cost too much. Trigonometry works on floats and returns
0 where only their rounding error is left.
"""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import partial, reduce
from math import inf
from types import MappingProxyType

from agentcall_tools.arithmetic import (
    INTEGER_BITS,
    SERIES_WORK,
    Arithmetic,
    CalculationError,
    Number,
    count_bits,
    describe,
    make_too_large_error,
)

ROUND_DIGITS = 100
FLOAT_NOISE = 4e-16
MAX_ANGLE = 10**9
"""A float keeps no useful digits of a larger angle."""

CONSTANTS: Mapping[str, Number] = MappingProxyType(
    {
        "pi": Decimal("3.14159265358979323846264338327950288419716939937510582097494"),
        "e": Decimal("2.71828182845904523536028747135266249775724709369995957496697"),
        "tau": Decimal("6.28318530717958647692528676655900576839433879875021164194989"),
        "phi": Decimal("1.61803398874989484820458683436563811772030917980576286213545"),
        "true": True,
        "false": False,
    }
)


def call_function(numbers: Arithmetic, name: str, values: list[Number]) -> Number:
    """Return the value of the named function; raise `CalculationError` if it cannot be had."""
    function, least, most = FUNCTIONS[name]
    if not least <= len(values) <= most:
        takes = f"at least {least}" if most == inf else f"{least} to {most}"
        raise CalculationError(
            f"{name} takes {least if least == most else takes} arguments, got {len(values)} "
            "(inside a call a comma separates arguments: write 1000, not 1,000)"
        )
    return function(numbers, *values)


def _square_root(numbers: Arithmetic, a: Number) -> Number:
    if a < 0:
        raise CalculationError(f"sqrt({describe(a)}) is not a real number")
    return numbers.power(a, Fraction(1, 2))


def _cube_root(numbers: Arithmetic, a: Number) -> Number:
    root = numbers.power(_magnitude(numbers, a), Fraction(1, 3))
    return numbers.negate(root) if a < 0 else root


def _magnitude(numbers: Arithmetic, a: Number) -> Number:
    return numbers.negate(a) if a < 0 else a  # abs() would round a decimal to 28 digits


def _sum(numbers: Arithmetic, *values: Number) -> Number:
    start: Number = 0
    return reduce(numbers.add, values, start)


def _round_half_up(numbers: Arithmetic, a: Number, places: Number = 0) -> Number:
    """Round a half away from zero, as taught at school."""
    count = numbers.to_integer(places, "round(x, digits)")
    if abs(count) > ROUND_DIGITS:
        raise CalculationError(f"round(x, digits) takes -{ROUND_DIGITS} to {ROUND_DIGITS}")
    value, scale = numbers.to_exact(a), Fraction(10) ** count
    numbers.spend(float(count_bits(value)) * 512)
    whole = math.floor(abs(Fraction(value)) * scale + Fraction(1, 2))
    return numbers.simplify(Fraction(-whole if value < 0 else whole) / scale)


def _factorial(numbers: Arithmetic, a: Number) -> Number:
    n = numbers.to_integer(a, "factorial")
    if n < 0:
        raise CalculationError(f"factorial needs a number of at least 0, got {describe(n)}")
    size = math.lgamma(n + 1) / math.log(2) if n < 10**9 else inf
    if size > INTEGER_BITS:
        raise make_too_large_error(f"factorial({describe(n)})")
    numbers.spend(size**2)
    return math.factorial(n)


def _count_selections(
    function: Callable[[int, int], int], numbers: Arithmetic, a: Number, b: Number
) -> Number:
    """Return comb(n, k) or perm(n, k)."""
    name = function.__name__
    n, k = numbers.to_integer(a, name), numbers.to_integer(b, name)
    if n < 0 or k < 0:
        raise CalculationError(f"{name}(n, k) needs numbers of at least 0")
    if k > n:
        return 0
    factors = min(k, n - k) if name == "comb" else k
    if factors > INTEGER_BITS or factors * n.bit_length() > INTEGER_BITS * 4:
        raise make_too_large_error(f"{name}({describe(n)}, {describe(factors)})")
    numbers.spend(float(factors * n.bit_length()) ** 2)
    return numbers.simplify(function(n, factors))


def _greatest_divisor(numbers: Arithmetic, *values: Number) -> int:
    result = 0
    for value in values:
        whole = numbers.to_integer(value, "gcd")
        numbers.spend(float(result.bit_length()) * whole.bit_length() * 4)
        result = math.gcd(result, whole)
    return result


def _least_multiple(numbers: Arithmetic, *values: Number) -> Number:
    result = 1
    for value in values:
        whole = numbers.to_integer(value, "lcm")
        divisor = _greatest_divisor(numbers, result, whole) or 1
        numbers.spend(float(result.bit_length()) * whole.bit_length() * 2)
        result = abs(result // divisor * whole)
        numbers.simplify(result)  # refuses a result that has grown too large
    return result


def _power(numbers: Arithmetic, a: Number, b: Number, m: Number | None = None) -> Number:
    if m is None:
        return numbers.power(a, b)
    base, exponent, modulus = (numbers.to_integer(v, "pow(a, b, m)") for v in (a, b, m))
    if exponent < 0 or modulus == 0:
        raise CalculationError("pow(a, b, m) needs b of at least 0 and m other than 0")
    numbers.spend(float(modulus.bit_length()) ** 2 * (exponent.bit_length() + 1))
    numbers.spend(float(base.bit_length()) * modulus.bit_length())
    return pow(base, exponent, modulus)


def _exponential(numbers: Arithmetic, a: Number) -> Number:
    numbers.spend(SERIES_WORK)
    return 1 if a == 0 else numbers.context.exp(numbers.to_decimal(a))


def _logarithm(numbers: Arithmetic, a: Number, base: Number | None = None) -> Number:
    if a <= 0:
        raise CalculationError(f"a logarithm needs a number above 0, got {describe(a)}")
    numbers.spend(SERIES_WORK)
    if base is None:
        return 0 if a == 1 else numbers.context.ln(numbers.to_decimal(a))
    if base == 10:
        return numbers.context.log10(numbers.to_decimal(a))
    if base <= 0 or base == 1:
        raise CalculationError(f"{describe(base)} cannot be the base of a logarithm")
    return numbers.divide(_logarithm(numbers, a), _logarithm(numbers, base))


def _use_floats(
    function: Callable[..., float], numbers: Arithmetic, *values: Number
) -> int | Fraction:
    try:
        result = function(*(float(value) for value in values))
    except OverflowError:
        raise CalculationError("the number is too large for this function") from None
    except ValueError:
        arguments = ", ".join(describe(value) for value in values)
        raise CalculationError(f"{function.__name__}({arguments}) is not a real number") from None
    return numbers.to_exact(Decimal(f"{result:.15g}"))


def _use_angle(function: Callable[[float], float], numbers: Arithmetic, a: Number) -> Number:
    """Return the sine, cosine or tangent of an angle in radians."""
    if not -MAX_ANGLE <= a <= MAX_ANGLE:
        raise CalculationError(f"the angle {describe(a)} is too large; use 0 to 2*pi")
    if function is math.tan and _use_angle(math.cos, numbers, a) == 0:
        raise CalculationError(f"tan({describe(a)}) has no value: the cosine there is 0")
    result = _use_floats(function, numbers, a)
    return 0 if abs(float(result)) < FLOAT_NOISE * abs(float(a)) else result


def _log10(numbers: Arithmetic, a: Number) -> Number:
    return _logarithm(numbers, a, 10)


def _log2(numbers: Arithmetic, a: Number) -> Number:
    return _logarithm(numbers, a, 2)


def _degrees(numbers: Arithmetic, a: Number) -> Number:
    return numbers.divide(numbers.multiply(a, 180), CONSTANTS["pi"])


def _radians(numbers: Arithmetic, a: Number) -> Number:
    return numbers.divide(numbers.multiply(a, CONSTANTS["pi"]), 180)


def _hypotenuse(numbers: Arithmetic, *values: Number) -> Number:
    squares = [numbers.multiply(value, value) for value in values]
    return _square_root(numbers, _sum(numbers, *squares))


def _identity(numbers: Arithmetic, a: Number) -> Number:
    return a


def _sign(numbers: Arithmetic, a: Number) -> Number:
    return (a > 0) - (a < 0)


def _ceil(numbers: Arithmetic, a: Number) -> Number:
    return numbers.simplify(math.ceil(numbers.to_exact(a)))


def _truncate(numbers: Arithmetic, a: Number) -> Number:
    return numbers.simplify(math.trunc(numbers.to_exact(a)))


def _minimum(numbers: Arithmetic, *values: Number) -> Number:
    return reduce(lambda x, y: y if numbers.compare(y, x) < 0 else x, values)


def _maximum(numbers: Arithmetic, *values: Number) -> Number:
    return reduce(lambda x, y: y if numbers.compare(y, x) > 0 else x, values)


def _mean(numbers: Arithmetic, *values: Number) -> Number:
    return numbers.divide(_sum(numbers, *values), len(values))


_FUNCTIONS_BY_NAMES: dict[str, tuple[Callable[..., Number], int, float]] = {
    "sqrt": (_square_root, 1, 1),
    "cbrt": (_cube_root, 1, 1),
    "log": (_logarithm, 1, 2),
    "ln": (_logarithm, 1, 1),
    "log10 lg": (_log10, 1, 1),
    "log2": (_log2, 1, 1),
    "exp": (_exponential, 1, 1),
    "sin": (partial(_use_angle, math.sin), 1, 1),
    "cos": (partial(_use_angle, math.cos), 1, 1),
    "tan tg": (partial(_use_angle, math.tan), 1, 1),
    "asin arcsin": (partial(_use_floats, math.asin), 1, 1),
    "acos arccos": (partial(_use_floats, math.acos), 1, 1),
    "atan arctan": (partial(_use_floats, math.atan), 1, 1),
    "atan2": (partial(_use_floats, math.atan2), 2, 2),
    "sinh": (partial(_use_floats, math.sinh), 1, 1),
    "cosh": (partial(_use_floats, math.cosh), 1, 1),
    "tanh": (partial(_use_floats, math.tanh), 1, 1),
    "degrees": (_degrees, 1, 1),
    "radians": (_radians, 1, 1),
    "hypot": (_hypotenuse, 1, inf),
    "abs fabs": (_magnitude, 1, 1),
    "sign": (_sign, 1, 1),
    "float": (_identity, 1, 1),
    "round": (_round_half_up, 1, 2),
    "floor": (Arithmetic.floor, 1, 1),
    "ceil": (_ceil, 1, 1),
    "trunc int": (_truncate, 1, 1),
    "min": (_minimum, 1, inf),
    "max": (_maximum, 1, inf),
    "sum": (_sum, 0, inf),
    "mean average avg": (_mean, 1, inf),
    "factorial": (_factorial, 1, 1),
    "gcd": (_greatest_divisor, 0, inf),
    "lcm": (_least_multiple, 0, inf),
    "comb ncr choose": (partial(_count_selections, math.comb), 2, 2),
    "perm npr": (partial(_count_selections, math.perm), 2, 2),
    "pow": (_power, 2, 3),
    "mod fmod": (Arithmetic.modulo, 2, 2),
}
FUNCTIONS = MappingProxyType(
    {name: entry for names, entry in _FUNCTIONS_BY_NAMES.items() for name in names.split()}
)
"""Each function with the smallest and the largest number of its arguments."""
