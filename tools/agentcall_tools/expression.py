"""Arithmetic as people and models write it, read and computed in one pass.

Rules:
1. A Pratt parser over tokens; it computes as it reads. Nothing is compiled or evaluated by
   Python, there are no names but those of `FUNCTIONS` and `CONSTANTS`, and no values but numbers.
2. What can be read in two ways (1/2pi, 100 + 10%, max(1,000)) is refused with both spellings;
   everything else that is clear is read: 2pi, 15% of 80, 1,000,000, full-width digits, x² or √2.
3. Precedence is Python's, with ^ as another **. Postfix signs (! % ° ²) bind closest.
"""

import difflib

from agentcall_tools.arithmetic import Arithmetic, CalculationError, Number
from agentcall_tools.calculator_functions import CONSTANTS, FUNCTIONS, call_function
from agentcall_tools.expression_tokens import (
    ALLOWED,
    ExpressionToken,
    normalize,
    parse_literal,
    tokenize,
)

MAX_LENGTH = 10_000
MAX_NESTING = 120

ADD, MULTIPLY, UNARY, POWER = 9, 10, 12, 14
PRECEDENCES = {
    "if": 1,
    "or": 2,
    "and": 3,
    "|": 6,
    "&": 7,
    **dict.fromkeys(("<<", ">>"), 8),
    **dict.fromkeys(("+", "-"), ADD),
    **dict.fromkeys(("<", ">", "<=", ">=", "==", "!="), 5),
    **dict.fromkeys(("*", "/", "//", "%", "of", "mod", "times"), MULTIPLY),
    **dict.fromkeys(("^", "**"), POWER),
}
NOT = 4
DIVISIONS = frozenset({"/", "//", "%", "mod", "^", "**", "√", "∛"})
LARGE_UNITS = {"万": 10**4, "亿": 10**8}


