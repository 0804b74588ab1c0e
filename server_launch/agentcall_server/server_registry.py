"""The servers that this user launched on this machine, one folder each.

    NAME/launch.json    the options of the launch
    NAME/wanted.json    the command that its supervisor runs
    NAME/status.json    its current status; written by the supervisor only
    NAME/key            its API key, readable by this user only
    NAME/server.log     its output; server.log.1 and so on are older

A status file outlives a supervisor that was killed, and a reboot. It names its supervisor by
`ProcessIdentity`, so a reader can tell whether it is still valid.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from agentcall_server.diagnosis import Diagnosis
from agentcall_server.errors import ServerNotRunning
from agentcall_server.http_client import ServerEndpoint
from agentcall_server.launch import Launch, ServerKind
from agentcall_server.ports import format_local_host
from agentcall_server.processes import ProcessIdentity

if TYPE_CHECKING:
    from pydantic import TypeAdapter

ServerPhase = Literal["starting", "ready", "restarting", "stopping", "stopped", "failed"]
T = TypeVar("T")
_adapters: dict[type[object], object] = {}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The task of a supervisor: the command and its folder, and where the server listens.

    leashed: the server ends with the program that launched it.
    patience: seconds until it must be ready.
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
        """The URL of the server, without `/v1`."""
        return f"{self.scheme}://{format_local_host(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a server. Times in seconds since 1970.

    model: the served name of the model, once it was ready. progress: the last line of output while
    it loads. restarts: number of restarts after a crash. diagnosis: why it last ended by itself.
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
    """The folder of one server, running or not."""

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
        return _read_json(self.folder / "launch.json", Launch)

    @property
    def wanted(self) -> Wanted | None:
        return _read_json(self.folder / "wanted.json", Wanted)

    @property
    def status(self) -> Status | None:
        """The last status that its supervisor saved, whether that still runs or not."""
        return _read_json(self.folder / "status.json", Status)

    @property
    def is_up(self) -> bool:
        """Whether its supervisor runs."""
        status = self.status
        return status is not None and status.supervisor.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether its supervisor runs and last found it ready."""
        status = self.status
        return status is not None and status.phase == "ready" and status.supervisor.is_alive

    @property
    def orphan(self) -> ProcessIdentity | None:
        """Its process, if that outlived its supervisor."""
        status = self.status
        if status is None or status.server is None or status.supervisor.is_alive:
            return None
        return status.server if status.server.is_alive else None

    @property
    def endpoint(self) -> ServerEndpoint:
        """Its address and key. Raises ServerNotRunning if it was never launched."""
        wanted = self.wanted
        if wanted is None:
            raise ServerNotRunning(f"there is no server {self.name!r} here")
        return ServerEndpoint(wanted.root, self.read_key() if wanted.has_key else "")

    def read_key(self) -> str:
        """Return its API key; '' if it has none."""
        try:
            return self.key_file.read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def ensure_key(self) -> None:
        """Create an API key, readable by this user only, unless there is one."""
        if not self.read_key():
            handle = os.open(self.key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        self.key_file.chmod(0o600)

    def save(self, value: Launch | Wanted | Status) -> None:
        """Write a value to its JSON file in one step."""
        file = self.folder / f"{type(value).__name__.lower()}.json"
        draft = file.with_suffix(".draft")
        draft.write_bytes(_get_adapter(type(value)).dump_json(value, indent=2) + b"\n")
        draft.replace(file)


def get_state_folder() -> Path:
    """Return AGENTCALL_STATE, else $XDG_STATE_HOME/agentcall, else ~/.local/state/agentcall."""
    if own := os.environ.get("AGENTCALL_STATE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_STATE_HOME")
    base = Path(shared).expanduser().absolute() if shared else Path.home() / ".local" / "state"
    return base / "agentcall"


def open_entry(name: str) -> ServerEntry:
    """Return the folder of a server, created for this user only if it does not exist."""
    folder = get_state_folder() / "servers" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return ServerEntry(folder)


def list_entries() -> list[ServerEntry]:
    """Return all servers that were launched here, sorted by name."""
    folders = (get_state_folder() / "servers").glob("*/wanted.json")
    return [ServerEntry(file.parent) for file in sorted(folders)]


def find_entry(name: str) -> ServerEntry | None:
    """Return the server of that name, else one that is ready and serves a model of that name.

    A running server takes precedence over one that has ended.
    """
    entries = list_entries()
    same_name = [entry for entry in entries if entry.name == name]
    up = [entry for entry in same_name if entry.is_up]
    serving = [e for e in entries if e.is_ready and name.lower() in _list_model_names(e)]
    return next(iter([*up, *serving, *same_name]), None)


def find_last_launch(name: str) -> Launch | None:
    """Return the options with which the server of that name was last launched."""
    return next((entry.launch for entry in list_entries() if entry.name == name), None)


def find_by_port(port: int) -> ServerEntry | None:
    """Return the running server on this machine's port."""
    for entry in list_entries():
        wanted = entry.wanted
        if wanted is not None and wanted.port == port and entry.is_up:
            return entry
    return None


def _list_model_names(entry: ServerEntry) -> set[str]:
    """Return the names of a server's model, with and without its owner or folder."""
    status, wanted = entry.status, entry.wanted
    full = [status.model if status else "", wanted.model if wanted else ""]
    names = {name.lower().rstrip("/") for name in full}
    return (names | {name.rpartition("/")[2] for name in names}) - {""}


def _read_json(file: Path, kind: type[T]) -> T | None:
    try:
        return _get_adapter(kind).validate_json(file.read_bytes())
    except (OSError, ValueError):  # missing, or written by another version of this package
        return None


def _get_adapter(kind: type[T]) -> TypeAdapter[T]:
    from pydantic import TypeAdapter  # late: a process that only imports this package has no need

    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return cast("TypeAdapter[T]", _adapters[kind])
