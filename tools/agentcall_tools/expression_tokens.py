"""The tokens of an expression, in the many spellings that people and models use."""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from agentcall_tools.arithmetic import Arithmetic, CalculationError, Number
from agentcall_tools.calculator_functions import FUNCTIONS

MAX_LITERAL = 4_000
MAX_EXPONENT = 1_000

ALLOWED = (
    "Allowed: numbers, + - * / // % ^ ( ), comparisons, !, constants like pi and e, "
    "and functions like sqrt(2), log(8, 2), round(x, 2), max(1, 2)"
)

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

SPACE = re.compile(r" *")
TIMES = re.compile(r"[xX](?=[ 0-9(.])")
GROUPED_NUMBER = re.compile(
    r"[0-9]{1,3}(?:(?:,[0-9]{2})+,[0-9]{3}|(?:,[0-9]{3})+)(?:\.[0-9]+)?(?![0-9,.])"
)
NUMBER = re.compile(
    r"0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+"
    r"|(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
)
NAME = re.compile(r"(?:math\.(?=[A-Za-z]))?([A-Za-z_][A-Za-z_0-9]*)")
SIGN = re.compile(r"\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%^()<>,!&|~=\[\]√∛°万亿]")


@dataclass(frozen=True, slots=True)
class ExpressionToken:
    """One sign, name or number, with what stands around it."""

    kind: str
    text: str
    start: int
    has_space_before: bool


def normalize(expression: str) -> str:
    """The expression in ASCII where other signs mean the same, without a trailing `= ?`."""
    text = SUPERSCRIPT_NUMBER.sub(lambda m: f"^({m.group().translate(SUPERSCRIPTS)})", expression)
    for word, sign in OPERATOR_WORDS:
        text = text.replace(word, sign)
    text = text.translate(SPELLINGS).strip()
    text = TRAILING_EQUALS.sub("", text)
    return text[1:] if text.startswith("=") else text


def tokenize(text: str) -> list[ExpressionToken]:
    """The tokens of a normalized expression, the last one of kind `end`."""
    tokens: list[ExpressionToken] = []
    calls: list[bool] = []
    position = 0
    while True:
        start = SPACE.match(text, position)
        begin = start.end() if start else position
        if begin == len(text):
            return [*tokens, ExpressionToken("end", "the end", begin, begin > position)]
        last = tokens[-1] if tokens else None
        kind, end = match_token(text, begin, last, in_call=bool(calls) and calls[-1])
        word = text[begin:end]
        if kind == "name":
            word = word.removeprefix("math.").lower()
        if kind == "sign" and word == "(":
            calls.append(last is not None and last.kind == "name" and last.text in FUNCTIONS)
        elif kind == "sign" and word == ")" and calls:
            calls.pop()
        tokens.append(
            ExpressionToken(kind, "*" if kind == "times" else word, begin, begin > position)
        )
        position = end


def match_token(
    text: str, begin: int, last: ExpressionToken | None, *, in_call: bool
) -> tuple[str, int]:
    """The kind and the end of the token that begins here."""
    if last is not None and (last.kind == "number" or last.text in (")", "!", "°")):
        times = TIMES.match(text, begin)
        if times:
            return "times", times.end()
    grouped = None if in_call else GROUPED_NUMBER.match(text, begin)
    if grouped:
        return "number", grouped.end()
    for kind, pattern in (("number", NUMBER), ("name", NAME), ("sign", SIGN)):
        found = pattern.match(text, begin)
        if found:
            return kind, found.end()
    raise CalculationError(describe_unreadable(text, begin))


def describe_unreadable(text: str, position: int) -> str:
    """Why the character at this place has no meaning here."""
    character = text[position]
    if character in "'\"`":
        return f"text in quotes is not a number. {ALLOWED}."
    if character in "$€£¥￥¢":
        return f"leave out the currency sign {character}: only numbers are computed. {ALLOWED}."
    if character == ".":
        return f"a dot is only for decimals; attributes and methods do not exist here. {ALLOWED}."
    return f"cannot read {character!r} at character {position + 1}. {ALLOWED}."


def parse_literal(token: ExpressionToken, arithmetic: Arithmetic) -> Number:
    """The exact value of a number's text."""
    text = token.text.replace(",", "").replace("_", "").lower()
    if len(text) > MAX_LITERAL:
        raise CalculationError(f"a number has {len(text)} digits; at most {MAX_LITERAL} are read")
    if text[:2] in ("0x", "0b", "0o"):
        return int(text, 0)
    if text.isdigit():
        return int(text)
    exponent = text.partition("e")[2].lstrip("+-")
    if len(exponent) > 5 or abs(int(exponent or 0)) > MAX_EXPONENT:
        raise CalculationError(f"{text[:40]} is out of range: use exponents up to {MAX_EXPONENT}")
    return arithmetic.simplify(Fraction(Decimal(text)))
