"""The command line of LMDeploy's proxy, and the requests to nodes.

LMDeploy's own proxy is tested in tests/lmdeploy/test_fleet_on_lmdeploy.py.
"""

from __future__ import annotations

import shutil
import socket
import stat
from pathlib import Path

import pytest
from command_line import agentcall
from rows import each_row

from agentcall.testing import FakeServer, hang, status
from agentcall_server.cli_flags import CommandFlags, parse_help
from agentcall_server.errors import BadValue, NodeError, ProxyError
from agentcall_server.http_client import parse_server_url, send_request
from agentcall_server.proxy import ProxySettings, build_proxy_command
from agentcall_server.proxy_nodes import ProxyNodes, check_health, list_served_models

# The usage lines of `lmdeploy serve proxy --help`.
NEW = parse_help(
    "serve proxy",
    """usage: lmdeploy serve proxy [-h] [--server-name SERVER_NAME] [--server-port SERVER_PORT]
                            [--serving-strategy {Hybrid,DistServe}] [--dummy-prefill]
                            [--routing-strategy {random,min_expected_latency,min_observed_latency}]
                            [--disable-cache-status] [--migration-protocol {RDMA,NVLINK}]
                            [--link-type {RoCE,IB}] [--disable-gdr] [--api-keys [API_KEYS ...]]
                            [--ssl] [--log-level {CRITICAL,INFO}]

Proxy server""",
)
OLD = parse_help(
    "serve proxy",
    """usage: lmdeploy serve proxy [-h] [--server-name SERVER_NAME] [--server-port SERVER_PORT]
                            [--strategy {random,min_expected_latency,min_observed_latency}]
                            [--api-keys [API_KEYS ...]] [--ssl]

Proxy server""",
)


@pytest.mark.parametrize(("manual", "flag"), [(NEW, "--routing-strategy"), (OLD, "--strategy")])
def test_the_flags_are_those_of_the_installed_release(manual: CommandFlags, flag: str) -> None:
    words = build_proxy_command(ProxySettings(routing="random", api_key="k"), manual)
    assert words[:6] == ["serve", "proxy", "--server-name", "127.0.0.1", "--server-port", "8000"]
    assert words[6:8] == [flag, "random"]
    assert ("--disable-cache-status" in words) is (manual is NEW)
    assert words[-2:] == ["--api-keys", "k"]


def test_a_routing_that_there_is_not_is_refused() -> None:
    with pytest.raises(BadValue, match="has random, min_expected_latency, min_observed_latency"):
        build_proxy_command(ProxySettings(routing="fastest"), NEW)


@each_row(
    ("host", "url", "is_open"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000", False),
        ("0.0.0.0", "http://127.0.0.1:8000", True),
        ("::1", "http://[::1]:8000", False),
        ("::", "http://[::1]:8000", True),
        ("gpu1", "http://gpu1:8000", True),
    ],
)
def test_where_it_is_reached(host: str, url: str, is_open: bool) -> None:
    wish = ProxySettings(host)
    assert (wish.url, wish.is_public) == (url, is_open)


@each_row(
    "url",
    [
        "http://gpu1:23333",
        "http://gpu1:23333/",
        "http://gpu1:23333/v1",
        "gpu1:23333",
        "u@gpu1:23333",
    ],
)
def test_a_node_is_known_however_it_is_written(url: str) -> None:
    assert parse_server_url(url) == "http://gpu1:23333"


@each_row("url", ["", "ftp://gpu1", "http://", "http://gpu1:port", "http://gpu1:0"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadValue, match="is not the address of a server"):
        parse_server_url(url)


def test_health_is_well_ill_or_silent() -> None:
    pages = {"/health": status(503)}
    with FakeServer([], pages=pages) as ill, FakeServer([]) as without:
        assert check_health(parse_server_url(ill.url)) == "unhealthy"
        assert check_health(parse_server_url(without.url)) == "healthy"  # any answer will do
    assert check_health(parse_server_url(without.url)) == "unhealthy"
    with FakeServer([], pages={"/health": hang()}) as silent:
        assert check_health(parse_server_url(silent.url), timeout=0.3) == "silent"


def test_what_is_no_http_is_an_error_of_the_system() -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        with pytest.raises(OSError, match="timed out"):
            send_request(f"http://127.0.0.1:{door.getsockname()[1]}/", timeout=0.2)


def test_the_models_of_a_node_are_asked_with_the_key() -> None:
    with FakeServer([], models=["a", "b"]) as node:
        assert list_served_models(parse_server_url(node.url), "sk") == ("a", "b")
        assert node.all_requests[-1].headers["authorization"] == "Bearer sk"
    broken = FakeServer([], pages={"/v1/models": status(500)})
    with broken, pytest.raises(NodeError, match="/v1/models answered 500"):
        list_served_models(parse_server_url(broken.url), "")
    with FakeServer([], models=[]) as node, pytest.raises(NodeError, match="lists no model"):
        list_served_models(parse_server_url(node.url), "")


def test_a_server_that_is_no_proxy_is_told() -> None:
    with FakeServer([]) as server, pytest.raises(ProxyError, match="is not a proxy of LMDeploy"):
        ProxyNodes(server.url).list_states()


# --- the command ---


def lmdeploy(folder: Path) -> str:
    """A program that says what the real one says to --help."""
    program = folder / "lmdeploy"
    usage = "usage: lmdeploy serve proxy [-h] [--server-name S] [--server-port P] [--api-keys K]"
    program.write_text(f"#!/bin/sh\necho '{usage}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_a_dry_run_shows_the_command_and_no_key(tmp_path: Path) -> None:
    words = ["--dry-run", "--host", "0.0.0.0", "--lmdeploy", lmdeploy(tmp_path)]
    done = agentcall("server", "proxy", *words, cwd=tmp_path, env={"AGENTCALL_API_KEY": "sk-1"})
    assert done.returncode == 0, done.stderr
    assert "serve proxy --server-name 0.0.0.0 --server-port 8000" in done.stdout
    assert "sk-1" not in done.stdout


@pytest.mark.skipif(bool(shutil.which("lmdeploy")), reason="LMDeploy is installed here")
def test_a_wrong_command_ends_with_2(tmp_path: Path) -> None:
    open_to_all = agentcall("server", "proxy", "--host", "0.0.0.0", cwd=tmp_path)
    assert open_to_all.returncode == 2
    assert "set AGENTCALL_API_KEY to the key that they need, or add --no-key" in open_to_all.stderr
    without = agentcall("server", "proxy", cwd=tmp_path)
    assert without.returncode == 2
    assert "LMDeploy is not installed" in without.stderr


def test_no_proxy_ends_with_3(tmp_path: Path) -> None:
    done = agentcall("server", "nodes", "list", "--proxy", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 3
    assert "no proxy answers at http://127.0.0.1:9" in done.stderr
