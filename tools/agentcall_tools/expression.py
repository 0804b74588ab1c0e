"""Arithmetic as people and models write it, as a tree of Python's parser.

`parse_expression` rewrites the text with Python's operators and lets `ast.parse` find their
precedence. The tree holds nothing but operators, comparisons, calls of `FUNCTIONS`, and integers
that are indices of the operands. Nothing is compiled or run.

Rules:
1. Every name, sign and bracket is checked here, so that no other text reaches Python's parser.
2. A text with two readings (1/2pi, 10%-3, max(1,000)) is refused with both spellings. Every
   other clear text is read: 2pi, 15% of 80, 1,000,000, full-width digits, x² or √2.
3. ^ is another **. A postfix sign (! % ° 万) becomes a subscript, which binds as closely.
"""

import ast
import difflib
import re
from decimal import Decimal
from fractions import Fraction

from agentcall_tools.arithmetic import CalculationError, Number
from agentcall_tools.calculator_functions import CONSTANTS, FUNCTIONS

MAX_NESTING = 120
MAX_PIECES = 4_000
MAX_LITERAL = 4_000
MAX_EXPONENT = 1_000

ALLOWED = (
    "Allowed: numbers, + - * / // % ^ ( ), comparisons, !, constants like pi and e, "
    "and functions like sqrt(2), log(8, 2), round(x, 2), max(1, 2)"
)
TOO_LONG = "the expression has too many operations; split it into smaller calculations"

SPELLINGS = str.maketrans(
    {
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
        "π": " pi ",
        "τ": " tau ",
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
        **dict.fromkeys("\u3000\u00a0\u2009\u202f\u2007\n\r\t。", " "),
        **dict.fromkeys("×∗⋅·✕✖乘", "*"),
        **dict.fromkeys("÷∕⁄➗", "/"),
        **dict.fromkeys("−–—减", "-"),
        **dict.fromkeys("＋加", "+"),
        **dict.fromkeys("、", ","),
        **dict.fromkeys("º", "°"),
    }
)
OPERATOR_WORDS = (("乘以", "*"), ("除以", "/"), ("加上", "+"), ("减去", "-"), ("等于", "="))
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
SUPERSCRIPT_NUMBER = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
TRAILING_EQUALS = re.compile(r"(?:\s*=+)?[\s?]*$")

GROUPED_NUMBER = re.compile(
    r"[0-9]{1,3}(?:(?:,[0-9]{2})+,[0-9]{3}|(?:,[0-9]{3})+)(?:\.[0-9]+)?(?![0-9,.])"
)
TOKEN = re.compile(
    r"(?P<number>0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+"
    r"|(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?:math\.(?=[A-Za-z]))?(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%^()<>,!&|~=\[\]√∛°万亿])"
)
TIMES = re.compile(r"[xX](?=[ 0-9(.])")
PERCENT_CONTEXT = re.compile(r"%(?P<gap> *)(?:(?P<sign>[-+])(?P<spread> *)|(?P<operand>[\w(~√∛.]))?")
OPERATOR_NAME = re.compile(r"% *(?:of|mod|times|if|else|and|or)\b", re.IGNORECASE)

OPERATORS = {
    **{sign: sign for sign in "+ - * / // % ** << >> & | < > <= >= == !=".split()},
    **{word: f" {word} " for word in ("and", "or", "if", "else")},
    **{"^": "**", "of": "*", "times": "*", "mod": "%"},
}
PREFIXES = {"-": "-", "+": "+", "~": "~", "not": " not "}
ROOTS = {"√": "sqrt", "∛": "cbrt"}
POSTFIXES = frozenset("!°万亿")
DIVISIONS = frozenset({"/", "//", "%", "mod", "^", "**", *ROOTS})
NAMES = frozenset({*FUNCTIONS, *CONSTANTS, *OPERATORS, "not"})


def parse_expression(text: str) -> tuple[ast.expr, list[Number]]:
    """Return the expression's tree, and the operands of which the tree has the indices.

    Raises:
        CalculationError: if the text is not one clear expression, or is nested too deep.
    """
    rewriter = _Rewriter(_normalize(text))
    source = rewriter.rewrite()
    try:
        return ast.parse(source, mode="eval").body, rewriter.operands
    except SyntaxError:
        raise CalculationError(f"the order of the signs has no meaning. {ALLOWED}.") from None
    except (RecursionError, MemoryError):  # Python's parser stops at some depth of its stack
        raise CalculationError(TOO_LONG) from None


