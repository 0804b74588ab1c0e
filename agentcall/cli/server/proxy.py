"""`agentcall server proxy` and `agentcall server nodes`: several servers behind one address."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from agentcall.cli.command import add_command, make_app, make_group
from agentcall.cli.errors import print_warning
from agentcall.cli.options import JSONOption, LMDeployOption
from agentcall.cli.terminal import make_table, write_json, write_note
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

PROXY_HELP = """Run LMDeploy's request distributor and watch its nodes, until Ctrl-C.

A node that does not answer is removed within seconds and added again when it answers. The key of
clients is AGENTCALL_API_KEY, if it is set; the proxy passes it on, so the nodes need the same key
or none.

\b
  agentcall server proxy --node http://gpu1:23333 --node http://gpu2:23333
  agentcall run "What is 17% of 2,340?" -t calculator -m http://127.0.0.1:8000/v1

Needs LMDeploy 0.6.1 or later.
"""
ProxyOption = Annotated[str, typer.Option(metavar="URL", help="The URL of the proxy.")]
_DEFAULT_PROXY = "http://127.0.0.1:8000"
_MASK = "***"


@dataclass(frozen=True, slots=True)
class ServerProxyOptions:
    """Options of `agentcall server proxy`."""

    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="URL",
            help="A server, http://host:port; it may start later. Repeatable.",
        ),
    ] = None
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 admits other machines.")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 chooses a free one.")] = (
        8000
    )
    routing: Annotated[
        str | None,
        typer.Option(
            help="How a node is chosen: min_expected_latency (LMDeploy's default), "
            "min_observed_latency or random."
        ),
    ] = None
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Admit other machines without a key.")
    ] = False
    lmdeploy: LMDeployOption = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show LMDeploy's command.")] = (
        False
    )


@dataclass(frozen=True, slots=True)
class NodeListOptions:
    """Options of `agentcall server nodes list`."""

    proxy: ProxyOption = _DEFAULT_PROXY
    json: JSONOption = False


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Options of `agentcall server nodes add` and `remove`."""

    url: Annotated[str, typer.Argument(metavar="NODE", help="The server, http://host:port.")]
    proxy: ProxyOption = _DEFAULT_PROXY


def run_proxy(options: ServerProxyOptions) -> None:
    """Run the proxy until it ends or is interrupted. Raises UsageError and ServerError."""
    with _convert_errors():
        settings = _make_settings(options)
        lmdeploy = find_lmdeploy(options.lmdeploy)
        if options.dry_run:
            command = build_proxy_command(settings, read_command_flags(lmdeploy, PROXY_COMMAND))
            key = settings.api_key
            masked = [_MASK if key and word == key else word for word in command]
            sys.stdout.write(shlex.join([str(lmdeploy), *masked]) + "\n")
            return
        if settings.is_public:
            print_warning(
                f"every machine that reaches port {settings.port} can add and remove nodes, even "
                "without a key: LMDeploy does not protect /nodes; restrict it with a firewall"
            )
        nodes = options.nodes or ()
        with _exit_on_sigterm(), LMDeployProxy(settings, lmdeploy, nodes, say=write_note) as proxy:
            write_note(f"the proxy answers at {settings.url}/v1")
            proxy.watch()


def list_nodes(options: NodeListOptions) -> None:
    """Print the nodes of a proxy."""
    with _convert_errors():
        nodes = _connect_nodes(options.proxy)
        states = nodes.list_states()
    if options.json:
        write_json([asdict(state) for state in states], indent=True)
    elif states:
        Console(highlight=False).print(_build_table(states))
    else:
        sys.stdout.write(f"{nodes.proxy} has no nodes; agentcall server nodes add URL adds one\n")
    _warn_about_single_models(states)


def add_node(options: NodeOptions) -> None:
    """Add a node to a proxy."""
    with _convert_errors():
        nodes = _connect_nodes(options.proxy)
        state = nodes.add(options.url)
        sys.stdout.write(f"added {state.url}: {', '.join(state.models)}\n")
        _warn_about_single_models(nodes.list_states())


def remove_node(options: NodeOptions) -> None:
    """Remove a node from a proxy."""
    with _convert_errors():
        _connect_nodes(options.proxy).remove(options.url)
    sys.stdout.write(f"removed {options.url}\n")


def _make_settings(options: ServerProxyOptions) -> ProxySettings:
    settings = ProxySettings(
        options.host,
        options.port or find_free_port(options.host),
        options.routing,
        os.environ.get("AGENTCALL_API_KEY", ""),
    )
    if settings.is_public and not settings.api_key and not options.no_key:
        raise UsageError(
            f"--host {options.host} admits other machines: set AGENTCALL_API_KEY to the key that "
            "they need, or add --no-key"
        )
    return settings


def _connect_nodes(proxy: str) -> ProxyNodes:
    return ProxyNodes(proxy, os.environ.get("AGENTCALL_API_KEY", ""))


def _build_table(states: Sequence[NodeState]) -> Table:
    table = make_table(
        Column("node", overflow="fold"),
        Column("models", overflow="fold"),
        Column("running", justify="right"),
        Column("per request", justify="right"),
    )
    for state in states:
        seconds = "" if state.latency is None else f"{state.latency:.2f} s"
        models = to_single_line(", ".join(state.models))
        table.add_row(Text(to_single_line(state.url)), Text(models), str(state.unfinished), seconds)
    return table


def _warn_about_single_models(states: Sequence[NodeState]) -> None:
    """Warn about models that only one of several nodes serves."""
    served = [model for state in states for model in state.models]
    single = ", ".join(model for model in served if served.count(model) == 1)
    if single and len(states) > 1:
        print_warning(
            f"served by one node only: {single}; start all nodes with the same --model-name"
        )


@contextmanager
def _convert_errors() -> Generator[None, None, None]:
    """Raise UsageError for errors of the command itself."""
    try:
        yield
    except (PlanError, LMDeployUnavailable) as error:
        raise UsageError(str(error)) from error


@contextmanager
def _exit_on_sigterm() -> Generator[None, None, None]:
    """Exit on a service manager's SIGTERM as on Ctrl-C, so that the proxy ends too."""

    def exit_process(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, exit_process)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


app = make_app(ServerProxyOptions, run_proxy, PROXY_HELP)
nodes_app = make_group("List, add and remove the nodes of a running proxy.")
add_command(
    nodes_app,
    "list",
    NodeListOptions,
    list_nodes,
    "Show the nodes: models, running requests, seconds per request.",
)
add_command(nodes_app, "add", NodeOptions, add_node, "Add a server that answers.")
add_command(nodes_app, "remove", NodeOptions, remove_node, "Remove a server; it continues to run.")
