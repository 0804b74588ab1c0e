"""A server that several programs share: each holds a lease, and it ends some time after the last.

A lease is a connection to a second port of the server's process, on loopback. The system closes it
when its program ends, also when that is killed. Each message is one line of JSON. Program and
server prove to each other that they know the key of the state file, which only this user can read,
before anything else is said; the key itself is not sent.

    program: {"nonce": "...", "proof": "...", "keep_alive": 300.0}
    server:  {"proof": "..."}
    server:  {"port": 34667}, when it is ready, or {"failed": "model", "why": "..."}
    program: {"prompt": [...]}, the messages that its conversations begin with
    server:  {"read": 128, "of": 450}, several times, and {"prompt": "ready"}
    program: {"retire": true}, if it starts another server in place of this one
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from agentcall_server.model_cache import load_texts

HANDSHAKE_SECONDS = 60.0
"""Seconds that the other side has to prove that it knows the key. While llama.cpp loads a model, no
Python code runs in its process."""
START_SECONDS = 30.0
"""Seconds that the program that started the server has to take its lease."""
_POLL_SECONDS = 0.25
_MAX_LINE = 1 << 22
_NO_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
_MAY_BLOCK = _NO_WAIT == 0  # Windows has no such flag


@dataclass(frozen=True, slots=True)
class ServerState:
    """A shared server as its state file describes it.

    flags: what a program must want to use it: the model file, versions and options.
    log: the path of its log file.
    """

    pid: int
    lease_port: int
    key: str = field(repr=False)
    flags: str
    log: str = ""

    def save(self, file: Path) -> None:
        """Write the state file, readable by this user only, in one step."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_suffix(f".{self.pid}.partial")
        with suppress(FileNotFoundError):
            draft.unlink()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream)
        draft.replace(file)


def load_state(file: Path) -> ServerState | None:
    """Return the state in a file; None if there is none."""
    texts = load_texts(file)
    try:
        pid, port = int(texts["pid"]), int(texts["lease_port"])
        return ServerState(pid, port, texts["key"], texts["flags"], texts["log"])
    except (KeyError, ValueError):
        return None


class LeaseLost(OSError):
    """The server does not answer, or is not the one of the state file."""


