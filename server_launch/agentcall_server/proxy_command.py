"""The command line of `lmdeploy serve proxy`, with the flags that the installed one has."""

from __future__ import annotations

from dataclasses import dataclass

from agentcall_server.manual import Manual
from agentcall_server.refusals import BadValue

WORDS = ("serve", "proxy")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class ProxyWish:
    """Where the proxy listens, how it chooses a node, and the key that clients need."""

    host: str = "127.0.0.1"
    port: int = 8000
    routing: str | None = None
    api_key: str = ""

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether other machines reach it."""
        return self.host not in LOOPBACK


def proxy_command(wish: ProxyWish, manual: Manual) -> list[str]:
    """The words after `lmdeploy`. Raises BadValue."""
    words = [*WORDS, "--server-name", wish.host, "--server-port", str(wish.port)]
    if wish.routing is not None:
        # --strategy until 0.8
        flag = "--routing-strategy" if "--routing-strategy" in manual else "--strategy"
        choices = manual[flag].choices if flag in manual else ()
        if wish.routing not in choices:
            known = ", ".join(choices) or "none"
            raise BadValue(f"--routing {wish.routing!r}: the installed LMDeploy knows {known}")
        words += [flag, wish.routing]
    # else LMDeploy writes its nodes into its own package's folder, for whoever starts it next
    if "--disable-cache-status" in manual:
        words.append("--disable-cache-status")
    if wish.api_key:
        words += ["--api-keys", wish.api_key]
    return words
