"""The cheapest change that makes a plan fit.

A change has a price, which is what it costs the user, and the cheapest set of changes is chosen:
another share for the cache is free, a smaller prefill costs a little speed (2), sessions shorter
than the model allows cost nothing that was requested (3, if no length was given), an int8 cache
almost no accuracy (4), an int4 cache some (8), AWQ weights an hour of quantizing and some accuracy
(16), and each further set of GPUs the most (64).
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
    """A plan that fits, and the changes as options of `agentcall server plan`."""

    plan: MemoryPlan
    changes: tuple[str, ...]


def suggest_plan(failing_plan: MemoryPlan) -> PlanSuggestion | None:
    """Return the cheapest change that makes a plan fit, or None if there is none."""
    request = failing_plan.request
    candidates = _generate_changes(request)
    for candidate in sorted(candidates, key=lambda changed: _compute_price(request, changed)):
        shares = {candidate.cache, *_CACHE_SHARES}
        for share in sorted(shares, key=lambda share: abs(share - candidate.cache)):
            plan = plan_memory(replace(candidate, cache=share))
            if plan.fits:
                return PlanSuggestion(plan, _describe_changes(request, plan.request))
    return None


def _generate_changes(request: PlanRequest) -> Iterator[PlanRequest]:
    """Yield every combination of changes except the share of the cache."""
    release, architecture = request.release, request.architecture
    kv_bits = [bits for bits in (16, 8, 4) if bits <= request.kv_bits]
    if request.backend == "pytorch" and release < LMDeployRelease(0, 6):
        kv_bits = [request.kv_bits]
    is_plain = request.scheme == "16" and architecture.stored_scheme == "16"
    schemes = ["16", "awq"] if is_plain else [request.scheme]
    whole = request.prefill_tokens
    prefills = [tokens for tokens in (whole, whole // 2, whole // 4) if tokens]
    if not has_flag(release, "--max-prefill-token-num"):
        prefills = [whole]
    tp_sizes = [tp for tp in _TP_SIZES if tp > request.tp and can_split_heads(architecture, tp)]
    for bits, scheme, prefill, tp in product(kv_bits, schemes, prefills, [request.tp, *tp_sizes]):
        changed = replace(request, kv_bits=bits, scheme=scheme, prefill=prefill, tp=tp)
        yield changed
        longest = plan_memory(changed).max_session_length
        if request.context is None and _MIN_CONTEXT <= longest < request.session_length:
            yield replace(changed, context=longest)


def _compute_price(before: PlanRequest, after: PlanRequest) -> float:
    price = 64.0 * (after.tp / before.tp - 1)
    price += 16.0 * (after.scheme != before.scheme)
    price += {1.0: 0.0, 0.5: 4.0, 0.25: 8.0}[after.kv_bits / before.kv_bits]
    price += 3.0 * (after.session_length != before.session_length)
    return price + 2.0 * (before.prefill_tokens / after.prefill_tokens - 1)


def _describe_changes(before: PlanRequest, after: PlanRequest) -> tuple[str, ...]:
    changes = {
        f"--cache {after.cache:g}": after.cache != before.cache,
        f"--prefill {after.prefill_tokens}": after.prefill_tokens != before.prefill_tokens,
        f"--context {after.session_length}": after.session_length != before.session_length,
        f"--kv int{after.kv_bits}": after.kv_bits != before.kv_bits,
        "--quant w4a16": after.scheme != before.scheme,
        f"--tp {after.tp}": after.tp != before.tp,
    }
    return tuple(option for option, is_changed in changes.items() if is_changed)
