"""Several servers for tests: LMDeploy nodes that may be killed, and its own proxy before them."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installation import python_with
from launch import PARSER, Launch, Server, start

AGENTCALL = Path(sys.executable).with_name("agentcall")
MODEL = "internlm2_5-7b-chat"
START_SECONDS = 120.0


@contextmanager
def nodes(folder: Path, count: int) -> Iterator[list[Server]]:
    """So many servers of one model, started side by side."""
    flags = (*PARSER, "--model-name", MODEL)
    started: list[Server] = []
    try:
        for number in range(count):
            launch = Launch(f"node{number}", "0.18.0", flags)
            started.append(start(launch, folder / launch.name, print))
        for server in started:
            server.ready()
        yield started
    finally:
        for server in started:
            server.stop()


def kill(server: Server) -> None:
    """As `kill -9` does, in the middle of whatever it is doing."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


class Proxy:
    """`agentcall server proxy` over LMDeploy 0.18.0, in a process of its own."""

    def __init__(self, *words: str, key: str = "") -> None:
        lmdeploy = python_with("0.18.0", print).with_name("lmdeploy")
        command = [str(AGENTCALL), "server", "proxy", "--lmdeploy", str(lmdeploy), *words]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "AGENTCALL_API_KEY": key}
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.url = ""

    def __enter__(self) -> "Proxy":
        try:
            line = self.wait_for(r"the proxy answers at (\S+)/v1")
        except BaseException:
            self.stop()
            raise
        self.url = line.removesuffix("/v1").rpartition(" ")[2]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, pattern: str) -> str:
        """The first line from here on that it says and that the pattern is found in."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                if self._process.poll() is not None:
                    break
                continue
            if re.search(pattern, line):
                return line
        raise AssertionError(f"the proxy did not say {pattern!r}; it said:\n" + "".join(self.said))

    def stop(self) -> int:
        """Ends it as a service manager does; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return code

    def _read(self) -> None:
        try:
            for line in self._process.stderr or ():
                self.said.append(line)
                self._lines.put(line.rstrip())
        except ValueError:  # closed
            return
