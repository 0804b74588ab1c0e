"""RoPE past the trained length: the formulas, and the flags of each release."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcall_server.language_models import find_architecture
from agentcall_server.memory_plan import PlanRequest, build_serve_command, plan_memory
from agentcall_server.releases import NEWEST_RELEASE, LMDeployRelease
from agentcall_server.rope import (
    RopeSettings,
    compute_ntk_alpha,
    compute_ntk_base,
    compute_unscaled_length,
)
from agentcall_server.units import GIB

OLD = LMDeployRelease(0, 5, 3)


def words(name: str, context: int, release: LMDeployRelease = NEWEST_RELEASE) -> list[str]:
    wish = PlanRequest(find_architecture(name), 80 * GIB, context=context, release=release)
    return build_serve_command(plan_memory(wish))


@pytest.mark.parametrize("context", [1, 4096, 32768])
def test_within_the_trained_length_nothing_is_scaled(context: int) -> None:
    made = plan_memory(PlanRequest(find_architecture("internlm2_5-7b"), 80 * GIB, context=context))
    assert made.rope_scaling is None
    assert "--enable-prefix-caching" in build_serve_command(made)


def test_dynamic_ntk_at_twice_the_trained_length() -> None:
    # v0.18.0 pytorch/backends/default/rotary_embedding.py:117-118
    assert compute_ntk_alpha(2.0, length=65536, trained_length=32768) == 3.0
    base = compute_ntk_base(
        RopeSettings("dynamic", 1e6, 2.0), length=65536, trained_length=32768, head_dim=128
    )
    assert base == pytest.approx(1e6 * 3 ** (128 / 126))


@given(st.floats(1, 8), st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_longer_session_never_gets_a_smaller_base(factor: float, length: int, more: int) -> None:
    rope = RopeSettings("dynamic", 1e6, factor)
    shorter = compute_ntk_base(rope, length=length, trained_length=32768, head_dim=128)
    assert (
        compute_ntk_base(rope, length=length + more, trained_length=32768, head_dim=128)
        >= shorter
        >= 1e6
    )


@given(st.floats(1, 8), st.integers(32769, 10**6))
def test_the_slowest_pair_stays_within_its_trained_angles(factor: float, length: int) -> None:
    base = compute_ntk_base(
        RopeSettings("dynamic", 1e6, factor), length=length, trained_length=32768, head_dim=128
    )
    slowest = 126 / 128
    assert length / base**slowest <= 32768 / 1e6**slowest * (1 + 1e-9)


def test_internlm_is_dynamic_of_itself_and_needs_no_flag() -> None:
    made = words("internlm2_5-7b", 65536)
    assert "--rope-scaling-factor" not in made
    assert "--hf-overrides" not in made


def test_the_oldest_turbomind_switches_it_off_unless_told() -> None:
    # v0.5.3 turbomind/deploy/target_model/base.py:98-113 writes the flag's 0.0 over the model's
    made = words("internlm2_5-20b", 65536, OLD)
    assert made[made.index("--rope-scaling-factor") + 1] == "2.5"


def test_the_oldest_turbomind_cannot_stretch_what_is_not_dynamic_of_itself() -> None:
    # v0.5.3 LlamaBatch.cc reads the factor only under use_dynamic_ntk, which the flag does not set
    model = find_architecture("Llama-3.1-8B")
    made = plan_memory(PlanRequest(model, 80 * GIB, context=262144, release=OLD))
    assert made.rope_scaling is not None
    assert made.rope_scaling.flags == ()
    assert "cannot scale" in made.rope_scaling.cost


def test_a_model_that_is_not_dynamic_is_told_in_both_ways() -> None:
    # 0.18.0 accepts --rope-scaling-factor and reads it nowhere
    made = words("Llama-3.1-8B", 262144)
    assert made[made.index("--rope-scaling-factor") + 1] == "2"
    settings = json.loads(made[made.index("--hf-overrides") + 1])
    assert settings["rope_scaling"] == {"rope_theta": 5e5, "rope_type": "dynamic", "factor": 2.0}


def test_qwen_is_stretched_by_yarn_to_what_is_asked() -> None:
    made = words("Qwen2.5-7B", 100_000)
    settings = json.loads(made[made.index("--hf-overrides") + 1])
    assert settings["rope_scaling"]["factor"] == 4.0
    # v0.18.0 turbomind/models/utils.py:154-157 takes the factor from these two
    assert settings["max_position_embeddings"] == 131072
    assert settings["rope_scaling"]["original_max_position_embeddings"] == 32768


def test_prefixes_are_not_shared_where_the_base_depends_on_the_session() -> None:
    assert "--enable-prefix-caching" not in words("internlm2_5-7b", 65536)
    assert "--enable-prefix-caching" in words("Qwen2.5-7B", 65536)


def test_the_cost_is_told() -> None:
    made = plan_memory(PlanRequest(find_architecture("internlm2_5-7b"), 80 * GIB, context=65536))
    assert made.rope_scaling is not None
    assert "base 3,052,774 instead of 1,000,000" in made.rope_scaling.cost


def test_a_model_that_ships_with_yarn_reaches_further() -> None:
    assert compute_unscaled_length(RopeSettings("yarn", 1e6, 4.0, 32768), 32768) == 131072