class Lease:
    """A program's share of a server; the server may end when all are closed. Raises LeaseLost."""

    def __init__(self, state: ServerState, keep_alive: float) -> None:
        self._lock = threading.Lock()
        nonce = secrets.token_hex(16)
        try:
            self._socket = socket.create_connection(
                ("127.0.0.1", state.lease_port), HANDSHAKE_SECONDS
            )
        except OSError as error:
            raise LeaseLost(f"no server listens on port {state.lease_port}") from error
        self._lines = _Lines(self._socket)
        try:
            proof = _make_proof(state.key, "program", nonce)
            self._send({"nonce": nonce, "proof": proof, "keep_alive": keep_alive})
            answer = self._lines.read()
            if not _is_proof(answer.get("proof"), state.key, "server", nonce):
                raise LeaseLost(f"another program listens on port {state.lease_port}")
            self._socket.settimeout(None)
        except BaseException:
            self.close()
            raise

    def wait_until_ready(self) -> Mapping[str, object]:
        """Return `port` when the model is loaded, or `failed` and `why`; empty if it has ended."""
        try:
            return self._lines.read()
        except LeaseLost:
            return {}

    def read_prompt(self, messages: object) -> Iterator[tuple[int, int]]:
        """Have the server read the beginning of a conversation; yield the tokens read, and all.

        One program's prompts are read one after the other.
        """
        with self._lock:
            self._send({"prompt": messages})
            while (answer := self._lines.read()).get("prompt") != "ready":
                yield cast("int", answer["read"]), cast("int", answer["of"])

    def retire(self) -> None:
        """Ask the server to end as soon as no program holds a lease."""
        with suppress(OSError):
            self._send({"retire": True})

    def close(self) -> None:
        """Give the lease back."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @property
    def is_held(self) -> bool:
        """Whether the server still holds its end of the connection."""
        try:
            if _MAY_BLOCK and not select.select([self._socket], [], [], 0)[0]:
                return True
            return self._socket.recv(1, socket.MSG_PEEK | _NO_WAIT) != b""
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False

    def _send(self, message: Mapping[str, object]) -> None:
        try:
            self._socket.sendall(_encode(message))
        except OSError as error:
            raise LeaseLost(f"the server closed the connection: {error}") from error


class LeaseServer:
    """The server's side: counts the leases, and ends the process when it has been idle.

    read_prompt: reads the beginning of a conversation; it is given the messages and a function
        that takes the tokens read and all.
    on_idle: called when no lease was held for the seconds that the last holder asked for.
    """

    def __init__(
        self,
        keep_alive: float,
        read_prompt: Callable[[object, Callable[[int, int], None]], None],
        on_idle: Callable[[], None],
    ) -> None:
        self.key = secrets.token_urlsafe(32)
        self._keep_alive = max(keep_alive, START_SECONDS)  # until the first lease has ended
        self._read_prompt = read_prompt
        self._on_idle = on_idle
        self._lock = threading.Lock()
        self._count = 0
        self._is_retired = False
        self._idle_since = time.monotonic()
        self._outcome: Mapping[str, object] = {}
        self._is_decided = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        for target in (self._accept, self._watch_idleness):
            threading.Thread(target=target, daemon=True).start()

    def announce(self, outcome: Mapping[str, object]) -> None:
        """Report to all holders that the model is loaded (`port`), or why not (`failed`)."""
        self._outcome = outcome
        self._is_decided.set()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed, as the process ends
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError, TypeError):
            connection.settimeout(HANDSHAKE_SECONDS)
            lines = _Lines(connection)
            hello = lines.read()
            nonce = str(hello.get("nonce"))
            if not _is_proof(hello.get("proof"), self.key, "program", nonce):
                return
            keep_alive = float(cast("float", hello["keep_alive"]))
            with self._lock:
                self._count += 1
            try:
                connection.settimeout(None)
                proof = _make_proof(self.key, "server", nonce)
                connection.sendall(_encode({"proof": proof}))
                self._is_decided.wait()
                connection.sendall(_encode(self._outcome))
                self._serve_requests(connection, lines)
            finally:
                with self._lock:
                    self._count -= 1
                    self._idle_since = time.monotonic()
                    if not self._is_retired:
                        self._keep_alive = keep_alive

    def _serve_requests(self, connection: socket.socket, lines: _Lines) -> None:
        while True:
            message = lines.read()
            if "retire" in message:
                with self._lock:
                    self._is_retired, self._keep_alive = True, 0.0
            if "prompt" in message:
                self._read_prompt(
                    message["prompt"],
                    lambda done, total: connection.sendall(_encode({"read": done, "of": total})),
                )
                connection.sendall(_encode({"prompt": "ready"}))

    def _watch_idleness(self) -> None:
        while True:
            time.sleep(_POLL_SECONDS)
            with self._lock:
                idle = time.monotonic() - self._idle_since
                if self._count == 0 and idle >= self._keep_alive:
                    # a program that comes now starts another server
                    with suppress(OSError):  # macOS: it is not connected
                        self._listener.shutdown(socket.SHUT_RDWR)
                    self._listener.close()
                    break
        self._on_idle()


class _Lines:
    """Reads a connection's lines of JSON. Raises LeaseLost at its end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def read(self) -> Mapping[str, object]:
        while b"\n" not in self._buffer:
            try:
                data = self._connection.recv(1 << 16)
            except OSError as error:
                raise LeaseLost(str(error)) from error
            self._buffer += data
            if not data or len(self._buffer) > _MAX_LINE:
                raise LeaseLost("the other side closed the connection")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            value: object = json.loads(line)
        except ValueError as error:
            raise LeaseLost("the other side does not speak this protocol") from error
        return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _encode(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _make_proof(key: str, side: str, nonce: str) -> str:
    return hmac.new(key.encode(), f"{side}:{nonce}".encode(), hashlib.sha256).hexdigest()


def _is_proof(proof: object, key: str, side: str, nonce: str) -> bool:
    return isinstance(proof, str) and hmac.compare_digest(proof, _make_proof(key, side, nonce))
