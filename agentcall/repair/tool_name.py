"""Finds the tool that a name means, or none.

Rules, the cheapest first. A rule counts only if exactly one tool matches:
1. name-noise: quotes, `()`, a call number (`add:0`), special tokens that the server left.
2. name-case: `Add` for `add`.
3. name-separator: `get-weather`, `getWeather`, `Get Weather` for `get_weather`.
4. name-prefix: a namespace before the name (`functions.add`, `mcp__math__add`, `tools/add`), or a
   missing namespace (`add` for `math__add`). Never if the namespace is a tool.
5. name-near: one typing error. An error that makes another word calls another tool (`get`/`set`,
   `lock`/`unlock`, `close`/`clone`) and cannot be told from a typo. So only the errors that models
   make are accepted: a letter lost, added or swapped with its neighbour in a word of at
   least five letters, a letter changed in a word of at least eight; at most one per word and two in
   total, never the first letter of a word; and no other tool may be nearly as similar.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from agentcall.repair.fixes import Fixes, make_fix

_MAX_NAME_LENGTH = 200
_MIN_SIMILARITY = 0.6
_CACHE_SIZE = 1 << 14
"""Names whose forms are cached: an unknown name is compared with a whole registry."""
_NOISE = re.compile(r"<[|｜].*|[\s\"'`]+$|^[\s\"'`]+|\(\s*\)\s*$|(?<=\w):\d+$", re.DOTALL)
_BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=[^\W_])")
_FULL_WIDTH_TO_ASCII = {**{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}, 0x3000: 0x20}
"""Full-width characters as their ASCII forms."""
_QUOTES = " \t\r\n\"'`"
_NAMESPACE = re.compile(r"__|[.:/\\]+")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class NameMatch:
    """The name of the tool that was meant, and the fixes that lead to it."""

    name: str
    fixes: Fixes = ()


def find_tool_name(wrote: str, names: Collection[str]) -> NameMatch | None:
    """Return the only name that the written one means; None if there are none or several."""
    if wrote in names:
        return NameMatch(wrote)
    if len(wrote) > _MAX_NAME_LENGTH:
        return None
    clean = _NOISE.sub("", _NOISE.sub("", wrote))
    fixes = (make_fix("name-noise", wrote, clean),) if clean != wrote else ()
    for rule, matches in _iter_matches(clean, names):
        if len(matches) == 1:
            (name,) = matches
            return NameMatch(name, (*fixes, make_fix(rule, clean, name)) if rule else fixes)
        if matches:
            return None
    return None


def find_similar_names(wrote: str, names: Collection[str], count: int = 3) -> list[str]:
    """Return the names most similar to the written one, in descending order of similarity."""
    target = fold_name(wrote[:_MAX_NAME_LENGTH])
    matcher = SequenceMatcher(None, "", target)  # it caches the second sequence, not the first

    def likeness(name: str) -> float:
        other = fold_name(name)
        matcher.set_seq1(other)
        is_inside = len(other) > 2 and (other in target or target in other) and bool(target)
        bounds = (matcher.real_quick_ratio, matcher.quick_ratio)  # cheap upper bounds
        alike = matcher.ratio() if all(bound() >= _MIN_SIMILARITY for bound in bounds) else 0.0
        return max(alike, 0.7 if is_inside else 0.0)

    ranked = sorted(((likeness(name), name) for name in names), key=lambda pair: -pair[0])
    return [name for ratio, name in ranked[:count] if ratio >= _MIN_SIMILARITY]


@lru_cache(_CACHE_SIZE)
def fold_name(name: str) -> str:
    """Return a name without case, separators and width, which spellings vary."""
    plain = unicodedata.normalize("NFKC", name)
    return "".join(filter(str.isalnum, plain)).casefold()


@lru_cache(_CACHE_SIZE)
def normalize_spelling(text: str) -> str:
    """Return a key or a choice without case, quotes and the separators between its words.

    Signs and other punctuation stay (`c` is not `c++`, `5` is not `-5`), and so does a separator
    between two digits (`1-2` is not `12`).
    """
    return _BETWEEN_WORDS.sub("", text.translate(_FULL_WIDTH_TO_ASCII).strip(_QUOTES).casefold())


def is_near(wrote: str, name: str) -> bool:
    """Whether a written name is one typing error away from a name, by rule 5."""
    written_words, name_words = _split_words(wrote), _split_words(name)
    if len(written_words) != len(name_words):
        written_words, name_words = (fold_name(wrote),), (fold_name(name),)
    pairs = [
        (mine, other)
        for mine, other in zip(written_words, name_words, strict=True)
        if mine != other
    ]
    return 0 < len(pairs) <= 2 and all(_is_slip(mine, other) for mine, other in pairs)


def find_only_near(wrote: str, names: Collection[str]) -> str | None:
    """Return the only name that is near, if no other is nearly as similar."""
    close = [name for name in names if is_near(wrote, name)]
    if len(close) != 1:
        return None
    target = fold_name(wrote)
    margin = edit_distance(target, fold_name(close[0])) + 1
    others = (fold_name(name) for name in names if name != close[0])
    rivals = (other for other in others if abs(len(other) - len(target)) <= margin)
    return None if any(edit_distance(target, rival) <= margin for rival in rivals) else close[0]


def edit_distance(one: str, other: str) -> int:
    """Return the number of letters to add, remove, change or swap (Damerau-Levenshtein)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        above, row = row, [i + 1]
        for j, letter_of_other in enumerate(other):
            cost = min(above[j + 1] + 1, row[j] + 1, above[j] + (letter != letter_of_other))
            swapped = i > 0 and j > 0 and (one[i - 1], letter) == (letter_of_other, other[j - 1])
            row.append(min(cost, before[j - 1] + 1) if swapped else cost)
        before = above
    return row[-1]


