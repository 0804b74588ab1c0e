"""A real PostgreSQL server in a folder of its own, for tests: `with server() as url`."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg


class Server:
    """A server that may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._count = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._run("initdb", "-D", self._data, "-U", "agentcall", "-A", "trust", "--no-sync")

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self._port} -k {self._folder} -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", "-o", options,
                  "start")  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def schema(self) -> str:
        """The URL of a database with nothing in it: a schema of its own."""
        self._count += 1
        name = f"test{self._count}"
        url = f"postgresql://agentcall:canary-password@127.0.0.1:{self._port}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{url}?options=-csearch_path%3D{name}"

    def _run(self, program: str, *words: object) -> None:
        command = [*_as_somebody(), _binary(program), *map(str, words)]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@contextmanager
def server() -> Generator[Server, None, None]:
    with tempfile.TemporaryDirectory(prefix="agentcall-pg-", ignore_cleanup_errors=True) as name:
        if user := _user():
            os.chown(name, user.pw_uid, user.pw_gid)
        found = Server(Path(name))
        found.start()
        try:
            yield found
        finally:
            found.stop()


def _binary(program: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    found = shutil.which(program) or (str(places[-1]) if places else None)
    assert found, f"{program} is not here; install Debian's package postgresql"
    return found


def _user() -> pwd.struct_passwd | None:
    """Who runs the server, where we are root: PostgreSQL refuses to run as root."""
    return None if os.geteuid() else pwd.getpwnam("postgres")


def _as_somebody() -> Sequence[str]:
    user = _user()
    return ["runuser", "-u", user.pw_name, "--"] if user else []
