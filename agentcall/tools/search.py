"""Searches tools by their names, descriptions and parameters: BM25 over weighted fields, no model.

Formula: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond",
section 3.6 (BM25F with one `b`): a word's count in a document is the sum of its counts in the
fields, each multiplied by the field's weight, and the document's length is defined likewise.

Words are compared without case, width and the English plural; `get_userName2` is get, user, name,
2. Chinese and Japanese are written without blanks: their text, and Korean, is split into single
characters and pairs of neighbours.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import nsmallest
from itertools import pairwise
from math import log
from typing import NamedTuple

from agentcall.messages import JSON
from agentcall.tools.tool import Tool

K1, B = 1.2, 0.75
"""How soon a word's count saturates, and how strongly the length of a document counts."""

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ASCII_WORD = re.compile(r"[a-z]+|\d+")
_WORD = re.compile(rf"[{_CJK}]+|\d+|[^\W\d_{_CJK}]+")
_CHARACTER = re.compile(rf"[{_CJK}]")


class SearchField(NamedTuple):
    """A text of a document and the weight of its words."""

    text: str
    weight: float = 1.0


class SearchIndex:
    """A searchable list of documents, which are identified by their positions."""

    def __init__(self, documents: Iterable[Sequence[SearchField]]) -> None:
        counted = [_count_terms(document) for document in documents]
        self._term_scores = _score_terms(counted)

    def search(self, query: str, count: int) -> list[int]:
        """Return the positions of the best documents, the best first; none without a common word.

        Documents with the same score keep their order.
        """
        totals: dict[int, float] = {}
        for word in set(tokenize(query)):
            for position, score in self._term_scores.get(word, ()):
                totals[position] = totals.get(position, 0.0) + score
        return nsmallest(count, totals, key=lambda position: (-totals[position], position))


def tokenize(text: str) -> list[str]:
    """Split a text into words in the form in which they are compared.

    >>> tokenize("getUserNames: 获取用户")
    ['get', 'user', 'name', '获', '取', '用', '户', '获取', '取用', '用户']
    """
    plain = _HUMP.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    if plain.isascii():
        return list(map(_stem, _ASCII_WORD.findall(plain)))
    words: list[str] = []
    for run in _WORD.findall(plain):
        words += [*run, *map("".join, pairwise(run))] if _CHARACTER.match(run) else [_stem(run)]
    return words


def _count_terms(document: Sequence[SearchField]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for text, weight in document:
        for word, count in Counter(tokenize(text)).items():
            counts[word] = counts.get(word, 0.0) + weight * count
    return counts


def _score_terms(counted: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[int, float]]]:
    """Return what each word adds to the score of each document that contains it."""
    lengths = [sum(counts.values()) for counts in counted]
    mean = sum(lengths) / max(len(lengths), 1) or 1.0
    scores: dict[str, list[tuple[int, float]]] = {}
    for position, (counts, length) in enumerate(zip(counted, lengths, strict=True)):
        damping = K1 * (1 - B + B * length / mean)
        for word, count in counts.items():
            score = count * (K1 + 1) / (count + damping)
            scores.setdefault(word, []).append((position, score))
    for word, postings in scores.items():
        rarity = log(1 + (len(counted) - len(postings) + 0.5) / (len(postings) + 0.5))
        scores[word] = [(position, rarity * score) for position, score in postings]
    return scores


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """Return the word without the ending of an English plural."""
    if len(word) < 4 or not word.isascii() or word.endswith(("ss", "us", "is")):
        return word
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")


FIND_TOOLS = "find_tools"
"""The tool with which a model searches a registry of which it sees only a part."""

_NAME_WEIGHT, _DESCRIPTION_WEIGHT, _PARAMETER_WEIGHT, _DOCS_WEIGHT = 2.0, 1.0, 1.0, 0.5
"""Chosen on other questions than those of docs/tool_search.md."""


class ToolIndex:
    """A search index of tools."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = tuple(tools)
        self._index = SearchIndex(map(_build_document, self._tools))

    def search(self, query: str, count: int) -> list[Tool]:
        """Return the best tools, in descending order; none without a word of the query."""
        return [self._tools[position] for position in self._index.search(query, count)]


def _build_document(tool: Tool) -> Sequence[SearchField]:
    parameters = list(_iter_parameters(tool.parameters))
    return (
        SearchField(tool.name, _NAME_WEIGHT),
        SearchField(tool.description, _DESCRIPTION_WEIGHT),
        SearchField("\n".join(name for name, _ in parameters), _PARAMETER_WEIGHT),
        SearchField("\n".join(docs for _, docs in parameters), _DOCS_WEIGHT),
    )


def _iter_parameters(schema: JSON) -> Iterator[tuple[str, str]]:
    """Yield the name and description of each parameter, at any depth."""
    if isinstance(schema, Mapping):
        for key, part in schema.items():
            if key == "properties" and isinstance(part, Mapping):
                yield from ((name, _get_description(inner)) for name, inner in part.items())
                yield from (found for inner in part.values() for found in _iter_parameters(inner))
            else:
                yield from _iter_parameters(part)
    elif isinstance(schema, Sequence) and not isinstance(schema, str):
        yield from (found for part in schema for found in _iter_parameters(part))


def _get_description(schema: JSON) -> str:
    docs = schema.get("description") if isinstance(schema, Mapping) else None
    return docs if isinstance(docs, str) else ""
