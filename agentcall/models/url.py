"""Base URLs of servers: normalize them, extract their secrets, and format them for messages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from agentcall.errors import UsageError

_CHAT_PATH = "/chat/completions"
_INVALID_PORT = re.compile(r":[^:\]]*[^:\]\d][^:\]]*$")
_CONTROL_CHARACTER = r"[\x00-\x08\x0a-\x1f\x7f]"
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SECRET_NAME = re.compile("key|token|secret|password|sig|auth", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerURL:
    """A base URL without credentials, and the API key that they were."""

    url: str
    api_key: str


def parse_url(url: str) -> ServerURL:
    """Parse a base URL as a user typed it. Raises UsageError.

    The credentials may be an API key, `http://KEY@host/v1`, or `http://user:password@host/v1` for
    HTTP basic authentication. A trailing `/chat/completions` is removed.
    """
    parts = _split_url(url)
    path = parts.path.rstrip("/").removesuffix(_CHAT_PATH)
    clean_url = urlunsplit((parts.scheme, _get_host(parts), path, parts.query, ""))
    return ServerURL(clean_url, _extract_key(parts))


def redact_url(url: str) -> str:
    """Return the URL without credentials and query, for messages; the URL may be malformed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the server"
    if _INVALID_PORT.search(_get_host(parts)):  # the text after the colon may be a password
        return "the server"
    if "@" in parts.path + parts.query + parts.fragment:  # a password was not percent-encoded
        scheme, separator, rest = url.rpartition("@")[0].partition("://")
        return (scheme + separator if rest else "") + url.rpartition("@")[2].partition("?")[0]
    return urlunsplit((parts.scheme, _get_host(parts), parts.path.rstrip("/"), "", ""))


def extract_url_secrets(url: str) -> list[str]:
    """Return the secrets in a URL: its credentials, and the keys in its query."""
    parts = urlsplit(url)
    return [_extract_key(parts), *extract_named_secrets(parse_qsl(parts.query))]


def extract_named_secrets(fields: Iterable[tuple[str, object]]) -> list[str]:
    """Return the values of the headers or query fields whose names suggest a secret."""
    return [value for name, value in fields if _SECRET_NAME.search(name) and isinstance(value, str)]


def join_url(url: str, path: str) -> str:
    """Append a path to a base URL, before its query."""
    base, separator, query = url.partition("?")
    return f"{base}{path}{separator}{query}"


def add_v1_path(url: str) -> str:
    """Append the usual `/v1` to a base URL that has no path."""
    parts = _split_url(url)
    return url.strip() if parts.path.strip("/") else urlunsplit(parts._replace(path="/v1"))


def format_authorization(api_key: str) -> str:
    """Return the Authorization header for a key; "Bearer" is added unless it names a scheme."""
    return api_key if api_key.startswith(("Basic ", "Bearer ")) else f"Bearer {api_key}"


def build_headers(api_key: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request; the given ones replace the usual ones.

    Raises UsageError, without the value, for one that HTTP cannot carry.
    """
    usual = {"Content-Type": "application/json", "User-Agent": "agentcall"}
    if api_key:
        usual["Authorization"] = format_authorization(api_key)
    given = {name.lower() for name in headers}
    merged = {name: value for name, value in usual.items() if name.lower() not in given}
    merged.update(headers)
    for name, value in merged.items():
        if re.search(_CONTROL_CHARACTER, value):
            source = f"the header {name}" if name.lower() in given else "the API key"
            raise UsageError(
                f"{source} contains a line break or another control character; was it copied "
                "with a part of something else?"
            )
        if not re.fullmatch(_HEADER_NAME, name):
            raise UsageError(f"{name!r} is not the name of an HTTP header")
    return merged


def is_same_server(url: str, target: str) -> bool:
    """Whether a redirect stays on the server: the same origin, or from its HTTP to its HTTPS."""
    try:
        before, after = urlsplit(url), urlsplit(target)
        ports = [parts.port or _DEFAULT_PORTS.get(parts.scheme) for parts in (before, after)]
    except ValueError:
        return False
    if before.hostname != after.hostname or after.username is not None:
        return False
    if before.scheme == after.scheme:
        return ports[0] == ports[1]
    return (before.scheme, after.scheme, *ports) == ("http", "https", 80, 443)


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