class ExpressionParser:
    """Reads one expression and gives its value."""

    def __init__(self, text: str) -> None:
        self.arithmetic = Arithmetic()
        self.tokens = tokenize(normalize(text))
        self.position = 0
        self.depth = 0
        self.has_percent = False

    @property
    def token(self) -> ExpressionToken:
        """The token to be read next."""
        return self.tokens[self.position]

    def advance(self) -> ExpressionToken:
        """Go past the next token and give it."""
        token = self.token
        self.position += token.kind != "end"
        return token

    def parse(self) -> Number:
        """The value of all of the text."""
        if self.token.kind == "end":
            raise CalculationError(f"the expression is empty. {ALLOWED}.")
        value = self.parse_expression(0)
        if self.token.kind != "end":
            raise CalculationError(self.describe_unexpected())
        return value

    def describe_unexpected(self) -> str:
        """Why the next token cannot stand where it stands."""
        token = self.token
        if token.kind == "end":
            return "the expression ends too early: something is missing after the last sign"
        if token.text == "=":
            return "= assigns nothing here: write == to compare, or only the side to compute"
        if token.text == ",":
            return (
                "a comma is only for function arguments and thousands (1,000,000); "
                "write decimals with a dot"
            )
        if token.text in "[]":
            return "[ ] is only for a list inside a function: sum([1, 2, 3]); group with ( )"
        if token.kind == "number":
            return f"two numbers stand side by side before {token.text[:40]!r}: a sign is missing"
        return f"unexpected {token.text[:40]!r} at character {token.start + 1}. {ALLOWED}."

    def expect(self, text: str) -> None:
        """Go past this sign, or refuse."""
        if self.token.text != text:
            if self.token.kind == "end":
                raise CalculationError(f"a {text!r} is missing at the end")
            raise CalculationError(self.describe_unexpected())
        self.advance()

    # the grammar

    def parse_expression(self, level: int) -> Number:
        """The value of what follows, up to a sign that binds less than `level`."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise CalculationError(f"nested more than {MAX_NESTING} deep; split the calculation")
        previous = self.token.text
        left = self.parse_operand()
        while True:
            sign = self.peek_operator()
            if sign is None or PRECEDENCES[sign] < level:
                self.depth -= 1
                return left
            if sign == "*" and self.token.text not in ("*", "times"):
                if previous in DIVISIONS:
                    raise CalculationError(self.describe_ambiguity(previous))
            else:
                self.advance()
            left = self.parse_operation(sign, left)
            previous = sign

    def describe_ambiguity(self, sign: str) -> str:
        """The refusal of a product without a sign after a division or a power."""
        return (
            f"a product without * after {sign} can be read in two ways: "
            "write 1/(2*pi) or (1/2)*pi, with * and ( ) where you mean them"
        )

    def peek_operator(self) -> str | None:
        """The operator that comes next; `*` if two factors stand side by side."""
        token = self.token
        if token.text in PRECEDENCES:
            return token.text
        before = self.tokens[self.position - 1]
        number_before = before.kind == "number"
        if token.text in ("(", "√", "∛") and (number_before or before.text in (")", "!", "°")):
            return "*"
        if token.kind == "name" and token.text != "else" and before.text != "(":
            known = token.text in FUNCTIONS or token.text in CONSTANTS
            if known and (before.kind != "name" or before.text in CONSTANTS):
                return "*"
        return None

    def parse_operation(self, sign: str, left: Number) -> Number:
        """The value of an operator that was read and of its right side."""
        if sign == "if":
            return self.parse_conditional(left)
        if PRECEDENCES[sign] == PRECEDENCES["<"]:
            return self.parse_comparison(sign, left)
        if PRECEDENCES[sign] == ADD:
            return self.parse_sum(sign, left)
        right = self.parse_expression(
            POWER - 1 if PRECEDENCES[sign] == POWER else PRECEDENCES[sign] + 1
        )
        self.has_percent = False
        match sign:
            case "or":
                return left or right
            case "and":
                return left and right
            case _:
                return self.apply_operator(sign, left, right)

    def apply_operator(self, sign: str, left: Number, right: Number) -> Number:
        """The value of an operator of two numbers."""
        numbers = self.arithmetic
        match sign:
            case "*" | "of" | "times":
                return numbers.multiply(left, right)
            case "/":
                return numbers.divide(left, right)
            case "//":
                return numbers.floor_divide(left, right)
            case "%" | "mod":
                return numbers.modulo(left, right)
            case "^" | "**":
                return numbers.power(left, right)
            case "<<" | ">>":
                return numbers.shift(left, right, left=sign == "<<")
            case _:
                a, b = (numbers.to_integer(value, sign) for value in (left, right))
                return a & b if sign == "&" else a | b

    def parse_sum(self, sign: str, left: Number) -> Number:
        """left + or - the right side; 100 + 10% has two readings, 1 + 10% has one."""
        percent = self.has_percent
        right = self.parse_expression(ADD + 1)
        if self.has_percent and not percent and left != 1:
            raise CalculationError(
                f"x {sign} 10% can be read in two ways: "
                f"write x * (1 {sign} 10%) for a change by 10%, or x {sign} (10%) for 0.1"
            )
        self.has_percent = percent and self.has_percent
        numbers = self.arithmetic
        return numbers.add(left, right) if sign == "+" else numbers.subtract(left, right)

    def parse_comparison(self, sign: str, left: Number) -> bool:
        """The truth of a chain of comparisons, as in 1 < 2 <= 3."""
        truth = True
        while True:
            right = self.parse_expression(PRECEDENCES[sign] + 1)
            order = self.arithmetic.compare(left, right)
            match sign:
                case "<" | ">":
                    truth &= order == (-1 if sign == "<" else 1)
                case "<=" | ">=":
                    truth &= order != (1 if sign == "<=" else -1)
                case _:
                    truth &= (order == 0) == (sign == "==")
            if PRECEDENCES.get(self.token.text) != PRECEDENCES["<"]:
                self.has_percent = False
                return truth
            sign, left = self.advance().text, right

    def parse_conditional(self, value: Number) -> Number:
        """`value if condition else other`; both values are computed."""
        condition = self.parse_expression(PRECEDENCES["if"] + 1)
        self.expect("else")
        other = self.parse_expression(PRECEDENCES["if"])
        return value if condition else other

    def parse_operand(self) -> Number:
        """A number, constant, call or group, with the signs before and after it."""
        token = self.advance()
        self.has_percent = False
        match token.text:
            case "-":
                return self.arithmetic.negate(self.parse_expression(UNARY))
            case "+":
                return self.parse_expression(UNARY)
            case "~":
                return ~self.arithmetic.to_integer(self.parse_expression(UNARY), "~")
            case "not":
                return not self.parse_expression(NOT)
            case "√":
                return self.arithmetic.square_root(self.parse_expression(POWER + 1))
            case "∛":
                return self.arithmetic.cube_root(self.parse_expression(POWER + 1))
            case _:
                return self.parse_postfix(self.parse_atom(token))

    def parse_atom(self, token: ExpressionToken) -> Number:
        """A number, a constant, a call or a group in parentheses."""
        if token.kind == "number":
            return parse_literal(token, self.arithmetic)
        if token.kind == "name":
            return self.parse_name(token)
        if token.text == "(":
            value = self.parse_expression(0)
            self.expect(")")
            self.has_percent = False
            return value
        self.position -= token.kind != "end"
        raise CalculationError(self.describe_unexpected())

    def parse_name(self, token: ExpressionToken) -> Number:
        """The value of a constant or of a function's call."""
        name = token.text
        if self.token.text == "(" and name in FUNCTIONS:
            self.advance()
            return call_function(self.arithmetic, name, self.parse_arguments(name))
        if name in CONSTANTS:
            if self.token.text == "(":
                raise CalculationError(f"{name} is a constant, not a function; write {name} * (")
            return CONSTANTS[name]
        if name in FUNCTIONS:
            raise CalculationError(f"{name} is a function: write {name}(...) with parentheses")
        raise CalculationError(describe_unknown_name(name))

    def parse_arguments(self, name: str) -> list[Number]:
        """The arguments of a call, up to its closing parenthesis; lists are spread."""
        values: list[Number] = []
        closers = [")"]
        while self.token.text != closers[-1] or len(closers) > 1:
            if self.token.text == "[" and len(closers) == 1:
                self.advance()
                closers.append("]")
                continue
            self.refuse_thousands(name, values)
            values.append(self.parse_expression(0))
            if self.token.text == "]" and len(closers) > 1:
                self.advance()
                closers.pop()
            if self.token.text != closers[-1]:
                self.expect(",")
        self.advance()
        self.has_percent = False
        return values

    def refuse_thousands(self, name: str, values: list[Number]) -> None:
        """Refuse 1,000 among arguments, where it would be 1 and 0."""
        text = self.token.text
        if values and self.token.kind == "number" and len(text) == 3 and text.startswith("0"):
            raise CalculationError(
                f"inside {name}(...) a comma separates arguments: write 1000, not 1,000"
            )

    def parse_postfix(self, value: Number) -> Number:
        """The value with the signs that follow it: ! % ° 万 亿."""
        numbers = self.arithmetic
        while True:
            sign = self.token.text
            if sign == "!":
                self.advance()
                if self.token.text == "!":
                    raise CalculationError("!! has two meanings: write factorial(factorial(n))")
                value = call_function(numbers, "factorial", [value])
            elif sign == "%" and self.is_percent():
                self.advance()
                value, self.has_percent = numbers.divide(value, 100), True
            elif sign == "°":
                self.advance()
                value = call_function(numbers, "radians", [value])
            elif sign in LARGE_UNITS:
                self.advance()
                value = numbers.multiply(value, LARGE_UNITS[sign])
            else:
                return value

    def is_percent(self) -> bool:
        """Whether the % that comes next is a percent sign, not a remainder."""
        sign, after = self.token, self.tokens[self.position + 1]
        if after.text in ("+", "-"):
            spread = self.tokens[self.position + 2].has_space_before
            if not sign.has_space_before and (spread or after.has_space_before):
                return True
            if sign.has_space_before and not spread:
                return False
            raise CalculationError(
                f"% before {after.text} can be read in two ways: "
                "write mod(10, -3) for a remainder, or (10%) - 3 for a percentage"
            )
        if after.kind == "name":
            return after.text in PRECEDENCES or after.text == "else"
        return after.kind == "end" or (after.kind == "sign" and after.text not in "(~√∛")


def describe_unknown_name(name: str) -> str:
    """What to say of a name that is neither a function nor a constant."""
    near = difflib.get_close_matches(name[:40], [*FUNCTIONS, *CONSTANTS], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"unknown name {name[:40]!r}.{hint} Functions: {', '.join(sorted(FUNCTIONS))}. "
        f"Constants: {', '.join(CONSTANTS)}. There are no variables: put in the numbers."
    )
