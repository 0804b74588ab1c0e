"""Base URLs of servers: made regular, freed of their secrets, shown without them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from agentcall.errors import UsageError

_CHAT_PATH = "/chat/completions"
_NOT_A_PORT = re.compile(r":[^:\]]*[^:\]\d][^:\]]*$")
_SECRET_NAME = re.compile("key|token|secret|password|sig|auth", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerURL:
    """A base URL without user and password, and the key that these were."""

    url: str
    api_key: str


def parse_url(url: str) -> ServerURL:
    """The parts of a base URL as somebody typed it. Raises UsageError.

    A key may stand before the host: `http://KEY@host/v1`, or `http://user:password@host/v1` for
    HTTP basic authentication. A `/chat/completions` at the end is taken off.
    """
    parts = _split_url(url)
    path = parts.path.rstrip("/").removesuffix(_CHAT_PATH)
    clean = urlunsplit((parts.scheme, _get_host(parts), path, parts.query, ""))
    return ServerURL(clean, _extract_key(parts))


def redact_url(url: str) -> str:
    """The URL without user, password and query, for messages; also one that is wrong."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the server"
    if _NOT_A_PORT.search(_get_host(parts)):  # what stands there may be a password
        return "the server"
    if "@" in parts.path + parts.query + parts.fragment:  # of a password that was not quoted
        scheme, mark, rest = url.rpartition("@")[0].partition("://")
        return (scheme + mark if rest else "") + url.rpartition("@")[2].partition("?")[0]
    return urlunsplit((parts.scheme, _get_host(parts), parts.path.rstrip("/"), "", ""))


def extract_url_secrets(url: str) -> list[str]:
    """The secrets that stand in a URL: its user and password, and keys in its query."""
    parts = urlsplit(url)
    return [_extract_key(parts), *extract_named_secrets(parse_qsl(parts.query))]


def extract_named_secrets(fields: Iterable[tuple[str, object]]) -> list[str]:
    """Those values of headers or query that are secrets by their names; `api-version` is none."""
    return [value for name, value in fields if _SECRET_NAME.search(name) and isinstance(value, str)]


def join_url(url: str, path: str) -> str:
    """The URL of a path below a base URL, whose query stays at the end."""
    base, mark, query = url.partition("?")
    return f"{base}{path}{mark}{query}"


def add_v1_path(url: str) -> str:
    """The same base URL, with the usual `/v1` if it has no path."""
    parts = _split_url(url)
    return url if parts.path.strip("/") else urlunsplit(parts._replace(path="/v1"))


def format_authorization(api_key: str) -> str:
    """The header for a key; one that names its scheme itself, such as `Basic ...`, stays so."""
    return api_key if api_key.startswith(("Basic ", "Bearer ")) else f"Bearer {api_key}"


def _split_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise UsageError(f"{redact_url(url)!r} is not a base URL; use http://host:port/v1")


def _get_host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _extract_key(parts: SplitResult) -> str:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not password:
        return user
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
