"""Runs LMDeploy's own request distributor, and watches its nodes for as long as it runs.

with Distributor(ProxyWish(), find_lmdeploy(), ["http://gpu1:23333"]) as proxy:
    proxy.watch()
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agentcall_server.errors import ProxyError
from agentcall_server.exchange import send_request
from agentcall_server.manual import read_command_flags
from agentcall_server.nodes import ProxyNodes
from agentcall_server.proxy_command import PROXY_COMMAND, ProxySettings, build_proxy_command
from agentcall_server.refusals import BadValue
from agentcall_server.watch import NodeWatch

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
            f"nothing can listen at {settings.host} port {settings.port} ({error}); choose another --port"
        ) from error
