"""The command line of `lmdeploy serve proxy`, with the flags that the installed one has."""

from __future__ import annotations

from dataclasses import dataclass

from agentcall_server.manual import CommandFlags
from agentcall_server.refusals import BadValue

PROXY_COMMAND = ("serve", "proxy")
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class ProxySettings:
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
    def is_public(self) -> bool:
        """Whether other machines reach it."""
        return self.host not in LOOPBACK_HOSTS


def build_proxy_command(settings: ProxySettings, known_flags: CommandFlags) -> list[str]:
    """The words after `lmdeploy`. Raises BadValue."""
    words = [*PROXY_COMMAND, "--server-name", settings.host, "--server-port", str(settings.port)]
    if settings.routing is not None:
        # --strategy until 0.8
        flag = "--routing-strategy" if "--routing-strategy" in known_flags else "--strategy"
        choices = known_flags[flag].choices if flag in known_flags else ()
        if settings.routing not in choices:
            known = ", ".join(choices) or "none"
            raise BadValue(f"--routing {settings.routing!r}: the installed LMDeploy knows {known}")
        words += [flag, settings.routing]
    # else LMDeploy writes its nodes into its own package's folder, for whoever starts it next
    if "--disable-cache-status" in known_flags:
        words.append("--disable-cache-status")
    if settings.api_key:
        words += ["--api-keys", settings.api_key]
    return words