def _normalize(expression: str) -> str:
    """Return the expression with ASCII signs where possible, without a trailing `= ?`."""
    text = SUPERSCRIPT_NUMBER.sub(lambda m: f"^({m.group().translate(SUPERSCRIPTS)})", expression)
    for word, sign in OPERATOR_WORDS:
        text = text.replace(word, sign)
    text = TRAILING_EQUALS.sub("", text.translate(SPELLINGS).strip())
    return text[1:] if text.startswith("=") else text


class _Rewriter:
    """Rewrites one text from left to right, a token at a time.

    `has_operand` is whether the last token completed an operand: it decides if a sign is an
    operator or a prefix, and if a name or a bracket begins a product without a sign.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.pieces: list[str] = []
        self.operands: list[Number] = []
        self.has_operand = False
        self.token = ""
        self.operator = ""
        """The last operator in this bracket; a product without a sign may not follow a division."""
        self.open_roots = 0
        """How many √ of this bracket wait for the end of their operand."""
        self.brackets: list[tuple[str, str, str, int]] = []
        """Of each open bracket: the closing one, the function called, operator, open_roots."""

    def rewrite(self) -> str:
        """Return the whole text as Python's parser reads it."""
        while self._read_token():
            if len(self.pieces) > MAX_PIECES:
                raise CalculationError(TOO_LONG)
        if not self.has_operand and not self.pieces:
            raise CalculationError(f"the expression is empty. {ALLOWED}.")
        if not self.has_operand:
            raise CalculationError(
                "the expression ends too early: something is missing after the last sign"
            )
        if self.brackets:
            raise CalculationError(f"a {self.brackets[-1][0]!r} is missing at the end")
        return "".join([*self.pieces, ")" * self.open_roots]).strip()

    def _read_token(self) -> bool:
        """Rewrite the next token; return False at the end of the text."""
        while self.text.startswith(" ", self.position):
            self.position += 1
        if self.position == len(self.text):
            return False
        start, previous = self.position, self.token
        times = TIMES.match(self.text, start) if self.has_operand else None
        in_call = bool(self.brackets and self.brackets[-1][1])
        grouped = None if in_call else GROUPED_NUMBER.match(self.text, start)
        match = times or grouped or TOKEN.match(self.text, start)
        if match is None:
            raise CalculationError(_describe_unreadable(self.text, start))
        self.position = match.end()
        kind = "number" if grouped else "sign" if times else match.lastgroup or ""
        self.token = "*" if times else match.group(0 if grouped else kind)
        if kind == "name":
            self.token = self.token.lower()
            if self.token not in NAMES:
                raise CalculationError(_describe_unknown_name(self.token))
        if not self.has_operand:
            self._add_operand(kind, previous, start)
        elif self.token in POSTFIXES or (self.token == "%" and self._is_percent(start)):
            if self.token == previous == "!":
                raise CalculationError("!! has two meanings: write factorial(factorial(n))")
            self.pieces.append(f'["{self.token}"]')
        else:
            self._add_operator(kind, start)
        return True

    def _add_operand(self, kind: str, previous: str, start: int) -> None:
        if kind == "number":
            function = self.brackets[-1][1] if self.brackets else ""
            if function and previous == "," and re.fullmatch("0..", self.token):
                raise CalculationError(
                    f"inside {function}(...) a comma separates arguments: write 1000, not 1,000"
                )
            self._add_value(_parse_number(self.token))
        elif self.token in PREFIXES:
            self.pieces.append(PREFIXES[self.token])
        elif self.token in ROOTS:
            self.pieces.append(f"{ROOTS[self.token]}(")
            self.open_roots += 1
            self.operator = self.token
        elif self.token in CONSTANTS:
            if self._is_next("("):
                raise CalculationError(
                    f"{self.token} is a constant, not a function; write {self.token} * ("
                )
            self._add_value(CONSTANTS[self.token])
        elif self.token in FUNCTIONS:
            name = self.token
            if not self._is_next("("):
                raise CalculationError(f"{name} is a function: write {name}(...) with parentheses")
            self.position = self.text.index("(", self.position) + 1
            self.token = "("
            self._open(f"{name}(", ")", name)
        else:
            self._add_bracket(previous, start)

    def _add_bracket(self, previous: str, start: int) -> None:
        closing, function = self.brackets[-1][:2] if self.brackets else ("", "")
        if self.token == "(":
            self._open("(", ")", "")
        elif self.token == "[" and function and closing == ")":
            self._open("[", "]", function)
        elif self.token == closing and function and previous in ("(", "[", ","):
            self._close()
        else:
            raise CalculationError(self._describe_unexpected(start))

    def _add_operator(self, kind: str, start: int) -> None:
        """Rewrite what follows an operand: an operator, a comma, a bracket, another operand."""
        self.pieces.append(")" * self.open_roots)
        self.open_roots = 0
        closing, function = self.brackets[-1][:2] if self.brackets else ("", "")
        if self.token == closing:
            self._close()
        elif self.token == "," and function:
            self.pieces.append(",")
            self.operator, self.has_operand = "", False
        elif self.token in OPERATORS:
            self.pieces.append(OPERATORS[self.token])
            self.operator, self.has_operand = self.token, False
        elif self.token == "(" or self.token in ROOTS or (kind == "name" and self.token != "not"):
            if self.operator in DIVISIONS:
                raise CalculationError(
                    f"a product without * after {self.operator} can be read in two ways: "
                    "write 1/(2*pi) or (1/2)*pi, with * and ( ) where you mean them"
                )
            self.pieces.append("*")
            self.operator, self.has_operand = "*", False
            self._add_operand(kind, "*", start)
        else:
            raise CalculationError(self._describe_unexpected(start))

    def _add_value(self, value: Number) -> None:
        self.pieces.append(str(len(self.operands)))
        self.operands.append(value)
        self.has_operand = True

    def _open(self, piece: str, closing: str, function: str) -> None:
        if len(self.brackets) >= MAX_NESTING:
            raise CalculationError(f"nested more than {MAX_NESTING} deep; split the calculation")
        self.brackets.append((closing, function, self.operator, self.open_roots))
        self.pieces.append(piece)
        self.operator, self.open_roots, self.has_operand = "", 0, False

    def _close(self) -> None:
        closing, _, self.operator, self.open_roots = self.brackets.pop()
        self.pieces.append(closing)
        self.has_operand = True

    def _is_next(self, sign: str) -> bool:
        return self.text[self.position :].lstrip(" ").startswith(sign)

    def _is_percent(self, start: int) -> bool:
        """Return whether the % after an operand is a percent sign, not a remainder."""
        context = PERCENT_CONTEXT.match(self.text, start)
        if context is None or not context["sign"]:
            is_operand = context is not None and bool(context["operand"])
            return not is_operand or bool(OPERATOR_NAME.match(self.text, start))
        spaced_before = self.text[start - 1] == " "
        if not spaced_before and (context["spread"] or context["gap"]):
            return True
        if spaced_before and not context["spread"]:
            return False
        raise CalculationError(
            f"% before {context['sign']} can be read in two ways: "
            "write mod(10, -3) for a remainder, or (10%) - 3 for a percentage"
        )

    def _describe_unexpected(self, start: int) -> str:
        """Return why the token cannot be where it is."""
        if self.token == "=":
            return "= assigns nothing here: write == to compare, or only the side to compute"
        if self.token == ",":
            return (
                "a comma is only for function arguments and thousands (1,000,000); "
                "write decimals with a dot"
            )
        if self.token in "[]":
            return "[ ] is only for a list inside a function: sum([1, 2, 3]); group with ( )"
        if self.has_operand and re.match(r"[0-9.]", self.token):
            return f"two numbers stand side by side before {self.token[:40]!r}: a sign is missing"
        return f"unexpected {self.token[:40]!r} at character {start + 1}. {ALLOWED}."


