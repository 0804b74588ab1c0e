"""A model on LMDeploy for as long as a block of code runs.

    with LMDeployServer("internlm/internlm2_5-7b-chat") as server:
        Agent(server.model, tools=[add]).run_sync("What is 3 + 5?")

The server ends with the block, and with this process, however that one ends. What is launched from
the command line (`agentcall server start`) stays.
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

    `launch` is a model (a folder, or a name on the hub), or a whole `Launch`, which says where it
    listens, what it may take and which further flags LMDeploy gets.
    """

    def __init__(self, launch: Launch | str, *, report: ProgressReporter | None = None) -> None:
        self._launch = Launch(launch) if isinstance(launch, str) else launch
        if self._launch.kind != "lmdeploy":
            raise BadValue(f"{self._launch.model!r} is no model for LMDeploy; use EmbeddedServer")
        self._report = report
        self._launched: LaunchedServer | None = None
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """What `Agent` takes: a shorthand that finds the server with its address and its key."""
        return f"lmdeploy:{self._entry.name}"

    @property
    def url(self) -> str:
        """The base URL of the OpenAI API, `http://127.0.0.1:PORT/v1`."""
        return f"{self._entry.endpoint.root}/v1"

    @property
    def served_model(self) -> str:
        """The model's name, as `/v1/models` shows it."""
        return self._status.model

    @property
    def api_key(self) -> str:
        """The key that it asks for; '' if it asks for none."""
        return self._entry.endpoint.key

    @property
    def restarts(self) -> int:
        """How often it was started anew after a crash."""
        return self._status.restarts

    @property
    def is_running(self) -> bool:
        """Whether it is looked after; it may be loading."""
        return self._launched is not None and self._launched.entry.is_up

    def start(self) -> LMDeployServer:
        """Start it and wait until it can be asked. Blocks; does nothing if it runs.

        Raises NoLMDeploy, BadValue, PortTaken, StartFailed.
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
        """End it; nothing if it does not run."""
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
            raise ServerNotRunning(
                f"the server of {self._launch.model} is not started; call start()"
            )
        return self._launched.entry

    @property
    def _status(self) -> Status:
        status = self._entry.status
        if status is None:
            raise ServerNotRunning(f"the server {self._entry.name} has gone")
        return status

    def __enter__(self) -> LMDeployServer:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()
