"""Arithmetic as people and models write it, as a tree of Python's parser.

`parse_expression` rewrites the text with Python's operators and lets `ast.parse` find their
precedence. Nothing is compiled or run, and only numbers, known names and known signs reach the
parser.

Rules:
1. A number or constant becomes an integer, the index of its exact value among the operands.
2. ^ becomes **. A product without a sign (2pi) becomes @, which binds as * does, so that 1/2pi
   can be refused. A postfix sign (! % ° 万) becomes a subscript, which binds as closely. √ becomes
   a call of `ROOT2`, a name that no text can have, as names are read in lower case.
3. A text with two readings (1/2pi, 10%-3, max(1,000)) is refused with both spellings. Every
   other clear text is read: 2pi, 15% of 80, 1,000,000, full-width digits, x² or √2.
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
TOO_DEEP = f"nested more than {MAX_NESTING} deep; split the calculation"
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
PERCENT_CONTEXT = re.compile(
    r"%(?P<gap> *)(?:(?P<sign>[-+])(?P<spread> *)"
    r"|(?P<operand>(?!(?:of|mod|times|if|else|and|or)\b)[\da-z_(~√∛.]))?",
    re.IGNORECASE,
)
MISTAKES = (
    (r"[0-9.)] +[0-9.]|\)[0-9.]", "two numbers stand side by side: a sign between them is missing"),
    (r"[-+*/%^<>~&|√∛] *$", "the expression ends too early: something is missing at its end"),
    (r"", f"the order of the signs has no meaning. {ALLOWED}."),
)
"""Explanations of a text that Python's parser refuses; the first pattern that is found applies."""

OPERATOR_NAMES = {"of": "*", "times": "*", "mod": "%"}
KEYWORDS = frozenset({"and", "or", "not", "if", "else"})
ROOTS = {"√": "ROOT2(", "∛": "ROOT3("}
POSTFIXES = "!°万亿"


def parse_expression(text: str) -> tuple[ast.expr, list[Number]]:
    """Return the expression's tree, and the operands of which the tree has the indices.

    Raises:
        CalculationError: if the text is not one clear expression, or is too long.
    """
    text = _normalize(text)
    if not text:
        raise CalculationError(f"the expression is empty. {ALLOWED}.")
    rewriter = _Rewriter(text)
    source = rewriter.rewrite()
    try:
        return ast.parse(source, mode="eval").body, rewriter.operands
    except SyntaxError:
        mistake = next(message for pattern, message in MISTAKES if re.search(pattern, text))
        raise CalculationError(mistake) from None
    except (RecursionError, MemoryError):  # Python's parser stops at some depth of its stack
        raise CalculationError(TOO_LONG) from None


def _normalize(expression: str) -> str:
    """Return the expression with ASCII signs where possible, without a trailing `= ?`."""
    text = SUPERSCRIPT_NUMBER.sub(lambda m: f"^({m.group().translate(SUPERSCRIPTS)})", expression)
    for word, sign in OPERATOR_WORDS:
        text = text.replace(word, sign)
    text = TRAILING_EQUALS.sub("", text.translate(SPELLINGS).strip())
    return text.removeprefix("=").strip()


