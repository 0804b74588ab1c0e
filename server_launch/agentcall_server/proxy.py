"""Runs LMDeploy's own request distributor, and watches its nodes for as long as it runs.

with Distributor(ProxyWish(), find_lmdeploy(), ["http://gpu1:23333"]) as proxy:
    proxy.watch()

The command line of `lmdeploy serve proxy`, with the flags that the installed one has.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.cli_flags import CommandFlags, read_command_flags
from agentcall_server.errors import BadValue, ProxyError
from agentcall_server.http_client import send_request
from agentcall_server.proxy_nodes import NodeWatch, ProxyNodes

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


WATCH_SECONDS = 1.0
"""Seconds between two looks at the nodes."""

_START_SECONDS = 180.0
_NEVER_SECONDS = str(10 * 365 * 24 * 3600)
_STOP_SECONDS = 5.0


class LMDeployProxy:
    """A running proxy of LMDeploy; `nodes` are the servers that it should have.

    `say` gets a line for each node that comes or goes.
    """

    def __init__(
        self,
        settings: ProxySettings,
        lmdeploy: Path,
        nodes: Sequence[str],
        *,
        say: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.nodes = ProxyNodes(settings.url, settings.api_key)
        self._command = [
            str(lmdeploy),
            *build_proxy_command(settings, read_command_flags(lmdeploy, PROXY_COMMAND)),
        ]
        self._node_watch = NodeWatch(self.nodes, nodes, say)
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LMDeployProxy:
        _require_free_port(self.settings)
        # the watch does better what the heart beat does, and has to know which node went why
        environment = {**os.environ, "LMDEPLOY_CONTROLLER_HEART_BEAT_EXPIRATION": _NEVER_SECONDS}
        self._process = subprocess.Popen(  # noqa: S603 - the user's own lmdeploy, no shell
            self._command, stdin=subprocess.DEVNULL, env=environment
        )
        try:
            self._wait_until_ready(self._process)
            self._node_watch.check_nodes()
        except BaseException:
            self.stop()
            raise
        for url, why in self._node_watch.missing_nodes.items():
            self._say(f"node {url} is awaited: {why}")
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def watch(self) -> None:
        """Looks after the nodes until the proxy ends. Raises ProxyError when it does."""
        process = self._process
        while process is not None and process.poll() is None:
            try:
                self._node_watch.check_nodes()
            except ProxyError as error:
                if process.poll() is None:
                    self._say(str(error))
            time.sleep(WATCH_SECONDS)
        if process is not None:
            raise ProxyError(f"the proxy ended with code {process.returncode}")

    def stop(self) -> None:
        """Ends the proxy; nothing if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ProxyError(f"the proxy ended with code {process.returncode}; see above")
            try:
                send_request(f"{self.settings.url}/nodes/status", timeout=2.0)
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise ProxyError(f"the proxy did not answer within {_START_SECONDS:g} seconds")


def find_free_port(host: str) -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as door:
        door.bind((host, 0))
        port: int = door.getsockname()[1]
        return port


def _require_free_port(settings: ProxySettings) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind((settings.host, settings.port))
    except OSError as error:
        raise BadValue(
            f"nothing can listen at {settings.host} port {settings.port} ({error}); choose "
            "another --port"
        ) from error
