"""The command line of `lmdeploy serve api_server` that carries out a plan."""

from __future__ import annotations

from agentcall_server.families import family_from_architecture
from agentcall_server.plan import MemoryPlan, PlanRequest
from agentcall_server.releases import has_flag
from agentcall_server.runtime import get_default_prefill


def build_serve_command(plan: MemoryPlan, model: str | None = None) -> list[str]:
    """The words of the command; `model` is a folder or a name on the hub, else the plan's own."""
    wish = plan.request
    words = ["lmdeploy", "serve", "api_server", model or _choose_model(wish)]
    words += ["--backend", wish.backend, "--server-name", "127.0.0.1"]
    words += [
        "--cache-max-entry-count",
        f"{wish.cache:g}",
        "--session-len",
        str(wish.session_length),
    ]
    words += _build_format_options(wish)
    if wish.tp > 1:
        words += ["--tp", str(wish.tp)]
    if wish.prefill_tokens != get_default_prefill(wish.release, wish.backend):
        words += _build_known_flag(wish, "--max-prefill-token-num", str(plan.prefill))
    if plan.rope_scaling is not None:
        words += plan.rope_scaling.flags
    # past the trained length a block's keys depend on the session's length, so none is shared
    if plan.rope_scaling is None or plan.rope_scaling.kind != "dynamic":
        words.append("--enable-prefix-caching")
    if parser := family_from_architecture(wish.architecture).tool_call_parser:
        words += _build_known_flag(wish, "--tool-call-parser", parser)
    if wish.architecture.has_custom_code:
        words += _build_known_flag(wish, "--trust-remote-code")
    return words


def _choose_model(request: PlanRequest) -> str:
    name = request.architecture.name
    is_to_quantize = request.scheme != "16" and request.architecture.stored_scheme == "16"
    return f"{name.rstrip('/').rpartition('/')[2]}-{request.scheme}" if is_to_quantize else name


def _build_format_options(request: PlanRequest) -> list[str]:
    words: list[str] = []
    scheme = request.scheme if request.scheme != "16" else request.architecture.stored_scheme
    # smooth_quant is read from config.json: --model-format has no name for it
    if scheme in ("awq", "gptq", "fp8"):
        words += ["--model-format", scheme]
    if request.kv_bits != 16:
        words += ["--quant-policy", str(request.kv_bits)]
    return words


def _build_known_flag(request: PlanRequest, flag: str, *values: str) -> list[str]:
    return [flag, *values] if has_flag(request.release, flag) else []
