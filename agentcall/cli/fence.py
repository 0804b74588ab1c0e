'''A text of several lines at a prompt, between """ and """.'''

from __future__ import annotations

FENCE = '"""'


def is_fence_open(text: str) -> bool:
    '''Whether several lines were begun with """ and are not ended yet.'''
    return text.lstrip().startswith(FENCE) and text.count(FENCE) % 2 == 1


def strip_fence(text: str) -> str:
    '''The text without the """ around it; in UTF-8, whatever bytes were typed.'''
    bare = text.strip()
    if len(bare) >= 2 * len(FENCE) and bare.startswith(FENCE) and bare.endswith(FENCE):
        text = bare[len(FENCE) : -len(FENCE)].strip("\n")
    return text.encode("utf-8", "replace").decode()