def _iter_matches(clean: str, names: Collection[str]) -> Iterator[tuple[str, set[str]]]:
    """Yield each rule with the names that match it."""
    yield "", {name for name in names if name == clean}
    yield "name-case", _find_same(clean, names, str.casefold)
    yield "name-separator", _find_same(clean, names, fold_name)
    parts = _NAMESPACE.split(clean)
    inside = _find_without_namespace(clean, parts, names)
    is_tool = bool(_find_same(parts[0], names, fold_name))
    has_rival = any(is_near(clean, name) for name in names if name not in inside)
    if inside and (is_tool or has_rival):
        inside |= {parts[0], clean}  # two tools match: the model has to decide
    yield "name-prefix", inside
    yield "name-prefix", _find_by_last_part(clean, names)
    close = find_only_near(clean, names)
    yield "name-near", {close} if close else set()
    close = find_only_near(parts[-1], names) if len(parts) > 1 else None
    yield "name-near", {close} if close else set()


def _find_same(wrote: str, names: Collection[str], key: Callable[[str], str]) -> set[str]:
    target = key(wrote)
    return {name for name in names if key(name) == target} if target else set()


def _find_without_namespace(clean: str, parts: list[str], names: Collection[str]) -> set[str]:
    """Return the tools whose whole name is the end of the written one, after a namespace."""
    if len(parts) < 2 or not parts[0]:
        return set()
    tails = [clean[match.end() :] for match in _NAMESPACE.finditer(clean)]
    for tail in filter(None, tails):  # the longest first: it drops least
        matches = {tail} & set(names) or _find_same(tail, names, fold_name)
        if matches:
            return matches
    return set()


def _find_by_last_part(clean: str, names: Collection[str]) -> set[str]:
    """Return the tools whose name without its namespace was written."""
    target = fold_name(clean)
    tails = {name: [name[m.end() :] for m in _NAMESPACE.finditer(name)] for name in names}
    return {name for name, ends in tails.items() if target and target in map(fold_name, ends)}


@lru_cache(_CACHE_SIZE)
def _split_words(name: str) -> tuple[str, ...]:
    plain = unicodedata.normalize("NFKC", name)
    return tuple(word.casefold() for word in _WORD.findall(_HUMP.sub(" ", plain)))


def _is_slip(wrote: str, word: str) -> bool:
    if not wrote.isalpha() or wrote[:1] != word[:1] or abs(len(wrote) - len(word)) > 1:
        return False
    if edit_distance(wrote, word) != 1:
        return False
    # Same length and other letters: one was changed. Same letters: two were swapped.
    changed = len(wrote) == len(word) and sorted(wrote) != sorted(word)
    return len(word) >= (8 if changed else 5) and len(wrote) >= 4
