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
from agentcall_server.exchange import exchange
from agentcall_server.manual import ask_manual
from agentcall_server.nodes import Nodes
from agentcall_server.proxy_command import WORDS, ProxyWish, proxy_command
from agentcall_server.refusals import BadValue
from agentcall_server.watch import Watch

EVERY = 1.0
"""Seconds between two looks at the nodes."""

_START_SECONDS = 180.0
_NEVER = str(10 * 365 * 24 * 3600)
_GRACE = 5.0


class Distributor:
    """A running proxy of LMDeploy; `nodes` are the servers that it should have.

    `say` gets a line for each node that comes or goes.
    """

    def __init__(
        self,
        wish: ProxyWish,
        lmdeploy: Path,
        nodes: Sequence[str],
        *,
        say: Callable[[str], None],
    ) -> None:
        self.wish = wish
        self.nodes = Nodes(wish.url, wish.api_key)
        self._command = [str(lmdeploy), *proxy_command(wish, ask_manual(lmdeploy, WORDS))]
        self._watch = Watch(self.nodes, nodes, say)
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Distributor:
        _require_free(self.wish)
        # the watch does better what the heart beat does, and has to know which node went why
        environment = {**os.environ, "LMDEPLOY_CONTROLLER_HEART_BEAT_EXPIRATION": _NEVER}
        self._process = subprocess.Popen(  # noqa: S603 - the user's own lmdeploy, no shell
            self._command, stdin=subprocess.DEVNULL, env=environment
        )
        try:
            self._wait_until_it_answers(self._process)
            self._watch.look()
        except BaseException:
            self.stop()
            raise
        for url, why in self._watch.away.items():
            self._say(f"node {url} is awaited: {why}")
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def watch(self) -> None:
        """Looks after the nodes until the proxy ends. Raises ProxyError when it does."""
        process = self._process
        while process is not None and process.poll() is None:
            try:
                self._watch.look()
            except ProxyError as error:
                if process.poll() is None:
                    self._say(str(error))
            time.sleep(EVERY)
        if process is not None:
            raise ProxyError(f"the proxy ended with code {process.returncode}")

    def stop(self) -> None:
        """Ends the proxy; nothing if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ProxyError(f"the proxy ended with code {process.returncode}; see above")
            try:
                exchange(f"{self.wish.url}/nodes/status", timeout=2.0)
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise ProxyError(f"the proxy did not answer within {_START_SECONDS:g} seconds")


def free_port(host: str) -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as door:
        door.bind((host, 0))
        port: int = door.getsockname()[1]
        return port


def _require_free(wish: ProxyWish) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in wish.host else socket.AF_INET) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind((wish.host, wish.port))
    except OSError as error:
        raise BadValue(
            f"nothing can listen at {wish.host} port {wish.port} ({error}); choose another --port"
        ) from error
