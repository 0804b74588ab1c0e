"""The proxy for the requests to a server: the one that the caller names, or the environment's.

The environment's is that of the server's scheme (`HTTP_PROXY`, `HTTPS_PROXY`), else `ALL_PROXY`,
unless `NO_PROXY` names the host; names in lower case win. `NO_PROXY` is a list, separated by
commas, of domains with their subdomains, addresses, networks (`10.0.0.0/8`), or `*`. On macOS and
Windows the settings of the system count as well, as in `urllib.request`.

Requests to this machine never use the environment's proxy, as no proxy could reach the server.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from agentcall.errors import UsageError
from agentcall.models.url import redact_url


def find_proxy(server_url: str, proxy: str | None = None) -> str:
    """Return the URL of the proxy for a server, with its credentials; empty if there is none.

    proxy: the caller's choice; None selects the environment's, and "" none.

    Raises UsageError if the proxy's URL is not that of an HTTP proxy.
    """
    if proxy is not None:
        return _require_http(proxy, "proxy=") if proxy.strip() else ""
    parts = urlsplit(server_url)
    host = parts.hostname or ""
    if is_loopback(host):
        return ""
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not found or proxy_bypass(parts.netloc.rpartition("@")[2]) or proxy_bypass(host):
        return ""
    if _is_in_network(host, proxies.get("no", "")):
        return ""
    return _require_http(found, "the proxy in the environment")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever the name resolution says."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(ValueError):
        address = ip_address(name)
        return address.is_loopback or address.is_unspecified
    return False


def _is_in_network(host: str, no_proxy: str) -> bool:
    """Whether `NO_PROXY` has a network with the address, which urllib does not check."""
    with suppress(ValueError):
        address = ip_address(host)
        for entry in no_proxy.split(","):
            with suppress(ValueError):
                if address in ip_network(entry.strip(" []"), strict=False):
                    return True
    return False


def _require_http(proxy: str, source: str) -> str:
    url = proxy.strip()
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if is_valid:
        return url
    raise UsageError(
        f"{source} is {redact_url(url)!r}, but only HTTP proxies are supported; use "
        'http://host:port, or set NO_PROXY to the server\'s host (or proxy="") to connect directly'
    )
