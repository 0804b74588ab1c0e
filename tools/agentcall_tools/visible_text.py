"""Text that a person would see, and no more.

Rules: characters that nobody sees and that no text needs are left out: control characters,
zero-width spaces and joiners of words, marks that turn the direction of text, and Unicode's tags.
Instructions for machines alone hide in them. The joiners that scripts and emoji need stay.
"""

import re

_INVISIBLE = re.compile(
    "[\u00ad\u200b\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f\x00-\x08\x0b-\x1f\x7f]"
)


def remove_invisible(text: str) -> str:
    """The text without the characters that nobody sees.

    >>> visible("zero\\u200bwidth \\x1b[31mred\\r\\n")
    'zerowidth [31mred\\n'
    """
    return _INVISIBLE.sub("", text.replace("\r\n", "\n"))
