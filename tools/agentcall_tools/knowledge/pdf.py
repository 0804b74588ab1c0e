"""The text of a PDF, read by pypdf in a separate process, as a hostile file may take forever."""

import subprocess
import sys
from importlib.util import find_spec

from pydantic import BaseModel, ValidationError

from agentcall.errors import MissingExtra
from agentcall_tools.knowledge import pdf_reader

MAX_SECONDS = 60.0


class _PDFAnswer(BaseModel):
    pages: list[str] = []
    error: str | None = None


def read_pdf_pages(data: bytes) -> list[str]:
    """Return the text of each page. Raise ValueError if it fails, MissingExtra without pypdf."""
    if find_spec("pypdf") is None:
        raise MissingExtra.for_feature("reading PDF files", "knowledge")
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-I", pdf_reader.__file__],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=MAX_SECONDS,
            check=False,
        )
        answer = _PDFAnswer.model_validate_json(done.stdout)
    except subprocess.TimeoutExpired:
        raise ValueError(f"the PDF was not read within {MAX_SECONDS:g} seconds") from None
    except ValidationError:  # it was killed by a resource limit
        raise ValueError("the PDF takes too much time or memory to be read") from None
    if answer.error is not None:
        raise ValueError(f"the PDF cannot be read: {answer.error}")
    return answer.pages
