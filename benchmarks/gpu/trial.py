"""Start a real LMDeploy on a GPU as planned, benchmark it with agents, and stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import orjson

from agentcall.diagnostics.bench import BenchReport, BenchScope, BenchServer, BenchTarget, measure
from agentcall.models.capabilities import CHAT_PATH
from agentcall.models.http import HTTPEndpoint
from agentcall_server.http_client import send_request
from agentcall_server.memory_plan import MemoryPlan, build_serve_command

LOAD_TIMEOUT = 1800.0
"""Seconds for downloading and loading the weights."""

_GRACE = 30.0


class ServerStartError(Exception):
    """LMDeploy did not start; the message has the end of its log."""


@contextmanager
def run_server(plan: MemoryPlan, lmdeploy: Path, log: Path) -> Generator[str, None, None]:
    """Run a server as planned and yield its base URL. Raises ServerStartError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(lmdeploy), *build_serve_command(plan)[1:], "--server-port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _stop_process(process)


def _wait_until_ready(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    deadline = time.monotonic() + LOAD_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if send_request(health, timeout=5.0).status == 200:
                return
        except OSError:
            pass
        time.sleep(0.5)
    tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-30:])
    raise ServerStartError(
        f"LMDeploy is not up (exit code {process.poll()}); its log ends:\n{tail}"
    )


def _stop_process(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_benchmark(url: str, prefill: int) -> BenchReport:
    """Benchmark agents and streams, then send a prompt as long as one prefill step."""
    endpoint = HTTPEndpoint(url)
    scope = BenchScope((1, 8, 32), each=2, seconds=60.0)

    async def work() -> BenchReport:
        report = await measure(BenchTarget((BenchServer(endpoint),)), scope, print)
        words: object = [{"role": "user", "content": "a " * int(prefill * 0.9)}]
        body = {"model": report.model, "max_tokens": 1, "messages": words}
        await endpoint.post(CHAT_PATH, orjson.dumps(body))
        return report

    return asyncio.run(work())
