"""Patterns of JSON Schemas: ECMA's dialect, matched in linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some
from rows import each_row

from agentcall.tools.schema.regex import (
    MAX_PATTERN_LENGTH,
    MAX_PATTERN_SIZE,
    PatternError,
    compile_pattern,
)

EMAIL = (  # as zod writes it
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+"
    r"[A-Za-z]{2,}$"
)


@each_row(
    ("pattern", "text", "wanted"),
    [
        (r"^(\w+\s?)*$", "to be or not", True),
        (r"^\d+$", "123", True),
        (r"^\d+$", "١٢٣", False),
        (r"^\w+$", "Zürich", False),
        (r"^\s$", "\ufeff", True),
        (r"^\S+$", "a\u00a0b", False),
        (r"^\/a\-b$", "/a-b", True),
        (r"^\u0041\x42$", "AB", True),
        (r"^\u{1F600}$", "😀", True),
        (r"^\ud83d\ude00$", "😀", True),
        (r"^\cA$", "\x01", True),
        (r"^\0$", "\0", True),
        ("^[^]$", "\n", True),
        ("[]", "a", False),
        ("^a$", "a\n", False),
        ("^.$", "\u2028", False),
        (r"^[\w-.]+$", "a-.b", True),
        ("^[a&&b]+$", "&b", True),
        ("^[[]$", "[", True),
        ("^[+--]$", ",", True),
        (r"^[\b]$", "\b", True),
        (r"\bcat\b", "a cat sat", True),
        (r"^\p{L}+$", "été", True),
        ("^a{,2}$", "a{,2}", True),
        ("^{a}$", "{a}", True),
        ("^(?<year>[0-9]{4})$", "2024", True),
        ("^(?P<year>[0-9]{4})$", "2024", True),
        (r"\Aab\Z", "ab", True),
        ("(?i)^abc$", "ABC", True),
        ("", "", True),
        (EMAIL, "ann.b@example.com", True),
        (EMAIL, "ann..b@example.com", False),
        (EMAIL, ".ann@example.com", False),
        (r"^(?=.*[a-z])(?=.*\d).{3,}$", "abc1", True),
        (r"^(?=.*[a-z])(?=.*\d).{3,}$", "abcd", False),
        ("^(?!con$|nul$)[a-z]+$", "nul", False),
        ("^(?!con$|nul$)[a-z]+$", "null", True),
        ("a", "\ud800a", True),
    ],
)
def test_a_pattern_matches_what_it_does_in_a_browser(pattern: str, text: str, wanted: bool) -> None:
    assert compile_pattern(pattern).matches(text) is wanted


@each_row(
    "pattern",
    ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", r"^(\w+\s?)*$", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$",
     r"^(.*,)*\d$", "^(a?){40}a{40}$"],
)  # fmt: skip
def test_no_pattern_goes_back(pattern: str) -> None:
    """Python's own engine would not finish."""
    assert compile_pattern(pattern).matches("a" * 50_000 + "!") in (True, False)


@each_row(
    ("pattern", "words"),
    [
        (r"^(a)\1$", r"a backreference at '\\1$'"),
        (r"^(?<x>a)\k<x>$", "a backreference"),
        ("a(?=b)", "lookaround at '(?=b)'"),
        ("(?<!a)b", "lookaround"),
        ("^(?!a)b|c", "a lookahead in one of several alternatives"),
        ("^(?!(?=a)b)c", "lookaround"),
        ("(?>a)b", "a group at '(?>a)b'"),
        (r"\h", "an unknown escape"),
        ("(a", "a group that is not closed"),
        ("a)", "a ) without its ("),
        ("[a", "a [ without its ]"),
        ("[z-a]", "invalid character class range"),
        ("*a", "'*' at its start repeats nothing"),
        ("(?s).", "a group"),
        ("\\", "an unknown escape"),
        (r"\ud800", "is not a character"),
        ("a" * (MAX_PATTERN_LENGTH + 1), f"over the limit of {MAX_PATTERN_LENGTH}"),
        ("((a{100}){100}){100}", f"over {MAX_PATTERN_SIZE} characters, repetitions expanded"),
        ("(" * 2_000 + ")" * 2_000, "nest"),
    ],
)
def test_what_needs_another_engine_is_refused_with_the_part(pattern: str, words: str) -> None:
    with pytest.raises(PatternError, match=re.escape(words)):
        compile_pattern(pattern)


PARTS = some.sampled_from(
    ["a", "b", "1", "[ab]", "[^a]", ".", r"\d", r"\w", r"\W", r"\s", "(a|b)", "(?:ab)+", "a?", "b*",
     "c{1,2}", "$", r"\.", "-", r"\-", "|", r"\b", "[a-c1]", r"[\d-]"]
)  # fmt: skip


@given(some.lists(PARTS, max_size=6), some.text("ab1-. c", max_size=8))
def test_a_plain_pattern_means_what_it_does_in_python(parts: list[str], text: str) -> None:
    pattern = "".join(parts)
    assert compile_pattern(pattern).matches(text) is bool(re.search(pattern, text))
