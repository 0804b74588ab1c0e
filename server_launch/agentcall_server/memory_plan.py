"""The memory of a GPU divided into weights, cache and the rest, and how many sessions fit.

Rules, per GPU:

1. total = used by others + context + weights + free.
2. turbomind: cache = ratio * free (v0.5.3 LlamaBatch.cc:940-985, BlockManager.cc:101-105; v0.18.0
   turbomind.cc:293-312). A prefill has to fit into the other (1 - ratio) * free.
3. pytorch: cache = ratio * (free - reserve); the reserve is sized first (see `memory_overhead`).
4. The ratio is --cache-max-entry-count: a share of the memory that is *free* after the weights, not
   of the GPU. So smaller weights make a larger cache, and the usage that nvidia-smi shows hardly
   falls.
5. The cache is divided into blocks of 64 tokens; a session uses whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentcall_server.architecture import ModelArchitecture
from agentcall_server.errors import BadValue
from agentcall_server.kv_cache import BLOCK_TOKENS, KVCache, count_blocks, make_kv_cache
from agentcall_server.memory_overhead import (
    CUDA_CONTEXT_BYTES,
    DEFAULT_BATCH_SIZE,
    MIN_BLOCKS,
    estimate_turbomind_prefill,
    get_default_prefill,
    list_pytorch_reserves,
)
from agentcall_server.model_families import family_from_architecture
from agentcall_server.releases import NEWEST_RELEASE, LMDeployRelease, has_flag
from agentcall_server.rope import RopeScaling
from agentcall_server.units import format_size
from agentcall_server.weights import Backend, WeightBytes, compute_gpu_weights

TURBOMIND_CLASSES = (
    "InternLM2ForCausalLM",
    "InternLM3ForCausalLM",
    "InternVLChatModel",
    "InternVLForConditionalGeneration",
    "LlamaForCausalLM",
    "MixtralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen2MoeForCausalLM",
    "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM",
)
"""Those of LMDeploy 0.18.0 turbomind/supported_models.py:6-36 whose shape is supported here."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A model and its options, and a GPU. Memory in bytes, context in tokens (None: as trained)."""

    architecture: ModelArchitecture
    gpu: int
    used: int = 0
    scheme: str = "16"
    kv_bits: int = 16
    cache: float = 0.8
    context: int | None = None
    sessions: int = 1
    tp: int = 1
    backend: Backend = "turbomind"
    batch: int = DEFAULT_BATCH_SIZE
    prefill: int | None = None
    release: LMDeployRelease = NEWEST_RELEASE

    @property
    def session_length(self) -> int:
        """The longest session in tokens; --session-len."""
        return self.context or self.architecture.trained_length

    @property
    def prefill_tokens(self) -> int:
        """Tokens of one prefill step."""
        return self.prefill or get_default_prefill(self.release, self.backend)


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """A reason why the model does not fit."""

    message: str


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The use of the fullest GPU's memory, in bytes, and the sessions that fit.

    free: memory after the weights. reserve: bytes that the engine reserves (pytorch) or that a
    prefill takes (turbomind). prefill: tokens of a prefill step. blocks: of the cache.
    """

    request: PlanRequest
    weights: WeightBytes
    kv_cache: KVCache
    free: int
    reserve: int
    prefill: int
    blocks: int
    rope_scaling: RopeScaling | None
    problems: tuple[PlanProblem, ...]

    @property
    def fits(self) -> bool:
        return not self.problems

    @property
    def cache(self) -> int:
        return self.blocks * self.kv_cache.block_bytes

    @property
    def tokens(self) -> int:
        return self.blocks * BLOCK_TOKENS

    @property
    def sessions(self) -> int:
        """How many sessions of the requested length fit at once."""
        return self.blocks // count_blocks(self.request.session_length)

    @property
    def max_session_length(self) -> int:
        """The longest sessions in tokens of which the requested number fits at once."""
        return self.blocks // self.request.sessions * BLOCK_TOKENS

    @property
    def spare(self) -> int:
        """Memory that is left during a prefill; below zero, the server runs out of memory."""
        return self.free - self.cache - self.reserve

    @property
    def bytes_at_start(self) -> int:
        """Memory of the server before its first request, including the CUDA context."""
        return CUDA_CONTEXT_BYTES + self.weights.total + self.cache

    @property
    def peak_bytes(self) -> int:
        """Memory of the server during a prefill."""
        return self.bytes_at_start + self.reserve


def plan_memory(request: PlanRequest) -> MemoryPlan:
    """Return the plan for one engine. Raises BadValue if the request is invalid."""
    _check_request(request)
    model, backend, tp = request.architecture, request.backend, request.tp
    weights = compute_gpu_weights(model, request.scheme, backend=backend, tp=tp)
    kv_cache = make_kv_cache(model, request.kv_bits, backend=backend, tp=tp)
    free = request.gpu - request.used - CUDA_CONTEXT_BYTES - weights.total
    blocks, reserve, prefill = _divide_memory(request, kv_cache, free)
    plan = MemoryPlan(
        request,
        weights,
        kv_cache,
        free,
        reserve,
        prefill,
        blocks,
        rope_scaling=model.plan_rope_scaling(request.session_length, request.release),
        problems=(),
    )
    problems = _find_unsupported(request) or _find_shortfalls(plan)
    return replace(plan, problems=tuple(map(PlanProblem, problems)))


def _divide_memory(request: PlanRequest, kv_cache: KVCache, free: int) -> tuple[int, int, int]:
    """Return the blocks of the cache, the bytes of the reserve, the tokens of a prefill step."""
    prefill = request.prefill_tokens
    if request.backend == "turbomind":
        reserve = estimate_turbomind_prefill(
            request.architecture, prefill, batch=request.batch, tp=request.tp
        )
        return max(0, int(free * request.cache)) // kv_cache.block_bytes, reserve, prefill
    vocabulary = request.architecture.vocabulary
    blocks, size = 0, 0
    for tokens, size in list_pytorch_reserves(
        vocabulary, request.prefill_tokens, batch=request.batch, release=request.release
    ):
        prefill = tokens
        blocks = max(0, int((free - size) * request.cache)) // kv_cache.block_bytes
        # 0.18.0 gives up at two blocks before it halves any further (base.py:183-195)
        if blocks >= MIN_BLOCKS or (blocks <= 2 and request.release >= LMDeployRelease(0, 6)):
            break
    return blocks, size, prefill


def _check_request(request: PlanRequest) -> None:
    model, tp = request.architecture, request.tp
    if not 0 < request.cache < 1:
        raise BadValue(
            f"--cache {request.cache:g}: give the cache's share of the free memory, between 0 and "
            f"1, such as 0.8"
        )
    if request.sessions < 1:
        raise BadValue(f"--sessions {request.sessions}: give at least 1")
    if tp < 1 or model.heads % tp:
        possible = [str(n) for n in (1, 2, 4, 8, 16) if can_split_heads(model, n)]
        raise BadValue(
            f"--tp {tp}: the {model.heads} attention heads of {model.name} cannot be split across "
            f"{tp} GPUs; possible are {', '.join(possible)}"
        )
    if not can_split_heads(model, tp):
        raise BadValue(
            f"--tp {tp}: the {model.kv_heads} key-value heads of {model.name} can neither be split "
            f"across {tp} GPUs nor be copied evenly"
        )
    if model.stored_scheme != "16" and request.scheme not in ("16", model.stored_scheme):
        raise BadValue(
            f"--quant {request.scheme}: {model.name} is quantized by {model.stored_scheme} "
            f"already; leave --quant out, or give the 16-bit model"
        )


def can_split_heads(architecture: ModelArchitecture, tp: int) -> bool:
    """Return whether the heads can be split across `tp` GPUs; key-value heads may be copied."""
    kv_heads = architecture.kv_heads
    is_even = kv_heads % tp == 0 if tp <= kv_heads else tp % kv_heads == 0
    return tp >= 1 and architecture.heads % tp == 0 and is_even


def _find_unsupported(request: PlanRequest) -> list[str]:
    classes = request.architecture.class_names
    if request.scheme == "gptq" and request.release < LMDeployRelease(0, 6):
        return [f"LMDeploy {request.release} does not serve GPTQ; 0.6.0 and later do"]
    if request.backend == "turbomind":
        if request.scheme == "smooth_quant":
            return ["turbomind does not serve smooth_quant (W8A8); the pytorch engine does"]
        if classes and not set(classes) & set(TURBOMIND_CLASSES):
            return [f"turbomind does not serve {classes[0]}; the pytorch engine may"]
    elif request.release < LMDeployRelease(0, 6) and request.kv_bits != 16:
        return [f"the pytorch engine of {request.release} has no quantized cache"]
    return []


def _find_shortfalls(plan: MemoryPlan) -> list[str]:
    """Return what does not fit; only the first reason if the others follow from it."""
    request = plan.request
    if plan.free <= 0:
        weights, context = format_size(plan.weights.total), format_size(CUDA_CONTEXT_BYTES)
        room = format_size(request.gpu - request.used)
        return [f"the weights ({weights}) and the CUDA context ({context}) do not fit into {room}"]
    min_blocks = MIN_BLOCKS if request.backend == "pytorch" else 3
    if plan.blocks < min_blocks:
        problem = (
            f"less than {min_blocks * BLOCK_TOKENS} tokens of cache fit besides "
            f"{format_size(plan.reserve)} for a prefill of {plan.prefill} tokens: LMDeploy would "
            f"not start"
        )
        return [problem]
    problems: list[str] = []
    length = request.session_length
    if plan.sessions == 0:
        needed = count_blocks(length) * plan.kv_cache.block_bytes
        problems.append(
            f"one session of {length:,} tokens needs {format_size(needed)} of cache, and there are "
            f"{format_size(plan.cache)} ({plan.tokens:,} tokens); LMDeploy would cut sessions short"
        )
    elif plan.sessions < request.sessions:
        problems.append(
            f"{plan.sessions} of {request.sessions} sessions of {length:,} tokens fit at once; the "
            f"others would wait"
        )
    rest = plan.free - int(plan.free * request.cache)
    if request.backend == "turbomind" and rest < plan.reserve:
        problems.append(
            f"a prefill of {plan.prefill} tokens needs {format_size(plan.reserve)} besides the "
            f"cache, and {format_size(rest)} are left: out of memory at the first long prompt"
        )
    return problems


def build_serve_command(plan: MemoryPlan, model: str | None = None) -> list[str]:
    """Return the `lmdeploy serve api_server` command of a plan.

    `model` is a folder or a name on the hub, by default the plan's own.
    """
    request = plan.request
    architecture, scheme = request.architecture, request.scheme
    if model is None:
        model, stored = architecture.name, architecture.stored_scheme
        if scheme != "16" and stored == "16":  # the folder that `agentcall server quantize` creates
            model = f"{model.rstrip('/').rpartition('/')[2]}-{scheme}"
    default_prefill = get_default_prefill(request.release, request.backend)
    scheme = scheme if scheme != "16" else architecture.stored_scheme
    flags = {
        "--backend": request.backend,
        "--server-name": "127.0.0.1",
        "--cache-max-entry-count": f"{request.cache:g}",
        "--session-len": str(request.session_length),
        # smooth_quant is read from config.json: --model-format has no name for it
        "--model-format": scheme if scheme in ("awq", "gptq", "fp8") else "",
        "--quant-policy": str(request.kv_bits) if request.kv_bits != 16 else "",
        "--tp": str(request.tp) if request.tp > 1 else "",
        "--max-prefill-token-num": (
            str(plan.prefill) if request.prefill_tokens != default_prefill else ""
        ),
        "--tool-call-parser": family_from_architecture(architecture).tool_call_parser,
    }
    arguments = ["lmdeploy", "serve", "api_server", model]
    for flag, value in flags.items():
        arguments += [flag, value] if value and has_flag(request.release, flag) else []
    arguments += plan.rope_scaling.flags if plan.rope_scaling else ()
    # past the trained length a block's keys depend on the session's length, so none is shared
    if plan.rope_scaling is None or plan.rope_scaling.kind != "dynamic":
        arguments.append("--enable-prefix-caching")
    if architecture.has_custom_code and has_flag(request.release, "--trust-remote-code"):
        arguments.append("--trust-remote-code")
    return arguments
