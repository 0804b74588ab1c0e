"""The cheapest change that makes a plan fit.

A change has a price in what it costs the user, and the cheapest set of changes is taken:
another share for the cache costs nothing, a smaller prefill a little speed (2), sessions shorter
than the model allows nothing that was asked for (3, where no length was), an int8 cache next to no
accuracy (4), an int4 cache some (8), AWQ weights an hour of quantizing and some accuracy (16), and
each further set of GPUs is the dearest (64).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from agentcall_server.memory_plan import MemoryPlan, PlanRequest, can_split_heads, plan_memory
from agentcall_server.releases import LMDeployRelease, has_flag

_CACHE_SHARES = tuple(step / 100 for step in range(5, 100, 5))
_TP_SIZES = (1, 2, 4, 8, 16)
_MIN_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class PlanSuggestion:
    """A wish that fits, and what was changed, as options of `agentcall server plan`."""

    plan: MemoryPlan
    changes: tuple[str, ...]


def suggest_plan(failing_plan: MemoryPlan) -> PlanSuggestion | None:
    """The cheapest change after which it fits, or None if none of those known is enough."""
    wish = failing_plan.request
    candidates = sorted(_generate_changes(wish), key=lambda other: _compute_price(wish, other))
    for candidate in candidates:
        better = _find_fitting_cache(candidate)
        if better is not None:
            return PlanSuggestion(better, _describe_changes(wish, better.request))
    return None


def _generate_changes(request: PlanRequest) -> Iterator[PlanRequest]:
    """Every combination of changes but the share of the cache."""
    options = product(
        _list_kv_bits(request),
        _list_schemes(request),
        _list_prefills(request),
        _list_tp_sizes(request),
    )
    for kv_bits, scheme, prefill, tp in options:
        changed = replace(request, kv_bits=kv_bits, scheme=scheme, prefill=prefill, tp=tp)
        yield changed
        longest = plan_memory(changed).max_session_length
        if request.context is None and _MIN_CONTEXT <= longest < request.session_length:
            yield replace(changed, context=longest)


def _find_fitting_cache(request: PlanRequest) -> MemoryPlan | None:
    """With the share as it is or else the nearest one that fits."""
    shares = sorted({request.cache, *_CACHE_SHARES}, key=lambda share: abs(share - request.cache))
    for share in shares:
        tried = plan_memory(replace(request, cache=share))
        if tried.fits:
            return tried
    return None


def _list_kv_bits(request: PlanRequest) -> list[int]:
    if request.backend == "pytorch" and request.release < LMDeployRelease(0, 6):
        return [request.kv_bits]
    return [bits for bits in (16, 8, 4) if bits <= request.kv_bits]


def _list_schemes(request: PlanRequest) -> list[str]:
    is_plain = request.scheme == "16" and request.architecture.stored_scheme == "16"
    return ["16", "awq"] if is_plain else [request.scheme]


def _list_prefills(request: PlanRequest) -> list[int]:
    whole = request.prefill_tokens
    if not has_flag(request.release, "--max-prefill-token-num"):
        return [whole]
    return [tokens for tokens in (whole, whole // 2, whole // 4) if tokens]


def _list_tp_sizes(request: PlanRequest) -> list[int]:
    return [
        tp
        for tp in _TP_SIZES
        if tp == request.tp or (tp > request.tp and can_split_heads(request.architecture, tp))
    ]


def _compute_price(before: PlanRequest, after: PlanRequest) -> float:
    price = 64.0 * (after.tp / before.tp - 1)
    price += 16.0 * (after.scheme != before.scheme)
    price += {1.0: 0.0, 0.5: 4.0, 0.25: 8.0}[after.kv_bits / before.kv_bits]
    price += 3.0 * (after.session_length != before.session_length)
    return price + 2.0 * (before.prefill_tokens / after.prefill_tokens - 1)


def _describe_changes(before: PlanRequest, after: PlanRequest) -> tuple[str, ...]:
    changes: list[str] = []
    if after.cache != before.cache:
        changes.append(f"--cache {after.cache:g}")
    if after.prefill_tokens != before.prefill_tokens:
        changes.append(f"--prefill {after.prefill_tokens}")
    if after.session_length != before.session_length:
        changes.append(f"--context {after.session_length}")
    if after.kv_bits != before.kv_bits:
        changes.append(f"--kv int{after.kv_bits}")
    if after.scheme != before.scheme:
        changes.append("--quant w4a16")
    if after.tp != before.tp:
        changes.append(f"--tp {after.tp}")
    return tuple(changes)
