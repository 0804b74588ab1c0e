"""The body of a response as text, by its content type and charset.

Rules: the charset is that of a byte order mark, else of the header, else of the page's `<meta>`,
else UTF-8. Only the charsets of the web are supported (WHATWG, "Encoding"): Python has others, such
as punycode, that take very long for hostile bytes.
"""

import codecs
import re
from dataclasses import dataclass

from agentcall_tools.fetch.html_text import extract_page_text
from agentcall_tools.fetch.url import FetchError
from agentcall_tools.http_download import DownloadedResponse
from agentcall_tools.visible_text import remove_invisible

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_READABLE_TYPES = re.compile(
    r"text/.+|application/(?:.+\+)?(?:json|xml|yaml|javascript|toml)|application/"
    r"(?:x-)?(?:yaml|javascript|ndjson|sh|httpd-php|python)|image/svg\+xml|"
)
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
          (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip
_META_CHARSET = re.compile(
    rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([\w.:-]{2,40})", re.IGNORECASE
)
_CHARSETS = {
    name: name
    for name in str.split(
        "utf-8 utf-16-le utf-16-be ibm866 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 "
        "iso8859-7 iso8859-8 iso8859-10 iso8859-13 iso8859-14 iso8859-15 iso8859-16 koi8-r koi8-u "
        "mac-roman cp874 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 gb18030 "
        "big5hkscs euc_jp iso2022_jp shift_jis euc_kr cp949"
    )
} | {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874",
    "tis-620": "cp874", "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs",
    "shift_jis": "cp932", "cp932": "cp932", "euc_kr": "cp949", "utf-16": "utf-16-le",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadableText:
    """A text, and its title or ""."""

    title: str
    text: str


def extract_readable(answer: DownloadedResponse, address: str) -> ReadableText:
    """Return the body as text. Raise FetchError if it isn't text."""
    kind = answer.content_type.lower()
    if not _READABLE_TYPES.fullmatch(kind):
        raise FetchError(
            f"{address} is {kind[:60]}, not text; only text, HTML, JSON and XML are read"
        )
    text = decode_body(answer.body, answer.charset)
    if "\0" in text[:10_000]:
        raise FetchError(f"{address} is not text, though it says {kind[:60] or 'nothing'}")
    if kind in _HTML_TYPES or (not kind and re.match(r"\s*<(?:!doctype html|html)", text, re.I)):
        page = extract_page_text(text, address)
        return ReadableText(remove_invisible(page.title), remove_invisible(page.text))
    return ReadableText("", remove_invisible(text).strip())


def decode_body(body: bytes, charset: str) -> str:
    """Decode the bytes; those that are invalid in the charset become U+FFFD."""
    for bom, name in _BYTE_ORDER_MARKS:
        if body.startswith(bom):
            return body[len(bom) :].decode(name, "replace")
    match = _META_CHARSET.search(body[:4096])
    for name in (charset, match.group(1).decode() if match else ""):
        known = _find_codec(name)
        if known:
            return body.decode(known, "replace")
    return body.decode("utf-8", "replace")


def _find_codec(name: str) -> str:
    """Return the codec of a charset of the web, or ""."""
    try:
        return _CHARSETS.get(codecs.lookup(name.strip()).name, "") if name else ""
    except (LookupError, ValueError):
        return ""