class _Rewriter:
    """Rewrites one text from left to right, a token at a time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces: list[str] = []
        self.operands: list[Number] = []
        self.lexeme = ""
        self.has_operand = False
        """Whether the last token completed an operand, so that an operator can follow."""
        self.open_roots = 0
        """How many √ of this bracket wait for the end of their operand."""
        self.brackets: list[tuple[bool, int]] = []
        """For each open bracket: whether it holds arguments, and the `open_roots` before it."""

    def rewrite(self) -> str:
        """Return the whole text as Python's parser reads it."""
        position = 0
        while position < len(self.text):
            if self.text[position] == " ":
                position += 1
                continue
            position = self._rewrite_token(position)
            if len(self.pieces) > MAX_PIECES:
                raise CalculationError(TOO_LONG)
        if self.brackets:
            raise CalculationError("a bracket is open at the end: a ')' is missing")
        return " ".join(self.pieces) + ")" * self.open_roots

    def _rewrite_token(self, start: int) -> int:
        """Rewrite the token at `start` and return where it ends."""
        times = TIMES.match(self.text, start) if self.has_operand else None
        grouped = None if self._is_in_call() else GROUPED_NUMBER.match(self.text, start)
        match = times or grouped or TOKEN.match(self.text, start)
        if match is None:
            raise CalculationError(_describe_unreadable(self.text, start))
        previous, kind = self.lexeme, match.lastgroup or ("sign" if times else "number")
        self.lexeme = "*" if times else match[match.lastgroup or 0].lower()
        if self.lexeme in POSTFIXES or (self.lexeme == "%" and self._is_percent(start)):
            if self.lexeme == previous == "!":
                raise CalculationError("!! has two meanings: write factorial(factorial(n))")
            self.pieces.append(f"['{self.lexeme}']")
            return match.end()
        if self.has_operand:
            self.pieces.append(")" * self.open_roots)
            self.open_roots = 0
        if self.lexeme in OPERATOR_NAMES and (self.has_operand or self.lexeme not in FUNCTIONS):
            kind, self.lexeme = "sign", OPERATOR_NAMES[self.lexeme]
        if kind == "number":
            self._add_number(previous)
        elif self.lexeme in FUNCTIONS or self.lexeme in CONSTANTS:
            self._add_name()
        elif kind == "name" and self.lexeme not in KEYWORDS:
            raise CalculationError(_describe_unknown_name(self.lexeme))
        else:
            self._add_sign(previous)
        return match.end()

    def _add_number(self, previous: str) -> None:
        if self._is_in_call() and previous == "," and re.fullmatch("0..", self.lexeme):
            raise CalculationError(
                "inside a call a comma separates arguments: write 1000, not 1,000"
            )
        self._add_value(_parse_number(self.lexeme))

    def _add_name(self) -> None:
        if self.has_operand:
            self.pieces.append("@")
        if self.lexeme in CONSTANTS:
            self._add_value(CONSTANTS[self.lexeme])
        else:
            self.pieces.append(self.lexeme)
            self.has_operand = False

    def _add_value(self, value: Number) -> None:
        self.pieces.append(str(len(self.operands)))
        self.operands.append(value)
        self.has_operand = True

    def _add_sign(self, previous: str) -> None:
        """Add a bracket, a comma, an operator or a keyword."""
        if self.lexeme == "=":
            raise CalculationError(
                "= assigns nothing here: write == to compare, or only the side to compute"
            )
        if self.lexeme == "(" and previous in CONSTANTS:
            raise CalculationError(
                f"{previous} is a constant, not a function; write {previous} * ("
            )
        if self.has_operand and self.lexeme in ("(", *ROOTS):
            self.pieces.append("@")
        self.has_operand = self.lexeme in (")", "]")
        if self.lexeme in ROOTS:
            self.open_roots += 1
        elif self.lexeme in ("(", "["):
            is_call = self._is_in_call() if self.lexeme == "[" else previous in FUNCTIONS
            self.brackets.append((is_call, self.open_roots))
            self.open_roots = 0
            if len(self.brackets) > MAX_NESTING:
                raise CalculationError(TOO_DEEP)
        elif self.has_operand and self.brackets:
            _, self.open_roots = self.brackets.pop()
        self.pieces.append({"^": "**", **ROOTS}.get(self.lexeme, self.lexeme))

    def _is_in_call(self) -> bool:
        return bool(self.brackets) and self.brackets[-1][0]

    def _is_percent(self, start: int) -> bool:
        """Return whether the % is a percent sign, not a remainder."""
        context = PERCENT_CONTEXT.match(self.text, start)
        if context is None or not context["sign"]:
            return context is None or not context["operand"]
        has_gap_before = self.text[start - 1] == " "
        if has_gap_before is not bool(context["gap"] or context["spread"]):
            return not has_gap_before
        if has_gap_before and not context["spread"]:
            return False
        raise CalculationError(
            f"% before {context['sign']} can be read in two ways: "
            "write mod(10, -3) for a remainder, or (10%) - 3 for a percentage"
        )


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
