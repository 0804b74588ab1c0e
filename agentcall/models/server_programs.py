"""Programs that serve models on their user's machine, by the names that shorthands have for them.

`ollama:qwen3` is the model `qwen3` of the Ollama on this machine. Where a program listens is taken
from, in this order: `NAME@host:port` in the shorthand, the variables of the environment that the
program itself reads, its usual port on 127.0.0.1. Sources of ports, commands and variables:
docs/servers.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from agentcall.errors import UsageError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """A program that serves models.

    title: its name for people.
    port: its usual one; 0 if `url_variable` alone says where it is.
    start, get: the commands that start it, and that download a model, with `{model}`.
    url_variable: of its address, `host`, `host:port` or a URL.
    host_variable, port_variable: of the parts of its address.
    key_variable: of the API key that the server was started with, or that its clients send.
    """

    title: str
    port: int
    start: str = ""
    get: str = ""
    url_variable: str = ""
    host_variable: str = ""
    port_variable: str = ""
    key_variable: str = ""


PROGRAMS: dict[str, ServerProgram] = {
    # Variables: `ollama serve --help`; the address is parsed as in its envconfig/config.go.
    "ollama": ServerProgram(
        "Ollama", 11434, "ollama serve", "ollama pull {model}", url_variable="OLLAMA_HOST"
    ),
    # vllm/envs.py. Its VLLM_HOST_IP and VLLM_PORT are for the traffic between its own processes.
    "vllm": ServerProgram("vLLM", 8000, "vllm serve {model}", key_variable="VLLM_API_KEY"),
    # tools/server/README.md: the variables of --host, --port and --api-key.
    "llamacpp": ServerProgram(
        "llama.cpp",
        8080,
        "llama-server -m FILE",
        host_variable="LLAMA_ARG_HOST",
        port_variable="LLAMA_ARG_PORT",
        key_variable="LLAMA_API_KEY",
    ),
    # lmstudio.ai/docs/developer/core/authentication
    "lmstudio": ServerProgram(
        "LM Studio", 1234, "lms server start", "lms get {model}", key_variable="LM_API_TOKEN"
    ),
    "sglang": ServerProgram("SGLang", 30000, "python -m sglang.launch_server --model-path {model}"),
    "tgi": ServerProgram("TGI", 8080),
    "litellm": ServerProgram("LiteLLM", 4000, "litellm --config FILE"),
    "koboldcpp": ServerProgram("KoboldCpp", 5001, "koboldcpp --model FILE"),
    "localai": ServerProgram("LocalAI", 8080, "local-ai run {model}"),
    "tabbyapi": ServerProgram("TabbyAPI", 5000),
    "mistralrs": ServerProgram("mistral.rs", 1234, "mistralrs serve -p 1234 -m {model}"),
    # The variables of the openai package. Its own default, a server on the internet, is not used.
    "openai": ServerProgram(
        "the server of OPENAI_BASE_URL",
        0,
        url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
    ),
}

_HOST_AND_PORT = re.compile(r"(?P<name>.*)@(?P<address>(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5})")
_UNSPECIFIED = ("", "0.0.0.0", "::", "*")  # noqa: S104 - as others write it, not to listen there
"""Addresses on which a server listens everywhere; a client asks it at 127.0.0.1."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ProgramAddress:
    """Where a program's server is: its base URL, a model's name, and the variable with the URL."""

    url: str
    model: str | None = None
    variable: str = ""


def split_address(rest: str) -> ProgramAddress | None:
    """Return the address in `NAME@host:port`; None if the name has none."""
    found = _HOST_AND_PORT.fullmatch(rest.strip())
    if found is None:
        return None
    return ProgramAddress(f"http://{found['address']}/v1", found["name"].strip() or None)


def locate_program(kind: str, rest: str) -> ProgramAddress:
    """Return the address that `kind:rest` means; `rest` is `NAME`, `NAME@host:port` or empty.

    Raises UsageError for a variable of the environment that holds no address.
    """
    if address := split_address(rest):
        return address
    url, variable = _find_address(kind, PROGRAMS[kind])
    return ProgramAddress(url, rest.strip() or None, variable)


