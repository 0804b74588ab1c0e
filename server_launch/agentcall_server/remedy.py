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

from agentcall_server.plan import Plan, Wish, plan, tp_suits
from agentcall_server.releases import Release, has_flag

_CACHES = tuple(step / 100 for step in range(5, 100, 5))
_TPS = (1, 2, 4, 8, 16)
_LEAST_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Remedy:
    """A wish that fits, and what was changed, as options of `agentcall server plan`."""

    plan: Plan
    changes: tuple[str, ...]


def remedy(short: Plan) -> Remedy | None:
    """The cheapest change after which it fits, or None if none of those known is enough."""
    wish = short.wish
    candidates = sorted(_harder(wish), key=lambda other: _price(wish, other))
    for candidate in candidates:
        better = _with_best_cache(candidate)
        if better is not None:
            return Remedy(better, _changes(wish, better.wish))
    return None


def _harder(wish: Wish) -> Iterator[Wish]:
    """Every combination of changes but the share of the cache."""
    options = product(_kv_bits(wish), _schemes(wish), _prefills(wish), _tps(wish))
    for kv_bits, scheme, prefill, tp in options:
        changed = replace(wish, kv_bits=kv_bits, scheme=scheme, prefill=prefill, tp=tp)
        yield changed
        longest = plan(changed).longest
        if wish.context is None and _LEAST_CONTEXT <= longest < wish.length:
            yield replace(changed, context=longest)


def _with_best_cache(wish: Wish) -> Plan | None:
    """With the share as it is or else the nearest one that fits."""
    shares = sorted({wish.cache, *_CACHES}, key=lambda share: abs(share - wish.cache))
    for share in shares:
        tried = plan(replace(wish, cache=share))
        if tried.fits:
            return tried
    return None


def _kv_bits(wish: Wish) -> list[int]:
    if wish.backend == "pytorch" and wish.release < Release(0, 6):
        return [wish.kv_bits]
    return [bits for bits in (16, 8, 4) if bits <= wish.kv_bits]


def _schemes(wish: Wish) -> list[str]:
    is_plain = wish.scheme == "16" and wish.architecture.stored_scheme == "16"
    return ["16", "awq"] if is_plain else [wish.scheme]


def _prefills(wish: Wish) -> list[int]:
    whole = wish.whole_prefill
    if not has_flag(wish.release, "--max-prefill-token-num"):
        return [whole]
    return [tokens for tokens in (whole, whole // 2, whole // 4) if tokens]


def _tps(wish: Wish) -> list[int]:
    return [
        tp for tp in _TPS if tp == wish.tp or (tp > wish.tp and tp_suits(wish.architecture, tp))
    ]


def _price(before: Wish, after: Wish) -> float:
    price = 64.0 * (after.tp / before.tp - 1)
    price += 16.0 * (after.scheme != before.scheme)
    price += {1.0: 0.0, 0.5: 4.0, 0.25: 8.0}[after.kv_bits / before.kv_bits]
    price += 3.0 * (after.length != before.length)
    return price + 2.0 * (before.whole_prefill / after.whole_prefill - 1)


def _changes(before: Wish, after: Wish) -> tuple[str, ...]:
    changes: list[str] = []
    if after.cache != before.cache:
        changes.append(f"--cache {after.cache:g}")
    if after.whole_prefill != before.whole_prefill:
        changes.append(f"--prefill {after.whole_prefill}")
    if after.length != before.length:
        changes.append(f"--context {after.length}")
    if after.kv_bits != before.kv_bits:
        changes.append(f"--kv int{after.kv_bits}")
    if after.scheme != before.scheme:
        changes.append("--quant w4a16")
    if after.tp != before.tp:
        changes.append(f"--tp {after.tp}")
    return tuple(changes)
