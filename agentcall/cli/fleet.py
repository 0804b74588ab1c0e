"""Several servers behind LMDeploy's proxy, from the command line."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.faults import print_warning
from agentcall.cli.nodes import NodeListOptions, NodeOptions, ServerProxyOptions
from agentcall.display import to_single_line
from agentcall.errors import UsageError
from agentcall_server.cli_flags import find_lmdeploy, read_command_flags
from agentcall_server.errors import LMDeployUnavailable, PlanError
from agentcall_server.proxy import (
    PROXY_COMMAND,
    LMDeployProxy,
    ProxySettings,
    build_proxy_command,
    find_free_port,
)
from agentcall_server.proxy_nodes import NodeState, ProxyNodes

_MASK = "***"


def run_proxy(options: ServerProxyOptions) -> None:
    """Runs the proxy until it ends or is interrupted. Raises UsageError, ServerError."""
    with _convert_errors():
        wish = _read_proxy_options(options)
        lmdeploy = find_lmdeploy(options.lmdeploy)
        if options.dry_run:
            words = build_proxy_command(wish, read_command_flags(lmdeploy, PROXY_COMMAND))
            shown = [_MASK if wish.api_key and word == wish.api_key else word for word in words]
            sys.stdout.write(shlex.join([str(lmdeploy), *shown]) + "\n")
            return
        if wish.is_public:
            print_warning(
                f"whoever reaches port {wish.port} can add and remove nodes, with or without a "
                f"key: LMDeploy guards /nodes with none; let a firewall do it"
            )
        with (
            _exit_on_sigterm(),
            LMDeployProxy(wish, lmdeploy, options.nodes or (), say=_print_line) as it,
        ):
            _print_line(f"the proxy answers at {wish.url}/v1")
            it.watch()


def print_nodes(options: NodeListOptions) -> None:
    """Prints the nodes of a proxy."""
    with _convert_errors():
        nodes = _connect_nodes(options.proxy)
        states = nodes.list_states()
    if options.json:
        document = orjson.dumps([asdict(state) for state in states], option=orjson.OPT_INDENT_2)
        sys.stdout.buffer.write(document + b"\n")
    elif states:
        Console(highlight=False).print(_build_table(states))
    else:
        sys.stdout.write(f"{nodes.proxy} has no nodes; agentcall server nodes add URL adds one\n")
    if lone := _find_lone_models(states):
        print_warning(
            f"served by one node alone: {lone}; start all nodes with the same --model-name"
        )


def add_node(options: NodeOptions) -> None:
    """Adds a node to a proxy."""
    with _convert_errors():
        nodes = _connect_nodes(options.proxy)
        state = nodes.add(options.url)
        sys.stdout.write(f"added {state.url}: {', '.join(state.models)}\n")
        if lone := _find_lone_models(nodes.list_states()):
            print_warning(
                f"served by one node alone: {lone}; start all nodes with the same --model-name"
            )


def remove_node(options: NodeOptions) -> None:
    """Takes a node out of a proxy."""
    with _convert_errors():
        _connect_nodes(options.proxy).remove(options.url)
    sys.stdout.write(f"removed {options.url}\n")


def _read_proxy_options(options: ServerProxyOptions) -> ProxySettings:
    wish = ProxySettings(
        options.host,
        options.port or find_free_port(options.host),
        options.routing,
        os.environ.get("AGENTCALL_API_KEY", ""),
    )
    if wish.is_public and not wish.api_key and not options.no_key:
        raise UsageError(
            f"--host {options.host} lets other machines in: set AGENTCALL_API_KEY to the key that "
            f"they need, or say --no-key"
        )
    return wish


def _connect_nodes(proxy: str) -> ProxyNodes:
    return ProxyNodes(proxy, os.environ.get("AGENTCALL_API_KEY", ""))


def _build_table(states: Sequence[NodeState]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    table.add_column("node", overflow="fold")
    table.add_column("models", overflow="fold")
    table.add_column("under way", justify="right")
    table.add_column("a request", justify="right")
    for state in states:
        seconds = "" if state.latency is None else f"{state.latency:.2f} s"
        models = to_single_line(", ".join(state.models))
        table.add_row(Text(to_single_line(state.url)), Text(models), str(state.unfinished), seconds)
    return table


def _find_lone_models(states: Sequence[NodeState]) -> str:
    """The models that one of several nodes serves alone, if there is one."""
    served = [model for state in states for model in state.models]
    lone = [model for model in served if served.count(model) == 1]
    return ", ".join(lone) if len(states) > 1 else ""


@contextmanager
def _convert_errors() -> Generator[None, None, None]:
    """What is wrong with the command, as an error of usage."""
    try:
        yield
    except (PlanError, LMDeployUnavailable) as error:
        raise UsageError(str(error)) from error


@contextmanager
def _exit_on_sigterm() -> Generator[None, None, None]:
    """A service manager's SIGTERM ends us as Ctrl-C does, and the proxy with us."""

    def exit_process(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, exit_process)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_line(line: str) -> None:
    sys.stderr.write(to_single_line(line) + "\n")
    sys.stderr.flush()