def _describe_unreadable(text: str, position: int) -> str:
    """Return why the character at this position has no meaning."""
    character = text[position]
    if character in "'\"`":
        return f"text in quotes is not a number. {ALLOWED}."
    if character in "$€£¥￥¢":
        return f"leave out the currency sign {character}: only numbers are computed. {ALLOWED}."
    if character == ".":
        return f"a dot is only for decimals; attributes and methods do not exist here. {ALLOWED}."
    return f"cannot read {character!r} at character {position + 1}. {ALLOWED}."


def _describe_unknown_name(name: str) -> str:
    """Return the refusal of a name that is neither a function nor a constant."""
    near = difflib.get_close_matches(name[:40], [*FUNCTIONS, *CONSTANTS], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"unknown name {name[:40]!r}.{hint} Functions: {', '.join(sorted(FUNCTIONS))}. "
        f"Constants: {', '.join(CONSTANTS)}. There are no variables: put in the numbers."
    )


def _parse_number(literal: str) -> int | Fraction:
    """Return the exact value of a number's text."""
    text = literal.replace(",", "").replace("_", "").lower()
    if len(text) > MAX_LITERAL:
        raise CalculationError(f"a number has {len(text)} digits; at most {MAX_LITERAL} are read")
    if text[:2] in ("0x", "0b", "0o"):
        return int(text, 0)
    if text.isdigit():
        return int(text)
    exponent = text.partition("e")[2].lstrip("+-")
    if len(exponent) > 5 or abs(int(exponent or 0)) > MAX_EXPONENT:
        raise CalculationError(f"{text[:40]} is out of range: use exponents up to {MAX_EXPONENT}")
    return Fraction(Decimal(text))
