"""Rotary embeddings beyond the length that a model was trained for: which scaling, and its cost.

RoPE turns each pair of a head's d dimensions by position / base^(2i/d). Past the trained length L0
the slow pairs reach angles the model has never seen. Two ways to stretch are planned:

- dynamic NTK raises the base with the length L of a session:
  base' = base * (f * L / L0 - (f - 1)) ^ (d / (d - 2)), and leaves sessions within L0 as they were.
  The slowest pair stays within its trained angles for every factor f >= 1. A larger f also slows
  the middle pairs; InternLM2.5 ships 2.0 (7B) and 2.5 (20B).
  LMDeploy 0.18.0 pytorch/backends/default/rotary_embedding.py:114-120 (_ntk_inv_freq);
  turbomind v0.5.3 src/turbomind/models/llama/LlamaBatch.cc, "compute rope scaling factor".
- YaRN scales by a fixed factor L / L0, short sessions too; Qwen documents it for its models.

The flags differ by version (read in the source of each):

- before 0.6 turbomind overwrites the model's factor by --rope-scaling-factor, whose default 0
  switches dynamic NTK off; and the flag reaches only models that are dynamic of themselves;
- 0.6 on, the model's own setting is kept unless the flag is given;
- 0.18.0 accepts --rope-scaling-factor and uses it nowhere; --hf-overrides (since 0.9.2) is read by
  both engines.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Literal

from agentcall_server.model_config import ModelConfig
from agentcall_server.releases import LMDeployRelease

RopeKind = Literal["default", "linear", "dynamic", "yarn", "llama3"]
_KINDS: tuple[RopeKind, ...] = ("default", "linear", "dynamic", "yarn", "llama3")
_YARN_FAMILIES = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
DEFAULT_FACTOR = 2.0
"""The factor for a model that brings none: that of InternLM2.5 and of LMDeploy's own example."""


@dataclass(frozen=True, slots=True)
class RopeSettings:
    """A model's own setting; `original` is the length before scaling, 0 if the file has none."""

    kind: RopeKind = "default"
    base: float = 10000.0
    factor: float = 1.0
    original_length: int = 0


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How sessions past the trained length are served.

    `alpha` is what the base is multiplied by before its exponent, `base` the base at full length
    (dynamic NTK only), `flags` what LMDeploy has to be told.
    """

    kind: RopeKind
    factor: float
    alpha: float
    base: float
    flags: tuple[str, ...]
    cost: str


def read_rope(language: ModelConfig) -> RopeSettings:
    """The setting of a config.json, as transformers 4 (rope_scaling) or 5 (rope_parameters) has it.

    A kind that is not known counts as default: it only matters past the trained length.
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
    """The longest session in tokens that needs no stretching."""
    if rope.kind == "yarn" and rope.original_length:
        return max(trained_length, int(rope.original_length * rope.factor))
    return trained_length


def compute_ntk_alpha(factor: float, *, length: int, trained_length: int) -> float:
    """How far dynamic NTK is at this length; 1 within the trained one."""
    if length <= trained_length:
        return 1.0
    return factor * length / trained_length - (factor - 1)


def compute_ntk_base(
    rope: RopeSettings, *, length: int, trained_length: int, head_dim: int
) -> float:
    """The base that dynamic NTK gives a session of this length.

    >>> round(ntk_base(Rope("dynamic", 1e6, 2.0), length=65536, trained=32768, head_dim=128))
    3052774
    """
    alpha = compute_ntk_alpha(rope.factor, length=length, trained_length=trained_length)
    return float(rope.base * alpha ** (head_dim / (head_dim - 2)))


@dataclass(frozen=True, slots=True)
class ContextExtension:
    """What is asked of a model: sessions of `length` where it was trained for `trained` tokens."""

    rope: RopeSettings
    kind: str
    head_dim: int
    trained_length: int
    length: int

    def plan_scaling(self, release: LMDeployRelease) -> RopeScaling | None:
        """How to serve it, or None if nothing is needed."""
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
            cost = f"LMDeploy {release} cannot stretch this model; 0.6 and later can"
            return RopeScaling("dynamic", factor, alpha, base, (), cost)
        cost = (
            f"dynamic NTK by {factor:g} ({'the' if is_own else 'not the'} model's own factor): "
            f"sessions past {self.trained_length} tokens run with RoPE base {base:,.0f} instead of "
            f"{self.rope.base:,.0f} and answer worse there; shorter ones are as before"
        )
        flags = _build_dynamic_flags(rope, is_own=is_own, release=release)
        return RopeScaling("dynamic", factor, alpha, base, flags, cost)

    def _plan_yarn(self) -> RopeScaling:
        factor = max(1.0, float(math.ceil(self.length / self.trained_length)))
        cost = (
            f"YaRN: all sessions run with RoPE scaled by {factor:g}, short ones too, which costs "
            f"them a little accuracy; leave it out where {self.trained_length} tokens are enough"
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
