"""`agentcall server proxy` and `agentcall server nodes`: several servers behind one address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.options import make_command

PROXY_HELP = """Run LMDeploy's own request distributor, and watch its nodes, until Ctrl-C.

A node that does not answer is taken out within seconds and comes back when it does. The key of
clients is AGENTCALL_API_KEY, if set; the proxy hands it on, so the nodes need the same one or none.

\b
  agentcall server proxy --node http://gpu1:23333 --node http://gpu2:23333
  agentcall run "What is 17% of 2,340?" -t calculator -m http://127.0.0.1:8000/v1

Needs LMDeploy 0.6.1 or later.
"""
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, add and remove the nodes of a running proxy.",
)

ProxyArgument = Annotated[str, typer.Option(metavar="URL", help="The proxy.")]
NodeJSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DEFAULT_PROXY = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class ServerProxyOptions:
    """What `agentcall server proxy` is told."""

    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--node", metavar="URL", help="A server, http://host:port. Repeatable; may come later."
        ),
    ] = None
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines in.")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")
    ] = 8000
    routing: Annotated[
        str | None,
        typer.Option(
            help="How a node is chosen: min_expected_latency (LMDeploy's default), "
            "min_observed_latency or random."
        ),
    ] = None
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Let other machines in without a key.")
    ] = False
    lmdeploy: Annotated[str | None, typer.Option(help="The `lmdeploy` program to use.")] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show LMDeploy's command, no more.")
    ] = False


@dataclass(frozen=True, slots=True)
class NodeListOptions:
    """What `agentcall server nodes list` is told."""

    proxy: ProxyArgument = _DEFAULT_PROXY
    json: NodeJSONOption = False


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What `agentcall server nodes add` and `remove` are told."""

    url: Annotated[str, typer.Argument(metavar="NODE", help="The server, http://host:port.")]
    proxy: ProxyArgument = _DEFAULT_PROXY


def start_proxy(options: ServerProxyOptions) -> None:
    """Runs the proxy to its end."""
    from agentcall.cli.fleet import run_proxy

    run_proxy(options)


def _list_nodes_command(options: NodeListOptions) -> None:
    from agentcall.cli.fleet import print_nodes

    print_nodes(options)


def _add_node_command(options: NodeOptions) -> None:
    from agentcall.cli.fleet import add_node

    add_node(options)


def _remove_node_command(options: NodeOptions) -> None:
    from agentcall.cli.fleet import remove_node

    remove_node(options)


app.command("list", help="Show the nodes: models, requests under way, seconds a request.")(
    make_command(NodeListOptions, _list_nodes_command)
)
app.command("add", help="Add a server that answers.")(make_command(NodeOptions, _add_node_command))
app.command("remove", help="Take a server out; it goes on running.")(
    make_command(NodeOptions, _remove_node_command)
)
