"""Functions of whole numbers, each refused before it would cost too much."""

import math
from fractions import Fraction
from functools import partial, reduce

from agentcall_tools.arithmetic import (
    INTEGER_BITS,
    Arithmetic,
    CalculationError,
    Number,
    count_bits,
    describe,
    make_too_large_error,
)

ROUND_DIGITS = 100


def ceil(numbers: Arithmetic, a: Number) -> Number:
    """The smallest integer that is not below a."""
    return numbers.simplify(math.ceil(numbers.to_exact(a)))


def truncate(numbers: Arithmetic, a: Number) -> Number:
    """a without its decimals."""
    return numbers.simplify(math.trunc(numbers.to_exact(a)))


def round_half_up(numbers: Arithmetic, a: Number, places: Number = 0) -> Number:
    """a to so many decimals; a half goes away from zero, as taught at school."""
    count = numbers.to_integer(places, "round(x, digits)")
    if abs(count) > ROUND_DIGITS:
        raise CalculationError(f"round(x, digits) takes -{ROUND_DIGITS} to {ROUND_DIGITS}")
    value, scale = numbers.to_exact(a), Fraction(10) ** count
    numbers.spend(float(count_bits(value)) * 512)
    whole = math.floor(abs(Fraction(value)) * scale + Fraction(1, 2))
    return numbers.simplify(Fraction(-whole if value < 0 else whole) / scale)


def factorial(numbers: Arithmetic, a: Number) -> Number:
    """1 * 2 * ... * a."""
    n = numbers.to_integer(a, "factorial")
    if n < 0:
        raise CalculationError(f"factorial needs a number of at least 0, got {describe(n)}")
    size = math.lgamma(n + 1) / math.log(2) if n < 10**9 else math.inf
    if size > INTEGER_BITS:
        raise make_too_large_error(f"factorial({describe(n)})")
    numbers.spend(size**2)
    return math.factorial(n)


def choose(numbers: Arithmetic, a: Number, b: Number) -> Number:
    """In how many ways b of a things can be chosen."""
    n, k = check_counts(numbers, "comb", a, b)
    return count_selections(numbers, "comb", n, min(k, n - k)) if k <= n else 0


def permute(numbers: Arithmetic, a: Number, b: Number) -> Number:
    """In how many orders b of a things can be taken."""
    n, k = check_counts(numbers, "perm", a, b)
    return count_selections(numbers, "perm", n, k) if k <= n else 0


def check_counts(numbers: Arithmetic, name: str, a: Number, b: Number) -> tuple[int, int]:
    """Both numbers as integers of at least 0."""
    n, k = numbers.to_integer(a, name), numbers.to_integer(b, name)
    if n < 0 or k < 0:
        raise CalculationError(f"{name}(n, k) needs numbers of at least 0")
    return n, k


def count_selections(numbers: Arithmetic, name: str, n: int, k: int) -> Number:
    """comb(n, k) or perm(n, k), if it is small enough."""
    if k > INTEGER_BITS or k * n.bit_length() > INTEGER_BITS * 4:
        raise make_too_large_error(f"{name}({describe(n)}, {describe(k)})")
    numbers.spend(float(k * n.bit_length()) ** 2)
    return numbers.simplify(math.comb(n, k) if name == "comb" else math.perm(n, k))


def greatest_common_divisor(numbers: Arithmetic, *values: Number) -> Number:
    """The greatest common divisor."""
    return reduce(partial(compute_gcd, numbers), (numbers.to_integer(v, "gcd") for v in values), 0)


def compute_gcd(numbers: Arithmetic, a: int, b: int) -> int:
    """The greatest common divisor of two integers."""
    numbers.spend(float(a.bit_length()) * b.bit_length() * 4)
    return math.gcd(a, b)


def least_common_multiple(numbers: Arithmetic, *values: Number) -> Number:
    """The least common multiple."""
    result = 1
    for value in (numbers.to_integer(v, "lcm") for v in values):
        divisor = compute_gcd(numbers, result, value) or 1
        numbers.spend(float(result.bit_length()) * value.bit_length() * 2)
        result = abs(result // divisor * value)
        numbers.simplify(result)
    return result


def modular_power(numbers: Arithmetic, a: Number, b: Number, m: Number) -> Number:
    """a ** b modulo m, for integers of any size."""
    base, exponent, modulus = (numbers.to_integer(v, "pow(a, b, m)") for v in (a, b, m))
    if exponent < 0 or modulus == 0:
        raise CalculationError("pow(a, b, m) needs b of at least 0 and m other than 0")
    numbers.spend(float(modulus.bit_length()) ** 2 * (exponent.bit_length() + 1))
    numbers.spend(float(base.bit_length()) * modulus.bit_length())
    return pow(base, exponent, modulus)
