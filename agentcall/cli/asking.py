"""What the user asks: the words of the command line, standard input, and images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from threading import Timer

from agentcall.cli.plain import style_text
from agentcall.errors import UsageError
from agentcall.messages import Image, Text

_STDIN_HINT = "reading standard input until its end (Ctrl-D); < /dev/null has none"


def build_prompt(prompt: str | None, images: Sequence[str]) -> str | list[str | Text | Image]:
    """The prompt: the images, then what is piped in, then the words. Raises UsageError.

    Images come first, as in what InternVL2, Qwen2-VL and LLaVA were trained on.
    """
    text = _join_texts(prompt)
    if not text.strip() and not images:
        raise UsageError('there is nothing to ask; use agentcall run "..." or pipe a text in')
    return [*map(load_image, images), *([text] if text.strip() else [])] if images else text


def _join_texts(prompt: str | None) -> str:
    # Bytes of the command line that are no UTF-8 arrive as surrogates, which no JSON can hold.
    said = (prompt or "").encode("utf-8", "replace").decode()
    if prompt != "-" and (sys.stdin is None or sys.stdin.isatty()):
        return said
    before = read_stdin().strip("\n")
    return before if prompt == "-" else "\n\n".join(part for part in (before, said) if part)


def read_stdin() -> str:
    """What is piped in, to its end; says after a second that it is waited for."""
    hint = Timer(1.0, lambda: sys.stderr.write(style_text(_STDIN_HINT, "dim", sys.stderr) + "\n"))
    hint.daemon = True
    hint.start()
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig", "replace")
    finally:
        hint.cancel()


def load_image(source: str) -> Image:
    """The image in a file or at a URL. Raises UsageError."""
    if source.startswith(("http:", "https:", "data:")):
        return Image(source)
    return Image.file(source)
