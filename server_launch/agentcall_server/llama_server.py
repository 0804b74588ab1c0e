"""The program that serves one GGUF file: llama.cpp's OpenAI-compatible HTTP server on loopback.

It prints one JSON line on standard output when it is ready (`{"port": 34667}`) or has failed
(`{"failed": "runtime" | "model", "why": ...}`), logs to standard error, and ends with its parent.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import threading
from pathlib import Path
from typing import Any

from agentcall_server.processes import exit_with_parent

PROMPT_CACHE_MIB = 512
"""Memory for the prefixes of other conversations; llama.cpp's default is 8192."""


def main() -> None:
    """Serve until the parent ends."""
    arguments = _parse_arguments()
    # llama.cpp prints to standard output, which is kept for our one line
    output = os.dup(1)
    os.dup2(2, 1)
    exit_with_parent()
    # Spinning threads starve a busy machine of few cores. The library reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        server = _start_server(arguments)
    except ImportError as error:
        _print_json(output, {"failed": "runtime", "why": str(error)})
        raise SystemExit(2) from None
    except Exception as error:  # any error of llama.cpp about the file
        _print_json(output, {"failed": "model", "why": str(error)})
        raise SystemExit(3) from None
    _print_json(output, {"port": int(server.listening_address.rpartition(":")[2])})
    threading.Event().wait()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="agentcall_server.llama_server", description=__doc__)
    parser.add_argument("--model", required=True, help="path of a GGUF file")
    parser.add_argument("--alias", default="", help="served name of the model")
    parser.add_argument("--context", type=int, default=8192, help="context window in tokens")
    parser.add_argument("--threads", type=int, help="default: one per usable core")
    parser.add_argument("--slots", type=int, default=1, help="number of parallel requests")
    parser.add_argument("--port", type=int, default=0)
    return parser.parse_args()


def _start_server(arguments: argparse.Namespace) -> Any:  # Any: xllamacpp has no types
    """Load the model and listen; the server stops when the result is garbage-collected."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.model_alias = {arguments.alias or Path(arguments.model).stem}
    params.hostnames, params.port = ["127.0.0.1"], arguments.port
    params.n_ctx, params.n_parallel = arguments.context, arguments.slots
    params.kv_unified = arguments.slots > 1  # the slots share one window
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.use_jinja, params.ui = True, False
    params.cors_origins = "http://127.0.0.1"  # a web page in a browser must not use the model
    threads = arguments.threads or count_usable_cores()
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)


def count_usable_cores() -> int:
    """Return the physical cores that this process may use, by affinity and container quota."""
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


def _print_json(descriptor: int, message: dict[str, object]) -> None:
    os.write(descriptor, (json.dumps(message) + "\n").encode())


if __name__ == "__main__":
    main()
