"""What of a GPU goes to weights, cache and the rest, how many sessions fit, and what does not.

Rules, per GPU:

1. total = used by others + context + weights + free.
2. turbomind: cache = ratio * free (v0.5.3 LlamaBatch.cc:940-985, BlockManager.cc:101-105; v0.18.0
   turbomind.cc:293-312). A prefill has to fit into the other (1 - ratio) * free.
3. pytorch: cache = ratio * (free - reserve), the reserve being sized first (see runtime).
4. The ratio is --cache-max-entry-count: a share of what is *free* after the weights, not of the
   GPU. So smaller weights make a larger cache, and what nvidia-smi shows hardly falls.
5. The cache is cut into blocks of 64 tokens; a session fills whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentcall_server.architecture import Architecture
from agentcall_server.kvcache import BLOCK, KVCache, blocks_of, kv_cache
from agentcall_server.refusals import BadValue
from agentcall_server.releases import NEWEST, Release
from agentcall_server.rope import Longer, Stretch
from agentcall_server.runtime import (
    BATCH,
    CONTEXT,
    LEAST_BLOCKS,
    pytorch_reserves,
    turbomind_prefill,
    usual_prefill,
)
from agentcall_server.units import shown
from agentcall_server.weights import Backend, Weights, weights_on_gpu

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
class Wish:
    """What is to be served, and on what. Memory in bytes, context in tokens (None: as trained)."""

    architecture: Architecture
    gpu: int
    used: int = 0
    scheme: str = "16"
    kv_bits: int = 16
    cache: float = 0.8
    context: int | None = None
    sessions: int = 1
    tp: int = 1
    backend: Backend = "turbomind"
    batch: int = BATCH
    prefill: int | None = None
    release: Release = NEWEST

    @property
    def length(self) -> int:
        """The longest session, in tokens; --session-len."""
        return self.context or self.architecture.trained

    @property
    def whole_prefill(self) -> int:
        """Tokens of one prefill step."""
        return self.prefill or usual_prefill(self.release, self.backend)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why it does not fit, in words."""

    what: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the memory of the fullest GPU goes, in bytes, and what it is enough for.

    `reserve` is what the engine sets aside (pytorch) or what a prefill takes (turbomind); `cache`
    is what the blocks take, `rest` what is left over when a prefill is under way (below zero: out
    of memory then). `sessions` is how many sessions of the wished length fit at once.
    """

    wish: Wish
    weights: Weights
    kv: KVCache
    free: int
    reserve: int
    prefill: int
    blocks: int
    stretch: Stretch | None
    problems: tuple[Problem, ...]

    @property
    def fits(self) -> bool:
        return not self.problems

    @property
    def cache(self) -> int:
        return self.blocks * self.kv.block_bytes

    @property
    def tokens(self) -> int:
        return self.blocks * BLOCK

    @property
    def sessions(self) -> int:
        return self.blocks // blocks_of(self.wish.length)

    @property
    def longest(self) -> int:
        """Tokens each of the wished number of sessions can have at once."""
        return self.blocks // self.wish.sessions * BLOCK

    @property
    def rest(self) -> int:
        return self.free - self.cache - self.reserve

    @property
    def at_start(self) -> int:
        """What the server holds before its first request, the context included."""
        return CONTEXT + self.weights.total + self.cache

    @property
    def peak(self) -> int:
        """What the server holds while a prefill is under way."""
        return self.at_start + self.reserve


def plan(wish: Wish) -> Plan:
    """The plan for one engine. Raises BadValue where the wish is nonsense."""
    _check(wish)
    architecture = wish.architecture
    weights = weights_on_gpu(architecture, wish.scheme, backend=wish.backend, tp=wish.tp)
    kv = kv_cache(architecture, wish.kv_bits, backend=wish.backend, tp=wish.tp)
    free = wish.gpu - wish.used - CONTEXT - weights.total
    blocks, reserve, prefill = _divided(wish, kv, free)
    longer = Longer(
        architecture.rope,
        architecture.kind,
        architecture.head_dim,
        architecture.trained,
        wish.length,
    )
    draft = Plan(
        wish, weights, kv, free, reserve, prefill, blocks, longer.stretch(wish.release), ()
    )
    problems = _unsupported(wish) or _shortfalls(draft)
    return Plan(wish, weights, kv, free, reserve, prefill, blocks, draft.stretch, tuple(problems))


def _divided(wish: Wish, kv: KVCache, free: int) -> tuple[int, int, int]:
    """Blocks of the cache, bytes of the reserve, tokens of a prefill step."""
    prefill = wish.whole_prefill
    if wish.backend == "turbomind":
        reserve = turbomind_prefill(wish.architecture, prefill, batch=wish.batch, tp=wish.tp)
        return max(0, int(free * wish.cache)) // kv.block_bytes, reserve, prefill
    vocabulary = wish.architecture.vocabulary
    blocks, size = 0, 0
    for step in pytorch_reserves(vocabulary, prefill, batch=wish.batch, release=wish.release):
        prefill, size = step.prefill, step.size
        blocks = max(0, int((free - size) * wish.cache)) // kv.block_bytes
        # 0.18.0 gives up at two blocks before it halves any further (base.py:183-195)
        if blocks >= LEAST_BLOCKS or (blocks <= 2 and wish.release >= Release(0, 6)):
            break
    return blocks, size, prefill


def _check(wish: Wish) -> None:
    architecture = wish.architecture
    if not 0 < wish.cache < 1:
        raise BadValue(
            f"--cache {wish.cache:g}: the share of the free memory that the cache gets lies "
            f"between 0 and 1, such as 0.8"
        )
    if wish.sessions < 1:
        raise BadValue(f"--sessions {wish.sessions}: at least one session has to be served")
    if wish.tp < 1 or architecture.heads % wish.tp:
        possible = [str(n) for n in (1, 2, 4, 8, 16) if tp_suits(architecture, n)]
        raise BadValue(
            f"--tp {wish.tp}: the {architecture.heads} attention heads of {architecture.name} "
            f"cannot be dealt to {wish.tp} GPUs; possible are {', '.join(possible)}"
        )
    if not tp_suits(architecture, wish.tp):
        raise BadValue(
            f"--tp {wish.tp}: neither can the {architecture.kv_heads} key-value heads of "
            f"{architecture.name} be dealt to {wish.tp} GPUs nor each be copied to as many"
        )
    _check_scheme(wish)


def _check_scheme(wish: Wish) -> None:
    stored = wish.architecture.stored_scheme
    if stored != "16" and wish.scheme not in ("16", stored):
        raise BadValue(
            f"--quant {wish.scheme}: {wish.architecture.name} is quantized by {stored} already; "
            f"leave --quant out, or give the 16-bit model"
        )


def tp_suits(architecture: Architecture, tp: int) -> bool:
    """Whether heads can be dealt to that many GPUs, key-value heads copied if they are too few."""
    kv_heads = architecture.kv_heads
    dealt = kv_heads % tp == 0 if tp <= kv_heads else tp % kv_heads == 0
    return tp >= 1 and architecture.heads % tp == 0 and dealt


def _unsupported(wish: Wish) -> list[Problem]:
    classes = wish.architecture.classes
    if wish.scheme == "gptq" and wish.release < Release(0, 6):
        return [Problem(f"LMDeploy {wish.release} does not serve GPTQ; 0.6.0 and later do")]
    if wish.backend == "turbomind":
        if wish.scheme == "smooth_quant":
            return [
                Problem("turbomind does not serve smooth_quant (W8A8); the pytorch engine does")
            ]
        if classes and not set(classes) & set(TURBOMIND_CLASSES):
            return [Problem(f"turbomind does not serve {classes[0]}; the pytorch engine may")]
    elif wish.release < Release(0, 6) and wish.kv_bits != 16:
        return [Problem(f"the pytorch engine of {wish.release} has no quantized cache")]
    return []


def _shortfalls(draft: Plan) -> list[Problem]:
    """What is short, the first reason alone where the others follow from it."""
    wish, room = draft.wish, draft.wish.gpu - draft.wish.used
    if draft.free <= 0:
        return [
            Problem(
                f"the weights ({shown(draft.weights.total)}) and the CUDA context "
                f"({shown(CONTEXT)}) do not fit into {shown(room)}"
            )
        ]
    least = LEAST_BLOCKS if wish.backend == "pytorch" else 3
    if draft.blocks < least:
        what = f"no {least * BLOCK} tokens of cache are left beside {shown(draft.reserve)} for a "
        return [Problem(f"{what}prefill of {draft.prefill} tokens: LMDeploy would not start")]
    return [*_too_few_tokens(draft, wish), *_no_prefill(draft, wish)]


def _too_few_tokens(draft: Plan, wish: Wish) -> list[Problem]:
    if draft.sessions >= wish.sessions:
        return []
    if draft.sessions == 0:
        return [
            Problem(
                f"one session of {wish.length:,} tokens needs "
                f"{shown(blocks_of(wish.length) * draft.kv.block_bytes)} of cache, and there are "
                f"{shown(draft.cache)} ({draft.tokens:,} tokens); LMDeploy would cut sessions short"
            )
        ]
    return [
        Problem(
            f"{draft.sessions} of {wish.sessions} sessions of {wish.length:,} tokens fit at once; "
            f"the others would wait"
        )
    ]


def _no_prefill(draft: Plan, wish: Wish) -> list[Problem]:
    left = draft.free - int(draft.free * wish.cache)
    if wish.backend == "pytorch" or left >= draft.reserve:
        return []
    return [
        Problem(
            f"a prefill of {draft.prefill} tokens needs {shown(draft.reserve)} beside the cache, "
            f"and {shown(left)} are left: out of memory at the first long prompt"
        )
    ]
