"""Exact numbers with bounds: what the calculator's operators and functions do.

Rules:
1. Integers and fractions are exact, so 0.1 + 0.2 is 0.3. Roots, logarithms and constants are
   decimals of 50 digits; trigonometry is a float's 15 digits.
2. A fraction of more than `FRACTION_BITS` becomes a decimal. An integer of more than
   `INTEGER_BITS` is refused before it is computed.
3. Every operation pays for its work, about the product of its operands' sizes, out of one
   budget for each calculation; without that, short inputs could take minutes.
"""

import math
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from fractions import Fraction
from typing import TypeAlias

Number: TypeAlias = int | Fraction | Decimal

INTEGER_BITS = 200_000
FRACTION_BITS = 4_096
SHIFT_BITS = 1_000
MAX_WORK = 1.5e11
SERIES_WORK = 2e8

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
E = Decimal("2.71828182845904523536028747135266249775724709369995957496697")
PHI = Decimal("1.61803398874989484820458683436563811772030917980576286213545")
TAU = Decimal("6.28318530717958647692528676655900576839433879875021164194989")
EQUALITY_TOLERANCE = Decimal("1e-15")


class CalculationError(ValueError):
    """The expression has no answer here; the text says why and what to write instead."""


def describe(value: Number) -> str:
    """The value in a few characters, for an error message."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of about {count_digits(value)} digits"
    if isinstance(value, Fraction):
        return f"{float(value):.6g}"
    return f"{value:.6g}" if isinstance(value, Decimal) else str(value)


def count_digits(value: int) -> int:
    """How many decimal digits the integer has, give or take one."""
    return int(value.bit_length() * 0.30103) + 1


def count_bits(value: Number) -> int:
    """The size of a number in bits."""
    if isinstance(value, Decimal):
        return 192
    return value.numerator.bit_length() + value.denominator.bit_length()


def make_too_large_error(what: str) -> CalculationError:
    """The refusal of an integer that nobody could read."""
    limit = int(INTEGER_BITS * 0.30103) // 1000 * 1000
    return CalculationError(
        f"{what} is too large: integers of up to about {limit:,} digits are computed. "
        "Use smaller numbers, logarithms, or pow(a, b, m) for a power modulo m."
    )


class Arithmetic:
    """The operators of one calculation, with one budget of work for all of them."""

    def __init__(self) -> None:
        self.work_left = MAX_WORK
        self.context = Context(
            prec=50,
            rounding=ROUND_HALF_EVEN,
            Emax=999_999,
            Emin=-999_999,
            traps=[InvalidOperation, DivisionByZero, Overflow],
        )

    def spend(self, work: float) -> None:
        """Take work from the budget, or refuse."""
        self.work_left -= work
        if self.work_left < 0:
            raise CalculationError(
                "the expression is too much work: its numbers are too large or too many; "
                "split it into smaller calculations"
            )

    def simplify(self, value: int | Fraction) -> Number:
        """The value in its simplest exact form, or as a decimal if it grew too large."""
        if value.denominator == 1:
            if value.numerator.bit_length() > INTEGER_BITS:
                raise make_too_large_error("an intermediate result")
            return value.numerator
        if count_bits(value) > FRACTION_BITS:
            return self.to_decimal(value)
        return value

    def to_decimal(self, value: Number) -> Decimal:
        """The value as a decimal of 50 digits."""
        if isinstance(value, Decimal):
            return value
        self.spend(float(count_bits(value)) ** 2)
        if isinstance(value, int):
            return self.context.plus(Decimal(int(value)))
        return self.context.divide(Decimal(value.numerator), Decimal(value.denominator))

    def to_exact(self, value: Number) -> int | Fraction:
        """The value as an exact number; a decimal loses its last ten digits of noise."""
        if not isinstance(value, Decimal):
            return value
        if value.adjusted() > 4_000:
            raise CalculationError(f"{describe(value)} is too large for an exact whole number")
        if value.adjusted() < -4_000:
            return 0
        self.spend(float(value.adjusted()) ** 2 * 64)
        return Fraction(Context(prec=40).plus(value))

    def to_integer(self, value: Number, what: str) -> int:
        """The value as an int, or a refusal that names what needs one."""
        whole = self.to_exact(value)
        if whole.denominator != 1:
            raise CalculationError(f"{what} needs whole numbers, got {describe(value)}")
        return int(whole)

    # operators

    def add(self, a: Number, b: Number) -> Number:
        """a + b."""
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.context.add(self.to_decimal(a), self.to_decimal(b))
        self.spend(count_bits(a) * 8.0 + count_bits(b) * 8.0)
        return self.simplify(a + b)

    def subtract(self, a: Number, b: Number) -> Number:
        """a - b."""
        return self.add(a, self.negate(b))

    def negate(self, a: Number) -> Number:
        """-a."""
        return a.copy_negate() if isinstance(a, Decimal) else -a

    def multiply(self, a: Number, b: Number) -> Number:
        """a * b."""
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.context.multiply(self.to_decimal(a), self.to_decimal(b))
        self.spend(float(count_bits(a)) * count_bits(b))
        return self.simplify(a * b)

    def divide(self, a: Number, b: Number) -> Number:
        """a / b, exact where both are."""
        self.refuse_zero(b, "division")
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.context.divide(self.to_decimal(a), self.to_decimal(b))
        self.spend(float(count_bits(a)) * count_bits(b))
        if max(count_bits(a), count_bits(b)) <= FRACTION_BITS:
            return self.simplify(Fraction(a) / Fraction(b))
        if isinstance(a, int) and isinstance(b, int):
            quotient, rest = divmod(a, b)
            if rest == 0:
                return quotient
        return self.context.divide(self.to_decimal(a), self.to_decimal(b))

    def floor_divide(self, a: Number, b: Number) -> Number:
        """The largest integer that is not above a / b."""
        self.refuse_zero(b, "division")
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.floor(self.divide(a, b))
        self.spend(float(count_bits(a)) * count_bits(b))
        return self.simplify(a // b)

    def modulo(self, a: Number, b: Number) -> Number:
        """a - b * floor(a / b); it has the sign of b."""
        self.refuse_zero(b, "the remainder of a division")
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.subtract(a, self.multiply(b, self.floor_divide(a, b)))
        self.spend(float(count_bits(a)) * count_bits(b))
        return self.simplify(a % b)

    def refuse_zero(self, b: Number, what: str) -> None:
        """Refuse a divisor of zero."""
        if b == 0:
            raise CalculationError(f"{what} by zero has no result")

    def shift(self, a: Number, b: Number, left: bool) -> Number:
        """a << b or a >> b."""
        value, count = self.to_integer(a, "a shift"), self.to_integer(b, "a shift")
        if not 0 <= count <= SHIFT_BITS or value.bit_length() > SHIFT_BITS:
            raise CalculationError(
                f"a shift is by 0 to {SHIFT_BITS} bits and of at most as many, "
                f"got {describe(value)} by {describe(count)}"
            )
        return self.simplify(value << count) if left else value >> count

    def compare(self, a: Number, b: Number) -> int:
        """-1, 0 or 1; decimals are equal if their first 15 digits are."""
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            x, y = self.to_decimal(a), self.to_decimal(b)
            difference = self.context.subtract(x, y)
            largest = max(x.copy_abs(), y.copy_abs())
            if difference.copy_abs() <= self.context.multiply(largest, EQUALITY_TOLERANCE):
                return 0
            return 1 if difference > 0 else -1
        self.spend(float(count_bits(a) + count_bits(b)) * 64)
        return (a > b) - (a < b)

    # powers

    def power(self, a: Number, b: Number) -> Number:
        """a ** b, a real number or a refusal."""
        if a == 0 and b < 0:
            raise CalculationError("0 to a negative power is a division by zero")
        if not isinstance(b, int) and a < 0:
            raise CalculationError(
                f"({describe(a)}) ^ {describe(b)} is not a real number; "
                "for a real cube root use cbrt(x)"
            )
        if isinstance(b, int) and not isinstance(a, Decimal):
            return self.integer_power(a, b)
        if isinstance(b, Fraction) and not isinstance(a, Decimal) and b.denominator <= 12:
            root = self.find_exact_root(a, b.denominator)
            if root is not None:
                return self.integer_power(root, b.numerator)
        if b == 0:
            return 1
        return self.decimal_power(a, b)

    def integer_power(self, a: int | Fraction, b: int) -> Number:
        """An exact base to an integer power."""
        base = max(abs(a.numerator), a.denominator)
        size = math.log2(base) * min(abs(b), 10**12) if base > 1 else 1.0
        if a.denominator == 1 and b >= 0:
            if size > INTEGER_BITS:
                raise make_too_large_error(f"{describe(a)} ^ {describe(b)}")
            self.spend(size**2)
            return self.simplify(a.numerator ** (b if base > 1 else b % 2 + 2 * (b > 0)))
        if size > FRACTION_BITS:
            return self.decimal_power(a, b)
        self.spend(size**2)
        return self.simplify(Fraction(a) ** b)

    def decimal_power(self, a: Number, b: Number) -> Number:
        """a ** b to 50 digits."""
        self.spend(SERIES_WORK)
        return self.context.power(self.to_decimal(a), self.to_decimal(b))

    def find_exact_root(self, a: int | Fraction, degree: int) -> int | Fraction | None:
        """The exact root of a non-negative number, or None if it is irrational or large."""
        if a < 0 or count_bits(a) > FRACTION_BITS:
            return None
        self.spend(float(count_bits(a)) ** 2 * 8)
        top, bottom = (compute_integer_root(part, degree) for part in (a.numerator, a.denominator))
        if top**degree == a.numerator and bottom**degree == a.denominator:
            return Fraction(top, bottom)
        return None

    def square_root(self, a: Number) -> Number:
        """The square root; exact where it is rational."""
        if a < 0:
            raise CalculationError(f"sqrt({describe(a)}) is not a real number")
        return self.power(a, Fraction(1, 2))

    def cube_root(self, a: Number) -> Number:
        """The real cube root, of negative numbers too."""
        third = Fraction(1, 3)
        if a < 0:
            return self.negate(self.power(self.negate(a), third))
        return self.power(a, third)

    def floor(self, a: Number) -> Number:
        """The largest integer that is not above a."""
        return self.simplify(math.floor(self.to_exact(a)))


def compute_integer_root(value: int, degree: int) -> int:
    """The integer nearest to the root of a non-negative integer, by Newton's steps."""
    if degree == 2 or value < 2:
        return math.isqrt(value) if value > 1 else value
    guess = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better
