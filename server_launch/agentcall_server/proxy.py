"""Runs LMDeploy's own proxy over several servers, and watches its nodes as long as it runs.

with LMDeployProxy(ProxySettings(), find_lmdeploy(), ["http://gpu1:23333"], say=print) as proxy:
    proxy.watch()
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.cli_flags import CommandFlags, read_command_flags
from agentcall_server.errors import BadValue, ProxyError
from agentcall_server.http_client import send_request
from agentcall_server.ports import can_listen, format_local_host, is_loopback, reserve_port
from agentcall_server.proxy_nodes import NodeWatch, ProxyNodes

PROXY_COMMAND = ("serve", "proxy")
WATCH_SECONDS = 1.0
"""Seconds between two checks of the nodes."""
_START_SECONDS = 180.0
_STOP_SECONDS = 5.0
_NEVER_SECONDS = str(10 * 365 * 24 * 3600)


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The proxy's address, its routing strategy, and the key that clients need."""

    host: str = "127.0.0.1"
    port: int = 8000
    routing: str | None = None
    api_key: str = ""

    @property
    def url(self) -> str:
        """The URL of the proxy on this machine."""
        return f"http://{format_local_host(self.host)}:{self.port}"

    @property
    def is_public(self) -> bool:
        """Whether the proxy is reachable from other machines."""
        return not is_loopback(self.host)


def build_proxy_command(settings: ProxySettings, known_flags: CommandFlags) -> list[str]:
    """Return the arguments after `lmdeploy`. Raises BadValue."""
    arguments = [
        *PROXY_COMMAND,
        "--server-name",
        settings.host,
        "--server-port",
        str(settings.port),
    ]
    if settings.routing is not None:
        # --strategy until 0.8
        flag = "--routing-strategy" if "--routing-strategy" in known_flags else "--strategy"
        choices = known_flags[flag].choices if flag in known_flags else ()
        if settings.routing not in choices:
            known = ", ".join(choices) or "none"
            raise BadValue(f"--routing {settings.routing!r}: the installed LMDeploy has {known}")
        arguments += [flag, settings.routing]
    # otherwise LMDeploy saves its nodes in its package's folder and loads them at its next start
    if "--disable-cache-status" in known_flags:
        arguments.append("--disable-cache-status")
    if settings.api_key:
        arguments += ["--api-keys", settings.api_key]
    return arguments


class LMDeployProxy:
    """A context manager that runs LMDeploy's proxy with the given nodes.

    `say` receives a line for each node that is added or removed.
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
        known_flags = read_command_flags(lmdeploy, PROXY_COMMAND)
        self._command = [str(lmdeploy), *build_proxy_command(settings, known_flags)]
        self._node_watch = NodeWatch(self.nodes, nodes, say)
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LMDeployProxy:
        _require_free_port(self.settings)
        # LMDeploy's heartbeat would remove nodes without the watch knowing it
        environment = {**os.environ, "LMDEPLOY_CONTROLLER_HEART_BEAT_EXPIRATION": _NEVER_SECONDS}
        self._process = subprocess.Popen(  # noqa: S603  (the user's own lmdeploy, no shell)
            self._command, stdin=subprocess.DEVNULL, env=environment
        )
        try:
            self._wait_until_ready(self._process)
            self._node_watch.check_nodes()
        except BaseException:
            self.stop()
            raise
        for url, reason in self._node_watch.missing_nodes.items():
            self._say(f"waiting for node {url}: {reason}")
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def watch(self) -> None:
        """Check the nodes until the proxy ends. Raises ProxyError when it does."""
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
        """Stop the proxy; do nothing if it is not running."""
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
    """Return a port of this machine on which no program listens."""
    with reserve_port(host) as reserved:
        port: int = reserved.getsockname()[1]
        return port


def _require_free_port(settings: ProxySettings) -> None:
    try:
        is_free, reason = can_listen(settings.host, settings.port), "another program listens there"
    except OSError as error:
        is_free, reason = False, str(error)
    if not is_free:
        raise BadValue(
            f"the proxy cannot listen on {settings.host} port {settings.port} ({reason}); give "
            f"another --port"
        )
