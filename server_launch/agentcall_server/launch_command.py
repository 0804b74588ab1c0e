"""The command line that launches a model, of the flags that the installed LMDeploy has."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from agentcall_server.families import Family
from agentcall_server.launch import Launch
from agentcall_server.manual import Manual
from agentcall_server.refusals import NoLMDeploy
from agentcall_server.releases import least_release
from agentcall_server.rope import Longer, Stretch

COMMAND = ("serve", "api_server")
_CODES = {8: "8", 4: "4"}
NO_WEB_PAGES = "http://127.0.0.1"
"""The origin that may ask from a browser: LMDeploy lets every web page do so by default."""


@dataclass(frozen=True, slots=True)
class Words:
    """Collects words; a flag that the user wrote himself is his."""

    launch: Launch
    manual: Manual

    def asked(self, flag: str, value: str) -> list[str]:
        """What the user asked for. Raises NoLMDeploy where this release cannot do it."""
        if self.launch.has(flag):
            return []
        if flag not in self.manual:
            raise NoLMDeploy(
                f"the installed LMDeploy takes no {flag}, which {value} would be given with; "
                f"leave that option out, or update LMDeploy"
            )
        choices = self.manual[flag].choices
        if choices and value not in choices:
            raise NoLMDeploy(f"{flag} {value}: the installed LMDeploy has {', '.join(choices)}")
        return [flag, value]

    def useful(self, flag: str, *values: str) -> list[str]:
        """What is of use where this release has it."""
        return [] if self.launch.has(flag) or flag not in self.manual else [flag, *values]


def launch_command(
    launch: Launch, manual: Manual, family: Family, *, model: str, template: str
) -> list[str]:
    """The words after `lmdeploy`; the port is that of the launch. Raises NoLMDeploy.

    `model` is a folder or a name on the hub, `template` what `--chat-template` gets, or ''.
    """
    _check(launch, manual)
    words = Words(launch, manual)
    stretch = _stretch(launch, manual, family)
    return [
        *COMMAND,
        model,
        *words.asked("--server-name", launch.host),
        *words.asked("--server-port", str(launch.port)),
        *words.useful("--allow-origins", NO_WEB_PAGES),
        *_sizes(words),
        *_format(words, family),
        *_rope(words, stretch),
        *_tools(words, family, template),
        *launch.flags,
    ]


def _sizes(words: Words) -> list[str]:
    launch = words.launch
    wanted = {
        "--backend": launch.backend,
        "--cache-max-entry-count": "" if launch.cache is None else f"{launch.cache:g}",
        "--session-len": "" if launch.context is None else str(launch.context),
        "--quant-policy": _CODES.get(launch.kv_bits, ""),
        "--tp": str(launch.tp) if launch.tp > 1 else "",
    }
    return [word for flag, value in wanted.items() if value for word in words.asked(flag, value)]


def _format(words: Words, family: Family) -> list[str]:
    stored = family.architecture.stored_scheme if family.architecture else "16"
    # smooth_quant is read from config.json: --model-format has no name for it
    return words.asked("--model-format", stored) if stored in ("awq", "gptq", "fp8") else []


def _stretch(launch: Launch, manual: Manual, family: Family) -> Stretch | None:
    """How sessions past the trained length are served, where such were asked for."""
    shape = family.architecture
    if shape is None or launch.context is None:
        return None
    longer = Longer(shape.rope, shape.kind, shape.head_dim, shape.trained, launch.context)
    return longer.stretch(least_release(manual))


def _rope(words: Words, stretch: Stretch | None) -> list[str]:
    # past the trained length a block's keys depend on the session's length, so none is shared
    is_shared = stretch is None or stretch.kind != "dynamic"
    found = words.useful("--enable-prefix-caching") if is_shared else []
    pairs = zip(stretch.flags[::2], stretch.flags[1::2], strict=True) if stretch else ()
    return [*found, *(word for flag, value in pairs for word in words.useful(flag, value))]


def _tools(words: Words, family: Family, template: str) -> list[str]:
    found = words.useful("--tool-call-parser", family.parser) if family.parser else []
    if template:
        found += words.asked("--chat-template", template)
    # before 0.13 there is no such flag, and the code is always trusted
    return [*found, *(words.useful("--trust-remote-code") if family.own_code else [])]


def _check(launch: Launch, manual: Manual) -> None:
    """Refuse a flag that LMDeploy would refuse, before anything is loaded."""
    for word in launch.flags:
        flag = word.partition("=")[0]
        if not flag.startswith("--") or any(known.startswith(flag) for known in manual.names):
            continue
        near = get_close_matches(flag, manual.names, 1)
        hint = f"did you mean {near[0]}?" if near else f"`lmdeploy {manual.command} --help` lists"
        raise NoLMDeploy(
            f"the installed LMDeploy takes no {flag}; {hint}{'' if near else ' what it takes'}"
        )
