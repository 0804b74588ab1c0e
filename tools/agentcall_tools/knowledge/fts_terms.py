"""Text and queries in the form that SQLite's FTS5 needs.

FTS5's `porter unicode61` splits text at spaces. Chinese and Japanese have none between words, so
their text, and Korean, is split into characters and pairs of neighbours. Then a word of two
characters can be found, which FTS5's own `trigram` cannot do.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

MAX_WORDS = 64
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_RUN = re.compile(f"[{_CJK}]+")
_WORD = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")


def separate_words(text: str) -> str:
    """Insert spaces so that FTS5 finds the words.

    >>> separate_words("read_me 上海人")
    'read me  上 海 人 上海 海人 '
    """
    return _RUN.sub(
        lambda run: f" {' '.join([*run.group(), *_make_pairs(run.group())])} ",
        text.replace("_", " "),
    )


def _make_pairs(run: str) -> Iterator[str]:
    return map("".join, pairwise(run))


def build_match_query(text: str) -> str:
    """Return an FTS5 query for passages with any word of the text.

    >>> build_match_query("上海的 tea?")
    '"上海" OR "海的" OR "tea"'
    """
    words: list[str] = []
    for found in _WORD.findall(text):
        words += (
            (_make_pairs(found) if len(found) > 1 else [found]) if _RUN.match(found) else [found]
        )
    return " OR ".join(f'"{word}"' for word in list(dict.fromkeys(words))[:MAX_WORDS])