def find_program_key(kind: str) -> str:
    """Return the API key that the environment has for a program; "" if there is none."""
    variable = PROGRAMS[kind].key_variable if kind else ""
    return os.environ.get(variable, "") if variable else ""


def _find_address(kind: str, program: ServerProgram) -> tuple[str, str]:
    """Return the URL of a program, and the variable that it is taken from."""
    value = os.environ.get(program.url_variable, "").strip(" \"'") if program.url_variable else ""
    if value:
        return _parse_address(program, value), program.url_variable
    if not program.port:
        raise UsageError(
            f"{kind}:NAME is a model of {program.title}, but {program.url_variable} is not set; "
            "set it, or name the server: http://host:port/v1#NAME"
        )
    host = os.environ.get(program.host_variable, "") if program.host_variable else ""
    port = os.environ.get(program.port_variable, "") if program.port_variable else ""
    if port.isdecimal() or (host and not host.endswith(".sock")):
        variable = program.port_variable if port else program.host_variable
        return _parse_address(program, f"{host}:{port or program.port}"), variable
    return f"http://{LOOPBACK}:{program.port}/v1", ""


def _parse_address(program: ServerProgram, value: str) -> str:
    """Return the base URL that a variable of the environment means."""
    has_scheme = "://" in value
    try:
        parts = urlsplit(value if has_scheme else f"http://{value}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError(
            f"the environment has {program.url_variable or program.port_variable}={value!r}, which "
            f"is not an address of {program.title}: host:port or a URL"
        ) from None
    if host in _UNSPECIFIED:
        host = LOOPBACK
    if port is None and not (has_scheme and program.port == 0):
        port = _DEFAULT_PORTS.get(parts.scheme) if has_scheme else program.port
    host = f"[{host}]" if ":" in host else host
    authority = f"{parts.netloc.rpartition('@')[0]}@{host}" if "@" in parts.netloc else host
    authority = f"{authority}:{port}" if port else authority
    path = parts.path.rstrip("/")
    if not path.endswith("/v1") and not (path and program.port == 0):
        path += "/v1"
    return urlunsplit((parts.scheme, authority, path, parts.query, ""))


def explain_no_server(kind: str, url: str) -> str:
    """Return how a program is started, and how another address is named, for an error."""
    program = PROGRAMS[kind]
    start = program.start.format(model="NAME")
    variable = program.url_variable or program.port_variable
    if variable and _is_address_of(kind, variable, url):
        source, other = f" ({variable} is set)", ""
    else:
        source, other = "", f"{variable}, or " if variable else ""
    started = f"? `{start}` starts it" if start else "?"
    return (
        f"is {program.title} running there{source}{started}; for another address use "
        f"{other}{kind}:NAME@host:port"
    )


def _is_address_of(kind: str, variable: str, url: str) -> bool:
    """Whether a URL was taken from a variable of the environment."""
    try:
        address = locate_program(kind, "")
    except UsageError:
        return False
    return address.variable == variable and address.url == url


def explain_no_model(kind: str, model: str | None, names: Sequence[str]) -> str:
    """Return how to get a model that a program does not have, for an error; "" if unknown.

    names: the models that it has.
    """
    program = PROGRAMS[kind]
    base = (model or "").partition(":")[0].lower()
    alike = [name for name in names if base and name.partition(":")[0].lower() == base]
    hints = [f"use {kind}:{name}" for name in alike[:3]]
    if program.get:
        hints.append(f"get it with `{program.get.format(model=model or 'NAME')}`")
    elif not names and program.start:
        hints.append(f"start it with a model: `{program.start.format(model=model or 'NAME')}`")
    return ", or ".join(hints)


def find_listening_programs() -> list[str]:
    """Return the kinds of programs at whose usual ports on this machine something listens.

    Only connects; no request is sent. For messages to a user who has named no model.
    """
    import socket

    found: dict[int, str] = {}
    for kind, program in PROGRAMS.items():
        if program.port and program.port not in found:
            try:
                with socket.create_connection((LOOPBACK, program.port), timeout=0.1):
                    found[program.port] = kind
            except OSError:
                continue
    return list(found.values())
