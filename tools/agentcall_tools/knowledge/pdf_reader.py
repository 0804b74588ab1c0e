"""The program of a process that reads one PDF: bytes come on standard input, JSON goes out.

`{"pages": [text, ...]}` with the text of each page, or `{"error": why}`. The process has limits of
the system's on time and memory, and whoever started it ends it when it is late.
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
    """The text of each page, as far as the bounds allow."""
    from pypdf import PdfReader

    found: list[str] = []
    size = 0
    for page in PdfReader(io.BytesIO(data)).pages:
        if len(found) == MAX_PAGES or size > MAX_CHARACTERS:
            break
        found.append(page.extract_text().encode("utf-8", "replace").decode())
        size += len(found[-1])
    return found


def _limit_resources() -> None:
    """Bounds of the system, where it has them."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def main() -> None:
    """Reads the PDF of standard input."""
    logging.disable()  # pypdf warns of every oddity
    data = sys.stdin.buffer.read()
    _limit_resources()
    answer: dict[str, object]
    try:
        answer = {"pages": read_pages(data)}
    except (
        Exception,
        MemoryError,
        RecursionError,
    ) as error:  # pypdf raises whatever a file makes it
        answer = {"error": f"{type(error).__name__}: {error}"[:300]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
