"""Exact numbers with bounds: the operators of the calculator.

Rules:
1. Integers and fractions are exact, so 0.1 + 0.2 is 0.3. Roots, logarithms and constants are
   decimals of 50 digits; trigonometry has the 15 digits of a float.
2. A fraction of more than `FRACTION_BITS` becomes a decimal. An integer of more than
   `INTEGER_BITS` is refused before it is computed.
3. Every operation spends work, about the product of its operands' sizes, from one budget per
   calculation. Without it a short input could take minutes.
"""

import math
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction
from typing import TypeAlias

Number: TypeAlias = int | Fraction | Decimal

INTEGER_BITS = 200_000
FRACTION_BITS = 4_096
SHIFT_BITS = 1_000
MAX_WORK = 1.5e11
SERIES_WORK = 2e8
"""The work of one power, exponential or logarithm of 50 digits."""
EQUALITY_TOLERANCE = Decimal("1e-15")


class CalculationError(ValueError):
    """The expression is refused; the message says why and what to write instead."""


def describe(value: Number) -> str:
    """Return the value in a few characters, for an error message."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of about {count_digits(value)} digits"
    if isinstance(value, Fraction):
        return f"{float(value):.6g}"
    return f"{value:.6g}" if isinstance(value, Decimal) else str(value)


def count_digits(value: int) -> int:
    """Return the number of decimal digits of an integer, at most one off."""
    return int(value.bit_length() * 0.30103) + 1


def count_bits(value: Number) -> int:
    """Return the size of a number in bits."""
    if isinstance(value, Decimal):
        return 192
    return value.numerator.bit_length() + value.denominator.bit_length()


def make_too_large_error(subject: str) -> CalculationError:
    """Return the refusal of an integer of more than `INTEGER_BITS`."""
    limit = int(INTEGER_BITS * 0.30103) // 1000 * 1000
    return CalculationError(
        f"{subject} is too large: integers of up to about {limit:,} digits are computed. "
        "Use smaller numbers, logarithms, or pow(a, b, m) for a power modulo m."
    )


class Arithmetic:
    """The operators of one calculation, with one budget of work for all of them."""

    def __init__(self) -> None:
        self.work_left = MAX_WORK
        traps = [InvalidOperation, DivisionByZero, Overflow]
        self.context = Context(prec=50, Emax=999_999, Emin=-999_999, traps=traps)

    def spend(self, work: float) -> None:
        """Take work from the budget, or refuse."""
        self.work_left -= work
        if self.work_left < 0:
            raise CalculationError(
                "the expression is too much work: its numbers are too large or too many; "
                "split it into smaller calculations"
            )

    def spend_product(self, a: Number, b: Number) -> None:
        """Take the work of a multiplication from the budget."""
        self.spend(float(count_bits(a)) * count_bits(b))

    def simplify(self, value: int | Fraction) -> Number:
        """Return the simplest exact form of a value, or a decimal if it has grown too large."""
        if value.denominator == 1:
            if value.numerator.bit_length() > INTEGER_BITS:
                raise make_too_large_error("an intermediate result")
            return value.numerator
        return self.to_decimal(value) if count_bits(value) > FRACTION_BITS else value

    def to_decimal(self, value: Number) -> Decimal:
        """Return the value as a decimal of 50 digits."""
        if isinstance(value, Decimal):
            return value
        self.spend_product(value, value)
        return self.context.divide(Decimal(value.numerator), Decimal(value.denominator))

    def to_exact(self, value: Number) -> int | Fraction:
        """Return the value as an exact number, a decimal without the noise of its last digits."""
        if not isinstance(value, Decimal):
            return value
        if value.adjusted() > 4_000:
            raise CalculationError(f"{describe(value)} is too large for an exact whole number")
        if value.adjusted() < -4_000:
            return 0
        self.spend(float(value.adjusted()) ** 2 * 64)
        return Fraction(Context(prec=40).plus(value))

    def to_integer(self, value: Number, operation: str) -> int:
        """Return the value as an int, or refuse and name the operation that needs one."""
        whole = self.to_exact(value)
        if whole.denominator != 1:
            raise CalculationError(f"{operation} needs whole numbers, got {describe(value)}")
        return int(whole)

    def negate(self, a: Number) -> Number:
        """Return -a."""
        return a.copy_negate() if isinstance(a, Decimal) else -a

    def add(self, a: Number, b: Number) -> Number:
        """Return a + b."""
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.context.add(self.to_decimal(a), self.to_decimal(b))
        self.spend(count_bits(a) * 8.0 + count_bits(b) * 8.0)
        return self.simplify(a + b)

    def subtract(self, a: Number, b: Number) -> Number:
        """Return a - b."""
        return self.add(a, self.negate(b))

    def multiply(self, a: Number, b: Number) -> Number:
        """Return a * b."""
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.context.multiply(self.to_decimal(a), self.to_decimal(b))
        self.spend_product(a, b)
        return self.simplify(a * b)

    def divide(self, a: Number, b: Number) -> Number:
        """Return a / b, exact if both are exact and not too large."""
        if b == 0:
            raise CalculationError("division by zero has no result")
        if not (isinstance(a, Decimal) or isinstance(b, Decimal)):
            self.spend_product(a, b)
            if max(count_bits(a), count_bits(b)) <= FRACTION_BITS:
                return self.simplify(Fraction(a) / Fraction(b))
            if isinstance(a, int) and isinstance(b, int) and a % b == 0:
                return a // b
        return self.context.divide(self.to_decimal(a), self.to_decimal(b))

    def floor_divide(self, a: Number, b: Number) -> Number:
        """Return the largest integer that is not above a / b."""
        if b == 0 or isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.floor(self.divide(a, b))
        self.spend_product(a, b)
        return self.simplify(a // b)

    def modulo(self, a: Number, b: Number) -> Number:
        """Return a - b * floor(a / b), which has the sign of b."""
        if b == 0:
            raise CalculationError("the remainder of a division by zero has no result")
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            return self.subtract(a, self.multiply(b, self.floor_divide(a, b)))
        self.spend_product(a, b)
        return self.simplify(a % b)

    def floor(self, a: Number) -> Number:
        """Return the largest integer that is not above a."""
        return self.simplify(math.floor(self.to_exact(a)))

    def shift(self, a: Number, b: Number, *, left: bool) -> Number:
        """Return a << b, or a >> b."""
        value, count = self.to_integer(a, "a shift"), self.to_integer(b, "a shift")
        if not 0 <= count <= SHIFT_BITS or value.bit_length() > SHIFT_BITS:
            raise CalculationError(
                f"a shift is by 0 to {SHIFT_BITS} bits and of at most as many, "
                f"got {describe(value)} by {describe(count)}"
            )
        return self.simplify(value << count) if left else value >> count

    def compare(self, a: Number, b: Number) -> int:
        """Return -1, 0 or 1; decimals are equal if their first 15 digits are."""
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            x, y = self.to_decimal(a), self.to_decimal(b)
            largest = max(x.copy_abs(), y.copy_abs())
            tolerance = self.context.multiply(largest, EQUALITY_TOLERANCE)
            a, b = self.context.subtract(x, y), 0
            if a.copy_abs() <= tolerance:
                return 0
        self.spend(float(count_bits(a) + count_bits(b)) * 64)
        return (a > b) - (a < b)

    def power(self, a: Number, b: Number) -> Number:
        """Return a ** b, a real number."""
        if a == 0 and b < 0:
            raise CalculationError("0 to a negative power is a division by zero")
        if not isinstance(b, int) and a < 0:
            raise CalculationError(
                f"({describe(a)}) ^ {describe(b)} is not a real number; "
                "for a real cube root use cbrt(x)"
            )
        if not isinstance(a, Decimal):
            if isinstance(b, int):
                return self._raise_to_integer(a, b)
            root = self._find_exact_root(a, b.denominator) if isinstance(b, Fraction) else None
            if root is not None:
                return self._raise_to_integer(root, b.as_integer_ratio()[0])
        return 1 if b == 0 else self._raise_to_decimal(a, b)

    def _raise_to_integer(self, a: int | Fraction, b: int) -> Number:
        base = max(abs(a.numerator), a.denominator)
        # A base of 1, 0 or -1 keeps its size, so that its exponent may be of any size.
        size = math.log2(base) * min(abs(b), 10**12) if base > 1 else 1.0
        if a.denominator == 1 and b >= 0:
            if size > INTEGER_BITS:
                raise make_too_large_error(f"{describe(a)} ^ {describe(b)}")
            self.spend(size**2)
            return self.simplify(a.numerator ** (b if base > 1 else b % 2 + 2 * (b > 0)))
        if size > FRACTION_BITS:
            return self._raise_to_decimal(a, b)
        self.spend(size**2)
        return self.simplify(Fraction(a) ** b)

    def _raise_to_decimal(self, a: Number, b: Number) -> Decimal:
        self.spend(SERIES_WORK)
        return self.context.power(self.to_decimal(a), self.to_decimal(b))

    def _find_exact_root(self, a: int | Fraction, degree: int) -> Fraction | None:
        """Return the exact root of a number that isn't negative, if it is rational and small."""
        if degree > 12 or count_bits(a) > FRACTION_BITS:
            return None
        self.spend(float(count_bits(a)) ** 2 * 8)
        top, bottom = _find_root(a.numerator, degree), _find_root(a.denominator, degree)
        root = Fraction(top, bottom)
        return root if root**degree == a else None


def _find_root(value: int, degree: int) -> int:
    """Return the root of a non-negative integer, rounded down, by Newton's steps."""
    guess = 1 << -(-value.bit_length() // degree)
    while guess and value:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better
    return 0
