"""Removal of invisible characters, in which instructions to a model can hide.

Removed are control characters, zero-width spaces, word joiners, marks of text direction, and
Unicode's tags. The joiners that scripts and emoji need are kept.
"""

import re

_INVISIBLE = re.compile(
    "[\u00ad\u200b\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f\x00-\x08\x0b-\x1f\x7f]"
)


def remove_invisible(text: str) -> str:
    """Return the text without invisible characters.

    >>> remove_invisible("zero\\u200bwidth \\x1b[31mred\\r\\n")
    'zerowidth [31mred\\n'
    """
    return _INVISIBLE.sub("", text.replace("\r\n", "\n"))
