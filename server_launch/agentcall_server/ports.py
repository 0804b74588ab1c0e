"""Ports of this machine: which are free, which are taken, and by whom."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

_LISTEN_STATE = "0A"
_WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared only)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to the host."""
    return host in ("localhost", "::1") or host.startswith("127.")


def format_local_host(host: str) -> str:
    """The host as a URL has it, seen from this machine."""
    host = _WILDCARD_HOSTS.get(host, host)
    return f"[{host}]" if ":" in host else host


def can_listen(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError if there is no such host here."""
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
    """A port (0: any free one) that nobody else is given by chance while the socket is open.

    It does not listen, so a server that asks to reuse the address may listen there. Raises OSError.
    """
    server = _open_socket(host)
    if hasattr(socket, "SO_REUSEPORT"):  # llama.cpp's server asks for this one
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        server.bind((host, port))
    except OSError:
        server.close()
        raise
    return server


def find_listener(port: int) -> str:
    """The process that listens on the port: `name (pid N)`; '' if that cannot be seen."""
    sockets = _find_listening_sockets(port)
    if not sockets:
        return ""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        if _has_socket(folder, sockets):
            name = (folder.parent / "comm").read_text(encoding="utf-8", errors="replace")
            return f"{name.strip()} (pid {folder.parent.name})"
    return ""


def _open_socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    # as servers do: connections that are closing do not keep the port
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return server


def _find_listening_sockets(port: int) -> set[str]:
    """The inodes of the sockets that listen on it (proc(5): net/tcp)."""
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN_STATE and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def _has_socket(folder: Path, sockets: set[str]) -> bool:
    try:
        return any(str(file.readlink()) in sockets for file in folder.iterdir())
    except OSError:  # another user's, or gone
        return False
