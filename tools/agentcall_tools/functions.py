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
class Function:
    """What a name does with an `Arithmetic` and from `least` to `most` numbers."""

    run: Operation
    least: int = 1
    most: float = 1


def _total(numbers: Arithmetic, *values: Number) -> Number:
    start: Number = 0
    return reduce(numbers.add, values, start)


def _mean(numbers: Arithmetic, *values: Number) -> Number:
    return numbers.divide(_total(numbers, *values), len(values))


def _least(numbers: Arithmetic, *values: Number) -> Number:
    return reduce(lambda a, b: b if numbers.compare(b, a) < 0 else a, values)


def _greatest(numbers: Arithmetic, *values: Number) -> Number:
    return reduce(lambda a, b: b if numbers.compare(b, a) > 0 else a, values)


def _magnitude(numbers: Arithmetic, a: Number) -> Number:
    return numbers.negate(a) if a < 0 else a


def _sign(numbers: Arithmetic, a: Number) -> Number:
    return (a > 0) - (a < 0)


def _hypotenuse(numbers: Arithmetic, *sides: Number) -> Number:
    return numbers.square_root(_total(numbers, *(numbers.multiply(a, a) for a in sides)))


def _degrees(numbers: Arithmetic, a: Number) -> Number:
    return numbers.divide(numbers.multiply(a, 180), PI)


def _radians(numbers: Arithmetic, a: Number) -> Number:
    return numbers.divide(numbers.multiply(a, PI), 180)


def _power(numbers: Arithmetic, a: Number, b: Number, m: Number | None = None) -> Number:
    return numbers.power(a, b) if m is None else integers.modular_power(numbers, a, b, m)


def _number(numbers: Arithmetic, a: Number) -> Number:
    return a


def _floats(function: Callable[..., float]) -> Operation:
    def run(numbers: Arithmetic, *values: Number) -> Number:
        return reals.by_float(numbers, function, *values)

    return run


def _logarithm(base: int) -> Operation:
    def run(numbers: Arithmetic, a: Number) -> Number:
        return reals.logarithm(numbers, a, base)

    return run


_NAMED = {
    ("sqrt",): Function(Arithmetic.square_root),
    ("cbrt",): Function(Arithmetic.cube_root),
    ("sin",): Function(reals.sine),
    ("cos",): Function(reals.cosine),
    ("tan", "tg"): Function(reals.tangent),
    ("asin", "arcsin"): Function(_floats(asin)),
    ("acos", "arccos"): Function(_floats(acos)),
    ("atan", "arctan"): Function(_floats(atan)),
    ("atan2",): Function(_floats(atan2), 2, 2),
    ("sinh",): Function(_floats(sinh)),
    ("cosh",): Function(_floats(cosh)),
    ("tanh",): Function(_floats(tanh)),
    ("log",): Function(reals.logarithm, 1, 2),
    ("ln",): Function(reals.logarithm),
    ("log10", "lg"): Function(_logarithm(10)),
    ("log2",): Function(_logarithm(2)),
    ("exp",): Function(reals.exponential),
    ("abs", "fabs"): Function(_magnitude),
    ("sign",): Function(_sign),
    ("round",): Function(integers.round_half_up, 1, 2),
    ("floor",): Function(Arithmetic.floor),
    ("ceil",): Function(integers.ceil),
    ("trunc", "int"): Function(integers.truncate),
    ("float",): Function(_number),
    ("min",): Function(_least, 1, inf),
    ("max",): Function(_greatest, 1, inf),
    ("sum",): Function(_total, 0, inf),
    ("mean", "average", "avg"): Function(_mean, 1, inf),
    ("factorial",): Function(integers.factorial),
    ("gcd",): Function(integers.greatest_divisor, 0, inf),
    ("lcm",): Function(integers.least_multiple, 0, inf),
    ("comb", "ncr", "choose"): Function(integers.choose, 2, 2),
    ("perm", "npr"): Function(integers.permute, 2, 2),
    ("degrees",): Function(_degrees),
    ("radians",): Function(_radians),
    ("hypot",): Function(_hypotenuse, 1, inf),
    ("pow",): Function(_power, 2, 3),
    ("mod", "fmod"): Function(Arithmetic.modulo, 2, 2),
}

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {name: function for names, function in _NAMED.items() for name in names}
)
CONSTANTS: Mapping[str, Number] = MappingProxyType(
    {"pi": PI, "e": E, "tau": TAU, "phi": PHI, "true": True, "false": False}
)


def call(numbers: Arithmetic, name: str, values: list[Number]) -> Number:
    """The named function's value; refuses a wrong number of arguments."""
    function = FUNCTIONS[name]
    if not function.least <= len(values) <= function.most:
        least, most = function.least, function.most
        takes = f"at least {least}" if most == inf else f"{least} to {most}"
        raise CalculationError(
            f"{name} takes {least if least == most else takes} arguments, got {len(values)} "
            "(inside a call a comma separates arguments: write 1000, not 1,000)"
        )
    return function.run(numbers, *values)
