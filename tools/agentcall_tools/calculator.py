"""A calculator that computes what is written, exactly where it can, and never runs code."""

import math
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction

from agentcall import tool
from agentcall_tools.arithmetic import CalculationError, Number, count_digits
from agentcall_tools.expression import MAX_LENGTH, ExpressionParser

EXACT_DIGITS = 28
SHOWN_DIGITS = 15
PRINTED_DIGITS = 4_000
MAX_VALUE = Decimal("1.8e308")


def calculate(expression: str) -> str:
    """Computes one arithmetic expression and returns the result.

    Use it for every calculation, also simple ones. Write numbers only, no variables or units.

    Args:
        expression: For example "(3+5)*2", "2^10", "15% of 80", "sqrt(2)*pi", "5!",
            "round(2/3, 2)", "sin(30°)", "log(100, 10)" or "1.1 < 1.2".
            log is the natural logarithm; angles are radians without °.
    """
    if len(expression) > MAX_LENGTH:
        raise CalculationError(
            f"the expression has {len(expression)} characters, at most {MAX_LENGTH} are read; "
            "split it into smaller calculations"
        )
    try:
        return format_number(ExpressionParser(expression).parse())
    except (Overflow, OverflowError):
        raise CalculationError("the result is too large; use smaller numbers") from None
    except (InvalidOperation, DivisionByZero, ZeroDivisionError):
        raise CalculationError("the expression has no defined result") from None


def format_number(value: Number) -> str:
    """The value as text: whole numbers in full, others to 15 digits unless exact in 28."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _format_integer(value)
    if isinstance(value, Decimal):
        return _format_decimal(value, SHOWN_DIGITS)
    exact = _to_exact_decimal(value)
    if exact is not None:
        return _format_decimal(exact, EXACT_DIGITS)
    rounded = Context(prec=50).divide(Decimal(value.numerator), Decimal(value.denominator))
    return _format_decimal(rounded, SHOWN_DIGITS)


def _format_integer(value: int) -> str:
    if count_digits(value) <= PRINTED_DIGITS:
        return str(value)
    size = math.floor(math.log10(abs(value))) + 1
    return f"about {Decimal(value):.14e} (an integer of {size} digits)".replace("e+", "e")


def _to_exact_decimal(value: Fraction) -> Decimal | None:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return None
    context = Context(prec=EXACT_DIGITS, traps=[])
    exact = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    return exact if Fraction(exact) == value else None


def _format_decimal(value: Decimal, precision: int) -> str:
    rounded = Context(prec=precision).plus(value)
    if rounded == 0:
        return "0"
    if rounded.copy_abs() > MAX_VALUE:
        raise CalculationError("the result is larger than 1.8e308; use smaller numbers")
    power = rounded.adjusted()
    if power > -7 and (power <= SHOWN_DIGITS or precision > SHOWN_DIGITS):
        text = f"{rounded:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa = f"{rounded.scaleb(-power):f}"
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{power}"


calculator = tool(name="calculator", idempotent=True, read_only=True, timeout=5)(calculate)
