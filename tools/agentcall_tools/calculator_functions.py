"""The calculator's functions and constants by name, with how many arguments each takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from math import acos, asin, atan, atan2, cosh, inf, sinh, tanh
from types import MappingProxyType
from typing import TypeAlias

from agentcall_tools import integers, reals
from agentcall_tools.arithmetic import PHI, PI, TAU, Arithmetic, CalculationError, E, Number

Operation: TypeAlias = Callable[..., Number]


@dataclass(frozen=True, slots=True)
class CalculatorFunction:
    """What a name does with an `Arithmetic` and from `least` to `most` numbers."""

    run: Operation
    min_count: int = 1
    max_count: float = 1


def _sum(numbers: Arithmetic, *values: Number) -> Number:
    start: Number = 0
    return reduce(numbers.add, values, start)


def _mean(numbers: Arithmetic, *values: Number) -> Number:
    return numbers.divide(_sum(numbers, *values), len(values))


def _minimum(numbers: Arithmetic, *values: Number) -> Number:
    return reduce(lambda a, b: b if numbers.compare(b, a) < 0 else a, values)


def _maximum(numbers: Arithmetic, *values: Number) -> Number:
    return reduce(lambda a, b: b if numbers.compare(b, a) > 0 else a, values)


def _magnitude(numbers: Arithmetic, a: Number) -> Number:
    return numbers.negate(a) if a < 0 else a


def _sign(numbers: Arithmetic, a: Number) -> Number:
    return (a > 0) - (a < 0)


def _hypotenuse(numbers: Arithmetic, *sides: Number) -> Number:
    return numbers.square_root(_sum(numbers, *(numbers.multiply(a, a) for a in sides)))


def _degrees(numbers: Arithmetic, a: Number) -> Number:
    return numbers.divide(numbers.multiply(a, 180), PI)


def _radians(numbers: Arithmetic, a: Number) -> Number:
    return numbers.divide(numbers.multiply(a, PI), 180)


def _power(numbers: Arithmetic, a: Number, b: Number, m: Number | None = None) -> Number:
    return numbers.power(a, b) if m is None else integers.modular_power(numbers, a, b, m)


def _identity(numbers: Arithmetic, a: Number) -> Number:
    return a


def _wrap_float_function(function: Callable[..., float]) -> Operation:
    def run(numbers: Arithmetic, *values: Number) -> Number:
        return reals.apply_float_function(numbers, function, *values)

    return run


def _make_logarithm(base: int) -> Operation:
    def run(numbers: Arithmetic, a: Number) -> Number:
        return reals.logarithm(numbers, a, base)

    return run


_FUNCTIONS_BY_NAMES = {
    ("sqrt",): CalculatorFunction(Arithmetic.square_root),
    ("cbrt",): CalculatorFunction(Arithmetic.cube_root),
    ("sin",): CalculatorFunction(reals.sine),
    ("cos",): CalculatorFunction(reals.cosine),
    ("tan", "tg"): CalculatorFunction(reals.tangent),
    ("asin", "arcsin"): CalculatorFunction(_wrap_float_function(asin)),
    ("acos", "arccos"): CalculatorFunction(_wrap_float_function(acos)),
    ("atan", "arctan"): CalculatorFunction(_wrap_float_function(atan)),
    ("atan2",): CalculatorFunction(_wrap_float_function(atan2), 2, 2),
    ("sinh",): CalculatorFunction(_wrap_float_function(sinh)),
    ("cosh",): CalculatorFunction(_wrap_float_function(cosh)),
    ("tanh",): CalculatorFunction(_wrap_float_function(tanh)),
    ("log",): CalculatorFunction(reals.logarithm, 1, 2),
    ("ln",): CalculatorFunction(reals.logarithm),
    ("log10", "lg"): CalculatorFunction(_make_logarithm(10)),
    ("log2",): CalculatorFunction(_make_logarithm(2)),
    ("exp",): CalculatorFunction(reals.exponential),
    ("abs", "fabs"): CalculatorFunction(_magnitude),
    ("sign",): CalculatorFunction(_sign),
    ("round",): CalculatorFunction(integers.round_half_up, 1, 2),
    ("floor",): CalculatorFunction(Arithmetic.floor),
    ("ceil",): CalculatorFunction(integers.ceil),
    ("trunc", "int"): CalculatorFunction(integers.truncate),
    ("float",): CalculatorFunction(_identity),
    ("min",): CalculatorFunction(_minimum, 1, inf),
    ("max",): CalculatorFunction(_maximum, 1, inf),
    ("sum",): CalculatorFunction(_sum, 0, inf),
    ("mean", "average", "avg"): CalculatorFunction(_mean, 1, inf),
    ("factorial",): CalculatorFunction(integers.factorial),
    ("gcd",): CalculatorFunction(integers.greatest_common_divisor, 0, inf),
    ("lcm",): CalculatorFunction(integers.least_common_multiple, 0, inf),
    ("comb", "ncr", "choose"): CalculatorFunction(integers.choose, 2, 2),
    ("perm", "npr"): CalculatorFunction(integers.permute, 2, 2),
    ("degrees",): CalculatorFunction(_degrees),
    ("radians",): CalculatorFunction(_radians),
    ("hypot",): CalculatorFunction(_hypotenuse, 1, inf),
    ("pow",): CalculatorFunction(_power, 2, 3),
    ("mod", "fmod"): CalculatorFunction(Arithmetic.modulo, 2, 2),
}

FUNCTIONS: Mapping[str, CalculatorFunction] = MappingProxyType(
    {name: function for names, function in _FUNCTIONS_BY_NAMES.items() for name in names}
)
CONSTANTS: Mapping[str, Number] = MappingProxyType(
    {"pi": PI, "e": E, "tau": TAU, "phi": PHI, "true": True, "false": False}
)


def call_function(numbers: Arithmetic, name: str, values: list[Number]) -> Number:
    """The named function's value; refuses a wrong number of arguments."""
    function = FUNCTIONS[name]
    if not function.min_count <= len(values) <= function.max_count:
        least, most = function.min_count, function.max_count
        takes = f"at least {least}" if most == inf else f"{least} to {most}"
        raise CalculationError(
            f"{name} takes {least if least == most else takes} arguments, got {len(values)} "
            "(inside a call a comma separates arguments: write 1000, not 1,000)"
        )
    return function.run(numbers, *values)
