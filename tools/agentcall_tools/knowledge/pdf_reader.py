"""A program that reads a PDF from standard input and writes its text as JSON.

The output is `{"pages": [text, ...]}` or `{"error": reason}`. The process has resource limits on
time and memory, and its parent kills it when it is late.
"""

import io
import json
import logging
import sys
from contextlib import suppress

MAX_MEMORY = 2 * 2**30
MAX_CPU_SECONDS = 50
MAX_PAGES = 5_000
MAX_CHARACTERS = 20_000_000


def read_pages(data: bytes) -> list[str]:
    """Return the text of each page, within the limits."""
    from pypdf import PdfReader

    texts: list[str] = []
    size = 0
    for page in PdfReader(io.BytesIO(data)).pages:
        if len(texts) == MAX_PAGES or size > MAX_CHARACTERS:
            break
        texts.append(page.extract_text().encode("utf-8", "replace").decode())
        size += len(texts[-1])
    return texts


def _limit_resources() -> None:
    """Set resource limits, if the system has them."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def main() -> None:
    """Read the PDF on standard input."""
    logging.disable()  # pypdf warns about every irregularity
    data = sys.stdin.buffer.read()
    _limit_resources()
    answer: dict[str, object]
    try:
        answer = {"pages": read_pages(data)}
    except Exception as error:  # a damaged file makes pypdf raise errors of any type
        answer = {"error": f"{type(error).__name__}: {error}"[:300]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
