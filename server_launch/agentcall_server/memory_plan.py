"""What of a GPU goes to weights, cache and the rest, how many sessions fit, and what does not.

Rules, per GPU:

1. total = used by others + context + weights + free.
2. turbomind: cache = ratio * free (v0.5.3 LlamaBatch.cc:940-985, BlockManager.cc:101-105; v0.18.0
   turbomind.cc:293-312). A prefill has to fit into the other (1 - ratio) * free.
3. pytorch: cache = ratio * (free - reserve), the reserve being sized first (see runtime).
4. The ratio is --cache-max-entry-count: a share of what is *free* after the weights, not of the
   GPU. So smaller weights make a larger cache, and what nvidia-smi shows hardly falls.
5. The cache is cut into blocks of 64 tokens; a session fills whole blocks.

The command line of `lmdeploy serve api_server` that carries out a plan.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from agentcall_server.rope import ContextExtension, RopeScaling
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
"""Of LMDeploy 0.18.0 turbomind/supported_models.py:6-36, those whose shape is computed here."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is to be served, and on what. Memory in bytes, context in tokens (None: as trained)."""

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
        """The longest session, in tokens; --session-len."""
        return self.context or self.architecture.trained_length

    @property
    def prefill_tokens(self) -> int:
        """Tokens of one prefill step."""
        return self.prefill or get_default_prefill(self.release, self.backend)


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """Why it does not fit, in words."""

    message: str


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where the memory of the fullest GPU goes, in bytes, and what it is enough for.

    `reserve` is what the engine sets aside (pytorch) or what a prefill takes (turbomind); `cache`
    is what the blocks take, `rest` what is left over when a prefill is under way (below zero: out
    of memory then). `sessions` is how many sessions of the wished length fit at once.
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
        return self.blocks // count_blocks(self.request.session_length)

    @property
    def max_session_length(self) -> int:
        """Tokens each of the wished number of sessions can have at once."""
        return self.blocks // self.request.sessions * BLOCK_TOKENS

    @property
    def spare(self) -> int:
        return self.free - self.cache - self.reserve

    @property
    def bytes_at_start(self) -> int:
        """What the server holds before its first request, the context included."""
        return CUDA_CONTEXT_BYTES + self.weights.total + self.cache

    @property
    def peak_bytes(self) -> int:
        """What the server holds while a prefill is under way."""
        return self.bytes_at_start + self.reserve


def plan_memory(request: PlanRequest) -> MemoryPlan:
    """The plan for one engine. Raises BadValue where the wish is nonsense."""
    _check_request(request)
    architecture = request.architecture
    weights = compute_gpu_weights(
        architecture, request.scheme, backend=request.backend, tp=request.tp
    )
    kv = make_kv_cache(architecture, request.kv_bits, backend=request.backend, tp=request.tp)
    free = request.gpu - request.used - CUDA_CONTEXT_BYTES - weights.total
    blocks, reserve, prefill = _divide_memory(request, kv, free)
    longer = ContextExtension(
        architecture.rope,
        architecture.kind,
        architecture.head_dim,
        architecture.trained_length,
        request.session_length,
    )
    draft = MemoryPlan(
        request,
        weights,
        kv,
        free,
        reserve,
        prefill,
        blocks,
        longer.plan_scaling(request.release),
        (),
    )
    problems = _find_unsupported(request) or _find_shortfalls(draft)
    return MemoryPlan(
        request, weights, kv, free, reserve, prefill, blocks, draft.rope_scaling, tuple(problems)
    )


def _divide_memory(request: PlanRequest, kv: KVCache, free: int) -> tuple[int, int, int]:
    """Blocks of the cache, bytes of the reserve, tokens of a prefill step."""
    prefill = request.prefill_tokens
    if request.backend == "turbomind":
        reserve = estimate_turbomind_prefill(
            request.architecture, prefill, batch=request.batch, tp=request.tp
        )
        return max(0, int(free * request.cache)) // kv.block_bytes, reserve, prefill
    vocabulary = request.architecture.vocabulary
    blocks, size = 0, 0
    for step in list_pytorch_reserves(
        vocabulary, prefill, batch=request.batch, release=request.release
    ):
        prefill, size = step.prefill, step.size
        blocks = max(0, int((free - size) * request.cache)) // kv.block_bytes
        # 0.18.0 gives up at two blocks before it halves any further (base.py:183-195)
        if blocks >= MIN_BLOCKS or (blocks <= 2 and request.release >= LMDeployRelease(0, 6)):
            break
    return blocks, size, prefill


