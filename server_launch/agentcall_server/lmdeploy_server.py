"""A model on LMDeploy that runs as long as a block of code.

    with LMDeployServer("internlm/internlm2_5-7b-chat") as server:
        Agent(server.model, tools=[add]).run_sync("What is 3 + 5?")

The server ends with the block, and with this process, even if the process is killed. A server that
is launched from the command line (`agentcall server start`) keeps running.
"""

from __future__ import annotations

import atexit
import os
import threading

from agentcall_server.errors import BadValue, ServerNotRunning
from agentcall_server.launch import Launch
from agentcall_server.launcher import LaunchedServer, launch_server, stop_server, wait_until_ready
from agentcall_server.progress import ProgressReporter, make_progress
from agentcall_server.server_registry import ServerEntry, Status


class LMDeployServer:
    """One server: a context manager, or `start()` and `stop()`.

    `launch` is a model (a folder, or a name on the hub), or a `Launch` with address, limits and
    further flags of LMDeploy.
    """

    def __init__(self, launch: Launch | str, *, report: ProgressReporter | None = None) -> None:
        self._launch = Launch(launch) if isinstance(launch, str) else launch
        if self._launch.kind != "lmdeploy":
            raise BadValue(f"{self._launch.model!r} is not served by LMDeploy; use EmbeddedServer")
        self._report = report
        self._launched: LaunchedServer | None = None
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """The model for `Agent`: a shorthand that resolves to the server's address and key."""
        return f"lmdeploy:{self._entry.name}"

    @property
    def url(self) -> str:
        """The base URL of the OpenAI API, `http://127.0.0.1:PORT/v1`."""
        return f"{self._entry.endpoint.root}/v1"

    @property
    def served_model(self) -> str:
        """The name of the model in `/v1/models`."""
        return self._status.model

    @property
    def api_key(self) -> str:
        """The API key that clients need; '' if none."""
        return self._entry.endpoint.key

    @property
    def restarts(self) -> int:
        """Number of restarts after a crash."""
        return self._status.restarts

    @property
    def is_running(self) -> bool:
        """Whether its supervisor runs; the server may still be loading."""
        return self._launched is not None and self._launched.entry.is_up

    def start(self) -> LMDeployServer:
        """Start the server and wait until it is ready. Blocks; does nothing if it runs.

        Raises LMDeployUnavailable, BadValue, PortTaken, StartFailed.
        """
        with self._lock:
            if not self.is_running:
                report = self._report or make_progress()
                self._launched = launch_server(self._launch, report, ends_with_parent=True)
                atexit.register(self.stop)
                try:
                    wait_until_ready(self._launched, report)
                except BaseException:
                    self._close()
                    raise
        return self

    def stop(self) -> None:
        """Stop the server; do nothing if it is not running."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        launched, self._launched = self._launched, None
        if launched is None or self._owner_pid != os.getpid():
            return
        atexit.unregister(self.stop)
        if launched.entry.is_up:
            stop_server(launched.entry)
        if launched.supervisor_process is not None:
            if launched.supervisor_process.stdin is not None:
                launched.supervisor_process.stdin.close()
            launched.supervisor_process.wait()

    @property
    def _entry(self) -> ServerEntry:
        if self._launched is None:
            model = self._launch.model
            raise ServerNotRunning(f"the server of {model} is not started; call start()")
        return self._launched.entry

    @property
    def _status(self) -> Status:
        status = self._entry.status
        if status is None:
            raise ServerNotRunning(f"the server {self._entry.name} has ended")
        return status

    def __enter__(self) -> LMDeployServer:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()
