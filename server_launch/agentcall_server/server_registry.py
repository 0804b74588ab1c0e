"""The servers that were launched on this machine by this user: a folder each.

    NAME/launch.json    what was asked for
    NAME/wanted.json    what its supervisor carries out
    NAME/status.json    what became of it; written by the supervisor alone
    NAME/key            its API key, for this user's eyes
    NAME/server.log     what it says; server.log.1 and so on are older

A status outlives its supervisor where that was killed or the machine restarted; whose it was is
known by `ProcessIdentity`, so nobody takes it for the truth.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from agentcall_server.diagnosis import Diagnosis
from agentcall_server.errors import ServerNotRunning
from agentcall_server.health import ServerEndpoint
from agentcall_server.launch import Launch, ServerKind
from agentcall_server.ports import format_local_host
from agentcall_server.process_identity import ProcessIdentity

if TYPE_CHECKING:
    from pydantic import TypeAdapter

ServerPhase = Literal["starting", "ready", "restarting", "stopping", "stopped", "failed"]
T = TypeVar("T")
_adapters: dict[type[object], object] = {}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a supervisor runs: the command and its folder, where it answers, and how patient it is.

    `leashed` servers end with the program that launched them.
    """

    kind: ServerKind
    model: str
    command: tuple[str, ...]
    folder: str
    host: str
    port: int
    scheme: str
    has_key: bool
    leashed: bool
    patience: float

    @property
    def root(self) -> str:
        """Its address, without `/v1`."""
        return f"{self.scheme}://{format_local_host(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Status:
    """How a server is. Times in seconds since 1970.

    model: what it calls its model, once it was ready. progress: what it said last, while it loads.
    restarts: how often it was started anew. diagnosis: why it last ended by itself.
    """

    phase: ServerPhase
    supervisor: ProcessIdentity
    since: float
    server: ProcessIdentity | None = None
    model: str = ""
    restarts: int = 0
    progress: str = ""
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One server's folder, whether it runs or not."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def key_file(self) -> Path:
        return self.folder / "key"

    @property
    def launch(self) -> Launch | None:
        return _read_fact(self.folder / "launch.json", Launch)

    @property
    def wanted(self) -> Wanted | None:
        return _read_fact(self.folder / "wanted.json", Wanted)

    @property
    def status(self) -> Status | None:
        """What its supervisor said last, whether that one lives or not."""
        return _read_fact(self.folder / "status.json", Status)

    @property
    def is_up(self) -> bool:
        """Whether a supervisor looks after it."""
        status = self.status
        return status is not None and status.supervisor.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether it could be asked when its supervisor last looked."""
        status = self.status
        return status is not None and status.phase == "ready" and status.supervisor.is_alive

    @property
    def orphan(self) -> ProcessIdentity | None:
        """Its process, where that outlived its supervisor."""
        status = self.status
        if status is None or status.server is None or status.supervisor.is_alive:
            return None
        return status.server if status.server.is_alive else None

    @property
    def endpoint(self) -> ServerEndpoint:
        """Where it answers. Raises NotUp if it was never launched."""
        wanted = self.wanted
        if wanted is None:
            raise ServerNotRunning(f"there is no server {self.name!r} here")
        return ServerEndpoint(wanted.root, self.read_key() if wanted.has_key else "")

    def read_key(self) -> str:
        """Its API key; '' if it has none."""
        try:
            return self.key_file.read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def ensure_key(self) -> None:
        """Have a key: the one that is there, or else a new one, readable by this user alone."""
        if not self.read_key():
            handle = os.open(self.key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        self.key_file.chmod(0o600)

    def save(self, fact: Launch | Wanted | Status) -> None:
        """Write a fact down, whole or not at all."""
        file = self.folder / f"{type(fact).__name__.lower()}.json"
        draft = file.with_suffix(".draft")
        draft.write_bytes(_get_adapter(type(fact)).dump_json(fact, indent=2) + b"\n")
        draft.replace(file)


def get_state_folder() -> Path:
    """AGENTCALL_STATE, else $XDG_STATE_HOME/agentcall, else ~/.local/state/agentcall."""
    if own := os.environ.get("AGENTCALL_STATE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_STATE_HOME")
    base = Path(shared).expanduser().absolute() if shared else Path.home() / ".local" / "state"
    return base / "agentcall"


def open_entry(name: str) -> ServerEntry:
    """The folder of a server, made if it is not there, for this user alone."""
    folder = get_state_folder() / "servers" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return ServerEntry(folder)


def list_entries() -> list[ServerEntry]:
    """All servers that are known here, by name."""
    folders = (get_state_folder() / "servers").glob("*/wanted.json")
    return [ServerEntry(file.parent) for file in sorted(folders)]


def find_entry(name: str) -> ServerEntry | None:
    """The server of that name, or one that is ready and serves a model of that name.

    One that is up comes before one that is not.
    """
    known = list_entries()
    named = [one for one in known if one.name == name]
    up = [one for one in named if one.is_up]
    serving = [one for one in known if one.is_ready and name.lower() in _list_model_names(one)]
    return next(iter([*up, *serving, *named]), None)


def find_last_launch(name: str) -> Launch | None:
    """What was asked for when the server of that name was last launched."""
    return next((one.launch for one in list_entries() if one.name == name), None)


def find_by_port(port: int) -> ServerEntry | None:
    """The server that is up on this machine's port."""
    for one in list_entries():
        wanted = one.wanted
        if wanted is not None and wanted.port == port and one.is_up:
            return one
    return None


def _list_model_names(one: ServerEntry) -> set[str]:
    """What the model of a server may be called: whole, or without its owner or folder."""
    status, wanted = one.status, one.wanted
    full = [status.model if status else "", wanted.model if wanted else ""]
    names = {name.lower().rstrip("/") for name in full}
    return (names | {name.rpartition("/")[2] for name in names}) - {""}


def _read_fact(file: Path, kind: type[T]) -> T | None:
    try:
        return _get_adapter(kind).validate_json(file.read_bytes())
    except (OSError, ValueError):  # not there, or of another version of this package
        return None


def _get_adapter(kind: type[T]) -> TypeAdapter[T]:
    # late, as a model server that only imports this package needs no pydantic
    from pydantic import TypeAdapter

    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return cast("TypeAdapter[T]", _adapters[kind])