def _check_request(request: PlanRequest) -> None:
    architecture = request.architecture
    if not 0 < request.cache < 1:
        raise BadValue(
            f"--cache {request.cache:g}: the share of the free memory that the cache gets lies "
            f"between 0 and 1, such as 0.8"
        )
    if request.sessions < 1:
        raise BadValue(f"--sessions {request.sessions}: at least one session has to be served")
    if request.tp < 1 or architecture.heads % request.tp:
        possible = [str(n) for n in (1, 2, 4, 8, 16) if can_split_heads(architecture, n)]
        raise BadValue(
            f"--tp {request.tp}: the {architecture.heads} attention heads of {architecture.name} "
            f"cannot be dealt to {request.tp} GPUs; possible are {', '.join(possible)}"
        )
    if not can_split_heads(architecture, request.tp):
        raise BadValue(
            f"--tp {request.tp}: neither can the {architecture.kv_heads} key-value heads of "
            f"{architecture.name} be dealt to {request.tp} GPUs nor each be copied to as many"
        )
    _check_scheme(request)


def _check_scheme(request: PlanRequest) -> None:
    stored = request.architecture.stored_scheme
    if stored != "16" and request.scheme not in ("16", stored):
        raise BadValue(
            f"--quant {request.scheme}: {request.architecture.name} is quantized by {stored} "
            "already; "
            f"leave --quant out, or give the 16-bit model"
        )


def can_split_heads(architecture: ModelArchitecture, tp: int) -> bool:
    """Whether heads can be dealt to that many GPUs, key-value heads copied if they are too few."""
    kv_heads = architecture.kv_heads
    dealt = kv_heads % tp == 0 if tp <= kv_heads else tp % kv_heads == 0
    return tp >= 1 and architecture.heads % tp == 0 and dealt


def _find_unsupported(request: PlanRequest) -> list[PlanProblem]:
    classes = request.architecture.class_names
    if request.scheme == "gptq" and request.release < LMDeployRelease(0, 6):
        return [PlanProblem(f"LMDeploy {request.release} does not serve GPTQ; 0.6.0 and later do")]
    if request.backend == "turbomind":
        if request.scheme == "smooth_quant":
            return [
                PlanProblem("turbomind does not serve smooth_quant (W8A8); the pytorch engine does")
            ]
        if classes and not set(classes) & set(TURBOMIND_CLASSES):
            return [PlanProblem(f"turbomind does not serve {classes[0]}; the pytorch engine may")]
    elif request.release < LMDeployRelease(0, 6) and request.kv_bits != 16:
        return [PlanProblem(f"the pytorch engine of {request.release} has no quantized cache")]
    return []


def _find_shortfalls(draft: MemoryPlan) -> list[PlanProblem]:
    """What is short, the first reason alone where the others follow from it."""
    wish, room = draft.request, draft.request.gpu - draft.request.used
    if draft.free <= 0:
        return [
            PlanProblem(
                f"the weights ({format_size(draft.weights.total)}) and the CUDA context "
                f"({format_size(CUDA_CONTEXT_BYTES)}) do not fit into {format_size(room)}"
            )
        ]
    least = MIN_BLOCKS if wish.backend == "pytorch" else 3
    if draft.blocks < least:
        what = (
            f"no {least * BLOCK_TOKENS} tokens of cache are left beside "
            f"{format_size(draft.reserve)} for a "
        )
        return [PlanProblem(f"{what}prefill of {draft.prefill} tokens: LMDeploy would not start")]
    return [*_find_token_shortfall(draft, wish), *_find_prefill_shortfall(draft, wish)]


def _find_token_shortfall(draft: MemoryPlan, request: PlanRequest) -> list[PlanProblem]:
    if draft.sessions >= request.sessions:
        return []
    if draft.sessions == 0:
        return [
            PlanProblem(
                f"one session of {request.session_length:,} tokens needs "
                f"{format_size(count_blocks(request.session_length) * draft.kv_cache.block_bytes)} "
                "of cache, and there are "
                f"{format_size(draft.cache)} ({draft.tokens:,} tokens); LMDeploy would cut "
                "sessions short"
            )
        ]
    return [
        PlanProblem(
            f"{draft.sessions} of {request.sessions} sessions of {request.session_length:,} "
            "tokens fit at once; "
            f"the others would wait"
        )
    ]


def _find_prefill_shortfall(draft: MemoryPlan, request: PlanRequest) -> list[PlanProblem]:
    left = draft.free - int(draft.free * request.cache)
    if request.backend == "pytorch" or left >= draft.reserve:
        return []
    return [
        PlanProblem(
            f"a prefill of {draft.prefill} tokens needs {format_size(draft.reserve)} beside "
            "the cache, "
            f"and {format_size(left)} are left: out of memory at the first long prompt"
        )
    ]


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
