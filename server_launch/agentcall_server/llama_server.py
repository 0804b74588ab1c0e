"""The program that serves one GGUF file: llama.cpp's own OpenAI-compatible HTTP server on loopback.

It says one JSON line on standard output when it is ready (`{"port": 34667}`) or when it cannot be
(`{"failed": "runtime" | "model", "why": ...}`), logs to standard error, and ends with its parent.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agentcall_server.parent_watch import exit_with_parent

PROMPT_CACHE_MIB = 512
"""Memory for other conversations' prefixes; llama.cpp's own 8192 is more than most can spare."""


@dataclass(frozen=True, slots=True)
class LlamaServerSettings:
    """What to serve: file, name, window in tokens, threads (None: one a core), parallel slots."""

    model: str
    alias: str
    context: int
    threads: int | None = None
    slots: int = 1
    port: int = 0


class ListeningServer(Protocol):
    """A server that listens already; it stops when it is let go."""

    @property
    def listening_address(self) -> str:
        """`http://127.0.0.1:PORT`."""
        ...


def main() -> None:
    """Serve until the parent ends."""
    settings = read_arguments()
    tell = _redirect_standard_output()
    exit_with_parent()
    # Spinning threads starve a busy machine of few cores; read once, when the library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        server = start_llama_server(settings)
    except ImportError as error:
        tell({"failed": "runtime", "why": str(error)})
        raise SystemExit(2) from None
    except Exception as error:  # whatever llama.cpp says about the file
        tell({"failed": "model", "why": str(error)})
        raise SystemExit(3) from None
    tell({"port": int(server.listening_address.rpartition(":")[2])})
    threading.Event().wait()


def read_arguments() -> LlamaServerSettings:
    """The command line as settings."""
    parser = argparse.ArgumentParser(prog="agentcall_server.llama_server", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", default=None)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    found = parser.parse_args()
    return LlamaServerSettings(
        model=found.model,
        alias=found.alias or Path(found.model).stem,
        context=found.context,
        threads=found.threads,
        slots=found.slots,
        port=found.port,
    )


def start_llama_server(settings: LlamaServerSettings) -> ListeningServer:
    """Load the model and listen."""
    xllamacpp: Any = importlib.import_module("xllamacpp")  # Any: the package has no types
    params = xllamacpp.CommonParams()
    params.model.path = settings.model
    params.model_alias = {settings.alias}
    params.hostnames, params.port = ["127.0.0.1"], settings.port
    params.n_ctx, params.n_parallel = settings.context, settings.slots
    params.kv_unified = settings.slots > 1  # one window for all slots, not a slice each
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.use_jinja, params.ui = True, False
    # A web page that is open in a browser may not use the model.
    params.cors_origins = "http://127.0.0.1"
    threads = settings.threads or count_usable_cores()
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server: ListeningServer = xllamacpp.Server(params)
    return server


def count_usable_cores() -> int:
    """Physical cores that this process may use, by affinity and by the container's quota."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = {_find_core(cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _read_cpu_quota()))


def _find_core(cpu: int) -> str:
    try:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        return siblings.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _read_cpu_quota() -> int:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 16


def _redirect_standard_output() -> Callable[[dict[str, object]], None]:
    """Keep standard output for our one line; whatever llama.cpp prints there goes to the log."""
    own = os.dup(1)
    os.dup2(2, 1)

    def tell(message: dict[str, object]) -> None:
        os.write(own, (json.dumps(message) + "\n").encode())

    return tell


if __name__ == "__main__":
    main()
