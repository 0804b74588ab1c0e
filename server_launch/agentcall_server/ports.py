"""Ports of this machine: which are free, and which process listens on one."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

_LISTEN_STATE = "0A"
_WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared only)


def is_loopback(host: str) -> bool:
    """Return whether a server that listens on the host is reachable from this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")


def format_local_host(host: str) -> str:
    """Return the host for a URL that is used on this machine."""
    host = _WILDCARD_HOSTS.get(host, host)
    return f"[{host}]" if ":" in host else host


def can_listen(host: str, port: int) -> bool:
    """Return whether the port is free. Raises OSError if this machine does not have the host."""
    with _open_socket(host) as server:
        try:
            server.bind((host, port))
            server.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def reserve_port(host: str, port: int = 0) -> socket.socket:
    """Return a socket that keeps a port (0: any free one) from being assigned to other programs.

    It does not listen, so a server that sets SO_REUSEADDR may listen there. Raises OSError.
    """
    server = _open_socket(host)
    if hasattr(socket, "SO_REUSEPORT"):  # llama.cpp's server sets this one instead
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        server.bind((host, port))
    except OSError:
        server.close()
        raise
    return server


def find_listener(port: int) -> str:
    """Return the process that listens on the port as `name (pid N)`; '' if it is not visible."""
    sockets = _find_listening_sockets(port)
    for folder in Path("/proc").glob("[0-9]*/fd") if sockets else ():
        try:
            if any(str(file.readlink()) in sockets for file in folder.iterdir()):
                name = (folder.parent / "comm").read_text(encoding="utf-8", errors="replace")
                return f"{name.strip()} (pid {folder.parent.name})"
        except OSError:  # another user's process, or one that has ended
            continue
    return ""


def _open_socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    # as servers do: a closing connection does not block the port
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return server


def _find_listening_sockets(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on the port (proc(5): net/tcp)."""
    sockets: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN_STATE and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    return sockets
