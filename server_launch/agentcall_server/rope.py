"""Rotary embeddings beyond the trained length of a model: the scaling, its flags and its cost.

RoPE turns each pair of a head's d dimensions by position / base^(2i/d). Past the trained length L0
the slow pairs reach angles that the model has never seen. Two kinds of scaling are planned:

- dynamic NTK raises the base with the length L of a session:
  base' = base * (f * L / L0 - (f - 1)) ^ (d / (d - 2)), and does not change sessions within L0.
  The slowest pair stays within its trained angles for every factor f >= 1. A larger f also slows
  the middle pairs; InternLM2.5 ships 2.0 (7B) and 2.5 (20B).
  LMDeploy 0.18.0 pytorch/backends/default/rotary_embedding.py:114-120 (_ntk_inv_freq);
  turbomind v0.5.3 src/turbomind/models/llama/LlamaBatch.cc, "compute rope scaling factor".
- YaRN scales by a fixed factor L / L0, also in short sessions; Qwen documents it for its models.

The flags differ by version (read in the source of each):

- before 0.6 turbomind overwrites the model's factor by --rope-scaling-factor, whose default 0
  switches dynamic NTK off; and the flag affects only models whose own kind is dynamic;
- since 0.6 the model's own setting is kept unless the flag is given;
- 0.18.0 accepts --rope-scaling-factor and ignores it; --hf-overrides (since 0.9.2) is read by
  both engines.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Literal

from agentcall_server.model_files import ModelConfig
from agentcall_server.releases import LMDeployRelease

RopeKind = Literal["default", "linear", "dynamic", "yarn", "llama3"]
_KINDS: tuple[RopeKind, ...] = ("default", "linear", "dynamic", "yarn", "llama3")
_YARN_FAMILIES = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
DEFAULT_FACTOR = 2.0
"""The factor for a model without one: that of InternLM2.5 and of LMDeploy's example."""


@dataclass(frozen=True, slots=True)
class RopeSettings:
    """A model's own setting; `original_length` is the length before scaling, 0 if unknown."""

    kind: RopeKind = "default"
    base: float = 10000.0
    factor: float = 1.0
    original_length: int = 0


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """The scaling for sessions that are longer than the trained length.

    alpha: the factor of the base before the exponent. base: the base at full length (dynamic NTK
    only). flags: the flags of LMDeploy. cost: a sentence about the loss of accuracy.
    """

    kind: RopeKind
    factor: float
    alpha: float
    base: float
    flags: tuple[str, ...]
    cost: str


def read_rope(language: ModelConfig) -> RopeSettings:
    """Return the setting of a config.json of transformers 4 (rope_scaling) or 5 (rope_parameters).

    An unknown kind is read as default, because it only matters past the trained length.
    """
    scaling = language.get_section("rope_parameters", "rope_scaling")
    if scaling is None:
        return RopeSettings(base=language.get_float("rope_theta", 10000.0))
    kind = scaling.get_str("rope_type", "type")
    return RopeSettings(
        kind=kind if kind in _KINDS else "default",
        base=scaling.get_float("rope_theta", language.get_float("rope_theta", 10000.0)),
        factor=scaling.get_float("factor", 1.0),
        original_length=scaling.get_int("original_max_position_embeddings", 0),
    )


def compute_unscaled_length(rope: RopeSettings, trained_length: int) -> int:
    """Return the longest session in tokens that needs no scaling."""
    if rope.kind == "yarn" and rope.original_length:
        return max(trained_length, int(rope.original_length * rope.factor))
    return trained_length


def compute_ntk_alpha(factor: float, *, length: int, trained_length: int) -> float:
    """Return alpha of dynamic NTK at this length; 1 within the trained length."""
    if length <= trained_length:
        return 1.0
    return factor * length / trained_length - (factor - 1)


def compute_ntk_base(
    rope: RopeSettings, *, length: int, trained_length: int, head_dim: int
) -> float:
    """Return the base of dynamic NTK in a session of this length.

    >>> rope = RopeSettings("dynamic", 1e6, 2.0)
    >>> round(compute_ntk_base(rope, length=65536, trained_length=32768, head_dim=128))
    3052774
    """
    alpha = compute_ntk_alpha(rope.factor, length=length, trained_length=trained_length)
    return float(rope.base * alpha ** (head_dim / (head_dim - 2)))


@dataclass(frozen=True, slots=True)
class ContextExtension:
    """A request for sessions of `length` tokens of a model trained for `trained_length`."""

    rope: RopeSettings
    kind: str
    head_dim: int
    trained_length: int
    length: int

    def plan_scaling(self, release: LMDeployRelease) -> RopeScaling | None:
        """Return the scaling for a release, or None if none is needed."""
        if self.length <= compute_unscaled_length(self.rope, self.trained_length):
            return None
        if self.kind in _YARN_FAMILIES and release >= LMDeployRelease(0, 9, 2):
            return self._plan_yarn()
        return self._plan_dynamic(release)

    def _plan_dynamic(self, release: LMDeployRelease) -> RopeScaling:
        is_own = self.rope.kind == "dynamic" and self.rope.factor >= 1
        factor = self.rope.factor if is_own else DEFAULT_FACTOR
        rope = RopeSettings("dynamic", self.rope.base, factor)
        alpha = compute_ntk_alpha(factor, length=self.length, trained_length=self.trained_length)
        base = compute_ntk_base(
            rope, length=self.length, trained_length=self.trained_length, head_dim=self.head_dim
        )
        if release < LMDeployRelease(0, 6) and not is_own:
            cost = f"LMDeploy {release} cannot scale this model; 0.6 and later can"
            return RopeScaling("dynamic", factor, alpha, base, (), cost)
        cost = (
            f"dynamic NTK by {factor:g} ({'the' if is_own else 'not the'} model's own factor): "
            f"sessions past {self.trained_length} tokens use RoPE base {base:,.0f} instead of "
            f"{self.rope.base:,.0f} and their answers are worse; shorter ones do not change"
        )
        flags = _build_dynamic_flags(rope, is_own=is_own, release=release)
        return RopeScaling("dynamic", factor, alpha, base, flags, cost)

    def _plan_yarn(self) -> RopeScaling:
        factor = max(1.0, float(math.ceil(self.length / self.trained_length)))
        cost = (
            f"YaRN: all sessions use RoPE scaled by {factor:g}, also short ones, which costs "
            f"a little accuracy; leave it out if {self.trained_length} tokens are enough"
        )
        settings: dict[str, object] = {
            "rope_theta": self.rope.base,
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": self.trained_length,
        }
        # turbomind takes the factor from the two lengths, not from the setting
        # (v0.18.0 turbomind/models/utils.py:154-157)
        longest = int(self.trained_length * factor)
        flags = _build_overrides({"rope_scaling": settings, "max_position_embeddings": longest})
        return RopeScaling("yarn", factor, factor, self.rope.base, flags, cost)


def _build_dynamic_flags(
    rope: RopeSettings, *, is_own: bool, release: LMDeployRelease
) -> tuple[str, ...]:
    by_flag = ("--rope-scaling-factor", f"{rope.factor:g}")
    if release < LMDeployRelease(0, 6):
        return by_flag
    if is_own:
        return ()
    settings = {"rope_theta": rope.base, "rope_type": "dynamic", "factor": rope.factor}
    overridden = (
        _build_overrides({"rope_scaling": settings}) if release >= LMDeployRelease(0, 9, 2) else ()
    )
    return (*by_flag, *overridden)


def _build_overrides(settings: dict[str, object]) -> tuple[str, ...]:
    return ("--hf-overrides", json.dumps(settings, separators=(",", ":")))
