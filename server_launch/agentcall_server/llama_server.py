"""The program that serves one GGUF file: llama.cpp's OpenAI-compatible HTTP server on loopback.

It prints one JSON line on standard output when it is ready (`{"port": 34667}`) or has failed
(`{"failed": "runtime" | "model", "why": ...}`), logs to standard error, and ends with its parent.
With `--state FILE` it writes that file at once, prints `{"shared": true}`, reports the port or the
failure to those that hold a lease, and ends some time after the last of them (see `leases`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentcall_server.leases import LeaseServer, ServerState, load_state
from agentcall_server.processes import exit_with_parent
from agentcall_server.prompt_states import PromptStates

PROMPT_CACHE_MIB = 512
"""Memory for the prefixes of other conversations; llama.cpp's default is 8192."""
FAILURE_SECONDS = 5.0
"""Seconds in which a program may learn from a server with leases why it has failed."""


def main() -> None:
    """Serve until the parent ends, or until no program holds a lease."""
    arguments = _parse_arguments()
    # llama.cpp prints to standard output, which is kept for our one line
    output = os.dup(1)
    os.dup2(2, 1)
    # Spinning threads starve a busy machine of few cores. The library reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if arguments.state is not None:
        _serve_leases(arguments, output)
        return
    exit_with_parent()
    outcome, server = _load(arguments)
    _print_json(output, outcome)
    if server is None:
        raise SystemExit(2 if outcome["failed"] == "runtime" else 3)
    threading.Event().wait()


def _serve_leases(arguments: argparse.Namespace, output: int) -> None:
    """Load the model and serve the programs that hold a lease."""
    state_file: Path = arguments.state
    states: PromptStates | None = None

    def read_prompt(messages: object, report: Callable[[int, int], None]) -> None:
        if states is not None:
            states.read(messages, report)

    def end() -> None:
        state = load_state(state_file)
        if state is not None and state.key == leases.key:
            state_file.unlink(missing_ok=True)
        os._exit(0)

    leases = LeaseServer(arguments.keep_alive, read_prompt, end)
    state = ServerState(os.getpid(), leases.port, leases.key, arguments.flags, arguments.log)
    state.save(state_file)
    _print_json(output, {"shared": True})
    os.close(output)
    arguments.states.mkdir(mode=0o700, parents=True, exist_ok=True)
    outcome, server = _load(arguments, leases.key)
    if server is not None:
        root = f"http://127.0.0.1:{outcome['port']}"
        states = PromptStates(root, leases.key, arguments.states, arguments.flags)
    leases.announce(outcome)
    threading.Event().wait(None if server is not None else FAILURE_SECONDS)
    end()


def _load(
    arguments: argparse.Namespace, key: str = ""
) -> tuple[dict[str, object], Any]:  # Any: xllamacpp has no types
    """Return the port and the server, or the failure and None."""
    try:
        server = _start_server(arguments, key)
    except ImportError as error:
        return {"failed": "runtime", "why": str(error)}, None
    except Exception as error:  # any error of llama.cpp about the file
        return {"failed": "model", "why": str(error)}, None
    return {"port": int(server.listening_address.rpartition(":")[2])}, server


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="agentcall_server.llama_server", description=__doc__)
    parser.add_argument("--model", required=True, help="path of a GGUF file")
    parser.add_argument("--alias", default="", help="served name of the model")
    parser.add_argument("--context", type=int, default=8192, help="context window in tokens")
    parser.add_argument("--threads", type=int, help="default: one per usable core")
    parser.add_argument("--slots", type=int, default=1, help="number of parallel requests")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state", type=Path, help="state file of a server with leases")
    parser.add_argument("--states", type=Path, help="folder of saved prompts, with --state")
    parser.add_argument("--keep-alive", type=float, default=0.0, help="seconds, with --state")
    parser.add_argument("--log", default="", help="path of standard error, with --state")
    parser.add_argument("--flags", default="", help="what the state file says, with --state")
    return parser.parse_args()


def _start_server(arguments: argparse.Namespace, key: str) -> Any:  # Any: xllamacpp has no types
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
    if key:
        params.api_keys = [key]
    if arguments.states is not None:
        params.slot_save_path = f"{arguments.states}{os.sep}"
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
