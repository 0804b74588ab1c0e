"""Ports: which are free, and which process uses the others."""

from __future__ import annotations

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rows import each_row

from agentcall_server.ports import (
    can_listen,
    find_listener,
    format_local_host,
    is_loopback,
    reserve_port,
)

HERE = "127.0.0.1"


def test_a_port_that_somebody_listens_on_is_taken_and_he_is_named() -> None:
    with socket.create_server((HERE, 0)) as server:
        port = server.getsockname()[1]
        assert not can_listen(HERE, port)
        assert not can_listen("0.0.0.0", port)
        assert f"(pid {os.getpid()})" in find_listener(port)
    assert can_listen(HERE, port)
    assert find_listener(port) == ""


def test_a_held_port_is_free_for_a_server_and_for_no_other_that_asks_for_any() -> None:
    with reserve_port(HERE) as held:
        port = held.getsockname()[1]
        with socket.socket() as rude, pytest.raises(OSError, match="in use"):
            rude.bind((HERE, port))
        ThreadingHTTPServer((HERE, port), BaseHTTPRequestHandler).server_close()
        with socket.create_server((HERE, port)) as server:
            assert server.getsockname()[1] == port


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError):
        can_listen("192.0.2.1", 0)


@each_row(
    ("host", "own", "url"),
    [
        ("127.0.0.1", True, "127.0.0.1"),
        ("127.1.2.3", True, "127.1.2.3"),
        ("localhost", True, "localhost"),
        ("::1", True, "[::1]"),
        ("0.0.0.0", False, "127.0.0.1"),
        ("::", False, "[::1]"),
        ("10.0.0.7", False, "10.0.0.7"),
    ],
)
def test_hosts_are_known_from_near_and_far(host: str, own: bool, url: str) -> None:
    assert (is_loopback(host), format_local_host(host)) == (own, url)
