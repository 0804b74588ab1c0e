"""The command line of `lmdeploy serve api_server` that carries out a plan."""

from __future__ import annotations

from agentcall_server.families import of_architecture
from agentcall_server.plan import Plan, Wish
from agentcall_server.releases import has_flag
from agentcall_server.runtime import usual_prefill


def serve_command(plan: Plan, model: str | None = None) -> list[str]:
    """The words of the command; `model` is a folder or a name on the hub, else the plan's own."""
    wish = plan.wish
    words = ["lmdeploy", "serve", "api_server", model or _model(wish)]
    words += ["--backend", wish.backend, "--server-name", "127.0.0.1"]
    words += ["--cache-max-entry-count", f"{wish.cache:g}", "--session-len", str(wish.length)]
    words += _formats(wish)
    if wish.tp > 1:
        words += ["--tp", str(wish.tp)]
    if wish.whole_prefill != usual_prefill(wish.release, wish.backend):
        words += _known(wish, "--max-prefill-token-num", str(plan.prefill))
    if plan.stretch is not None:
        words += plan.stretch.flags
    # past the trained length a block's keys depend on the session's length, so none is shared
    if plan.stretch is None or plan.stretch.kind != "dynamic":
        words.append("--enable-prefix-caching")
    if parser := of_architecture(wish.architecture).parser:
        words += _known(wish, "--tool-call-parser", parser)
    if wish.architecture.own_code:
        words += _known(wish, "--trust-remote-code")
    return words


def _model(wish: Wish) -> str:
    name = wish.architecture.name
    is_to_quantize = wish.scheme != "16" and wish.architecture.stored_scheme == "16"
    return f"{name.rstrip('/').rpartition('/')[2]}-{wish.scheme}" if is_to_quantize else name


def _formats(wish: Wish) -> list[str]:
    words: list[str] = []
    scheme = wish.scheme if wish.scheme != "16" else wish.architecture.stored_scheme
    # smooth_quant is read from config.json: --model-format has no name for it
    if scheme in ("awq", "gptq", "fp8"):
        words += ["--model-format", scheme]
    if wish.kv_bits != 16:
        words += ["--quant-policy", str(wish.kv_bits)]
    return words


def _known(wish: Wish, flag: str, *values: str) -> list[str]:
    return [flag, *values] if has_flag(wish.release, flag) else []
