"""The memory plan: LMDeploy's own formulas, the article's figures, and what must always hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rows import each_row

from agentcall_server.errors import BadValue
from agentcall_server.kv_cache import BLOCK_TOKENS, make_kv_cache
from agentcall_server.language_models import ARCHITECTURES, find_architecture
from agentcall_server.memory_overhead import CUDA_CONTEXT_BYTES, estimate_turbomind_prefill
from agentcall_server.memory_plan import (
    MemoryPlan,
    PlanRequest,
    build_serve_command,
    can_split_heads,
    plan_memory,
)
from agentcall_server.releases import NEWEST_RELEASE, LMDeployRelease
from agentcall_server.suggestion import suggest_plan
from agentcall_server.units import GIB
from agentcall_server.weights import Backend, compute_disk_bytes, compute_gpu_weights

SEVEN = find_architecture("internlm2_5-7b-chat")
SMALL = find_architecture("internlm2_5-1_8b-chat")
CARD = 24 * GIB
BACKENDS: tuple[Backend, ...] = ("turbomind", "pytorch")

# --- the article -------------------------------------------------------------------------------
# Its figures are what the monitor showed, in GB of 2^30 bytes. It explains them by round numbers:
# weights of 14 (ours: 14.41, 7.74e9 parameters rather than 7e9) or 3.5 (ours: 4.87, as embedding
# and head stay at 16 bits and every 128 weights bring a scale and a zero point), a cache of
# ratio * (24 - weights) (ours: less 0.5 for the CUDA context, rounded down to blocks), and "1" for
# the rest (ours: the context, and what a prefill of 8192 tokens takes, which depends on the model).


@pytest.mark.parametrize(
    ("wish", "article", "weights", "cache"),
    [
        (PlanRequest(SEVEN, CARD), 23.0, 14.41, 7.27),
        (PlanRequest(SEVEN, CARD, cache=0.4), 19.0, 14.41, 3.63),
        (PlanRequest(SEVEN, CARD, scheme="awq"), 20.9, 4.87, 14.91),
        (PlanRequest(SMALL, CARD, scheme="awq", kv_bits=4, cache=0.4), 11.3, 1.45, 8.82),
    ],
    ids=["7B at 0.8", "7B at 0.4", "7B W4A16", "1.8B W4A16 with an int4 cache at 0.4"],
)
def test_the_figures_of_the_article(
    wish: PlanRequest, article: float, weights: float, cache: float
) -> None:
    made = plan_memory(wish)
    assert made.weights.total / GIB == pytest.approx(weights, abs=0.01)
    assert made.cache / GIB == pytest.approx(cache, abs=0.01)
    assert made.peak_bytes / GIB == pytest.approx(article, abs=0.35)


def test_a_figure_measured_on_an_80_gib_card() -> None:
    # a reader of the article saw 41833 MiB for `lmdeploy chat ... --cache-max-entry-count 0.4`,
    # before the first question; https://jishuzhan.net/article/1829890335866621954
    made = plan_memory(PlanRequest(SEVEN, 80 * GIB, cache=0.4))
    assert made.bytes_at_start / GIB == pytest.approx(41833 / 1024, abs=0.1)


# --- LMDeploy's formulas; tests/lmdeploy compares with LMDeploy itself --------------------------


@each_row(
    ("name", "bits", "token_bytes"),
    [
        ("internlm2_5-7b-chat", 16, 131072),
        ("internlm2_5-7b-chat", 8, 67584),
        ("internlm2_5-7b-chat", 4, 34816),
        ("internlm2_5-1_8b-chat", 16, 98304),
        ("internlm2_5-1_8b-chat", 8, 50688),
        ("internlm2_5-1_8b-chat", 4, 26112),
    ],
)
@each_row("backend", BACKENDS)
def test_bytes_of_a_token_in_the_cache(
    name: str, bits: int, token_bytes: int, backend: Backend
) -> None:
    # turbomind: v0.5.3 block.h Layout::layer_size; pytorch: v0.18.0 schema.py:106-155
    cache = make_kv_cache(find_architecture(name), bits, backend=backend, tp=1)
    assert cache.token_bytes == token_bytes


def test_key_value_heads_are_dealt_and_never_split() -> None:
    # v0.18.0 turbomind/builders/attention.py:28-40, pytorch/configurations/builder.py:62-73
    whole = make_kv_cache(SEVEN, 16, backend="turbomind", tp=1).token_bytes
    assert make_kv_cache(SEVEN, 16, backend="turbomind", tp=8).token_bytes == whole / 8
    assert make_kv_cache(SEVEN, 16, backend="turbomind", tp=16).token_bytes == whole / 8


def test_weights_of_16_bits_take_two_bytes_a_parameter() -> None:
    weights = compute_gpu_weights(SEVEN, "16", backend="turbomind", tp=1)
    assert weights.total == 2 * SEVEN.total_parameters == compute_disk_bytes(SEVEN, "16")


def test_awq_leaves_embedding_and_head_at_16_bits() -> None:
    # a reader's folder of internlm2_5-7b-chat by AWQ: 4.9 G (du), of the 16-bit model 15 G
    assert compute_disk_bytes(SEVEN, "awq") / GIB == pytest.approx(4.79, abs=0.01)
    linears = SEVEN.linear_parameters * (0.5 + 2 / 128 + 0.5 / 128)
    rest = 2 * (2 * SEVEN.embedding_parameters + SEVEN.small_parameters)
    assert compute_disk_bytes(SEVEN, "awq") == linears + rest


def test_turbomind_keeps_two_copies_of_a_tied_embedding() -> None:
    # v0.18.0 turbomind/models/llama.py:55; pytorch/models/llama.py:343
    tied = find_architecture("Qwen2.5-1.5B")
    both = compute_gpu_weights(tied, "16", backend="turbomind", tp=1).total
    one = compute_gpu_weights(tied, "16", backend="pytorch", tp=1).total
    assert both - one == 2 * tied.embedding_parameters


def test_the_vision_model_lies_on_one_gpu_whole() -> None:
    model = find_architecture("InternVL2-26B")
    halves = compute_gpu_weights(model, "16", backend="turbomind", tp=2)
    assert halves.vision == 2 * model.vision_parameters
    assert (
        compute_gpu_weights(model, "awq", backend="turbomind", tp=1).vision
        == 2 * model.vision_parameters
    )


def test_turbomind_divides_what_is_free_after_the_weights() -> None:
    # v0.5.3 LlamaBatch.cc:940-985, BlockManager.cc:101-105: floor(free * ratio / block)
    made = plan_memory(PlanRequest(SEVEN, CARD))
    assert made.free == CARD - CUDA_CONTEXT_BYTES - 2 * SEVEN.total_parameters
    assert made.blocks == int(made.free * 0.8) // (131072 * BLOCK_TOKENS)


def test_pytorch_sets_the_prefill_aside_first() -> None:
    # v0.18.0 pytorch/engine/executor/base.py:227-235
    made = plan_memory(PlanRequest(SEVEN, CARD, backend="pytorch"))
    assert made.reserve == (8192 + 2 * 128) * 92544 * 2
    assert made.blocks == int((made.free - made.reserve) * 0.8) // (131072 * BLOCK_TOKENS)


def test_the_old_pytorch_engine_sets_aside_more_for_a_token() -> None:
    # v0.5.3 pytorch/engine/model_agent.py:52-55, messages.py:211
    made = plan_memory(
        PlanRequest(SEVEN, CARD, backend="pytorch", release=LMDeployRelease(0, 5, 3))
    )
    assert made.reserve == 4096 * 92544 * 7


def test_pytorch_halves_the_prefill_until_16_blocks_fit() -> None:
    halved = [made for made in _around_the_edge() if made.prefill < 8192 and made.fits]
    assert halved
    assert all(made.blocks >= 16 for made in halved)


def test_pytorch_gives_up_where_two_blocks_are_left_before_it_halves() -> None:
    # v0.18.0 pytorch/engine/executor/base.py:183-195, called from within the halving
    lost = [made for made in _around_the_edge() if made.blocks <= 2]
    assert lost
    assert all(made.prefill == 8192 for made in lost)
    assert all("would not start" in made.problems[0].message for made in lost)


def test_a_halved_prefill_leaves_a_smaller_gpu_more_cache() -> None:
    # LMDeploy's own arithmetic: at the edge less memory gives more tokens
    made = _around_the_edge()
    assert any(a.tokens > b.tokens and a.prefill < b.prefill for a, b in pairwise(made))


def _around_the_edge() -> list[MemoryPlan]:
    """Plans of the pytorch engine on GPUs that are just too small or just large enough."""
    sizes = [size * GIB // 400 for size in range(6400, 6800)]
    return [plan_memory(PlanRequest(SEVEN, size, backend="pytorch", context=64)) for size in sizes]


# --- what does not fit, and the way out ---------------------------------------------------------


def test_weights_that_do_not_fit_are_the_only_problem_told() -> None:
    made = plan_memory(PlanRequest(SEVEN, 8 * GIB))
    assert len(made.problems) == 1
    assert "weights (14.41 GiB)" in made.problems[0].message


def test_a_session_that_does_not_fit_is_told_with_its_size() -> None:
    made = plan_memory(PlanRequest(SEVEN, CARD, cache=0.4))
    assert not made.fits
    assert "one session of 32,768 tokens needs 4.00 GiB" in made.problems[0].message


def test_sessions_beyond_the_cache_would_wait() -> None:
    made = plan_memory(PlanRequest(SEVEN, CARD, context=8192, sessions=12))
    assert "7 of 12 sessions of 8,192 tokens" in made.problems[0].message


def test_a_cache_that_leaves_no_room_for_a_prefill_is_told() -> None:
    made = plan_memory(PlanRequest(SEVEN, CARD, cache=0.95))
    assert "a prefill of 8192 tokens needs 0.78 GiB" in made.problems[0].message


def test_other_programs_take_their_part() -> None:
    assert (
        plan_memory(PlanRequest(SEVEN, CARD, used=GIB)).free
        == plan_memory(PlanRequest(SEVEN, CARD)).free - GIB
    )


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (PlanRequest(SEVEN, CARD, scheme="smooth_quant"), "turbomind does not serve smooth_quant"),
        (
            PlanRequest(SEVEN, CARD, scheme="gptq", release=LMDeployRelease(0, 5, 3)),
            "does not serve GPTQ",
        ),
        (
            PlanRequest(
                SEVEN, CARD, backend="pytorch", kv_bits=8, release=LMDeployRelease(0, 5, 3)
            ),
            "no quantized cache",
        ),
        (
            PlanRequest(replace(SEVEN, class_names=("Gemma3ForCausalLM",)), CARD),
            "turbomind does not serve Gemma3ForCausalLM",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_told(wish: PlanRequest, words: str) -> None:
    assert words in plan_memory(wish).problems[0].message


@each_row(
    ("change", "words"),
    [
        ({"cache": 0.0}, "between 0 and 1"),
        ({"cache": 1.0}, "between 0 and 1"),
        ({"cache": 80.0}, "between 0 and 1"),
        ({"sessions": 0}, "give at least 1"),
        ({"tp": 0}, "cannot be split"),
        ({"tp": 3}, "the 32 attention heads .* 1, 2, 4, 8, 16"),
    ],
)
def test_nonsense_is_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(BadValue, match=words):
        plan_memory(replace(PlanRequest(SEVEN, CARD), **change))  # type: ignore[arg-type]


def test_heads_that_cannot_be_copied_are_refused() -> None:
    odd = replace(SEVEN, heads=24, kv_heads=6)
    with pytest.raises(BadValue, match="key-value heads"):
        plan_memory(PlanRequest(odd, CARD, tp=4))


def test_a_quantized_model_is_not_quantized_again() -> None:
    with pytest.raises(BadValue, match="quantized by awq already"):
        plan_memory(PlanRequest(replace(SEVEN, stored_scheme="awq"), CARD, scheme="gptq"))


@each_row(
    ("wish", "changes"),
    [
        (PlanRequest(SEVEN, CARD, cache=0.4), ("--cache 0.45",)),
        (PlanRequest(SEVEN, CARD, cache=0.95), ("--cache 0.9",)),
        (PlanRequest(SEVEN, CARD, context=8192, sessions=8), ("--cache 0.9",)),
        (PlanRequest(SEVEN, CARD, context=8192, sessions=12), ("--kv int8",)),
        (PlanRequest(SEVEN, CARD, context=8192, sessions=24), ("--kv int4",)),
        (PlanRequest(SEVEN, 12 * GIB), ("--quant w4a16",)),
        (PlanRequest(find_architecture("Qwen2.5-72B"), 80 * GIB), ("--quant w4a16",)),
    ],
)
def test_the_cheapest_change_is_named(wish: PlanRequest, changes: tuple[str, ...]) -> None:
    found = suggest_plan(plan_memory(wish))
    assert found is not None
    assert found.changes == changes
    assert found.plan.fits


def test_a_context_that_was_not_asked_for_may_shrink() -> None:
    found = suggest_plan(plan_memory(PlanRequest(find_architecture("Llama-3.1-8B"), CARD)))
    assert found is not None
    assert [change.partition(" ")[0] for change in found.changes][-1] == "--context"


def test_where_nothing_helps_nothing_is_promised() -> None:
    assert (
        suggest_plan(plan_memory(PlanRequest(find_architecture("Qwen3-235B-A22B"), 4 * GIB)))
        is None
    )


# --- the command -------------------------------------------------------------------------------


def flags(wish: PlanRequest) -> str:
    return " ".join(build_serve_command(plan_memory(wish)))


def test_the_command_says_what_was_planned() -> None:
    wish = PlanRequest(SEVEN, CARD, scheme="awq", kv_bits=4, cache=0.5, context=16384, tp=2)
    assert flags(wish) == (
        "lmdeploy serve api_server internlm2_5-7b-chat-awq --backend turbomind "
        "--server-name 127.0.0.1 --cache-max-entry-count 0.5 --session-len 16384 "
        "--model-format awq --quant-policy 4 --tp 2 "
        "--tool-call-parser internlm --enable-prefix-caching --trust-remote-code"
    )


def test_an_old_release_gets_no_flag_that_it_does_not_know() -> None:
    words = flags(PlanRequest(SEVEN, CARD, release=LMDeployRelease(0, 5, 3)))
    assert "--tool-call-parser" not in words
    assert "--trust-remote-code" not in words


def test_a_prefill_of_your_own_is_passed_on() -> None:
    assert "--max-prefill-token-num 2048" in flags(PlanRequest(SEVEN, CARD, prefill=2048))
    assert "--max-prefill-token-num" not in flags(PlanRequest(SEVEN, CARD, prefill=8192))


def test_a_quantized_folder_is_served_as_it_is() -> None:
    stored = replace(SEVEN, name="/models/mine", stored_scheme="awq")
    words = flags(PlanRequest(stored, CARD, scheme="awq"))
    assert "api_server /models/mine " in words
    assert "--model-format awq" in words


# --- what must always hold ----------------------------------------------------------------------


@st.composite
def wishes(draw: st.DrawFn, backend: Backend | None = None) -> PlanRequest:
    model = draw(st.sampled_from(ARCHITECTURES))
    return PlanRequest(
        model,
        draw(st.integers(2, 200)) * GIB + draw(st.integers(0, GIB)),
        scheme=draw(st.sampled_from(["16", "awq"])),
        kv_bits=draw(st.sampled_from([16, 8, 4])),
        cache=draw(st.integers(1, 99)) / 100,
        context=draw(st.integers(1, 2 * model.trained_length)),
        sessions=draw(st.integers(1, 64)),
        tp=draw(st.sampled_from([tp for tp in (1, 2, 4, 8) if can_split_heads(model, tp)])),
        backend=backend or draw(st.sampled_from(BACKENDS)),
        batch=draw(st.sampled_from([1, 128, 1024])),
    )


@given(wishes(backend="turbomind"), st.integers(0, 64 * GIB))
def test_more_memory_never_fits_less(wish: PlanRequest, more: int) -> None:
    less, larger = plan_memory(wish), plan_memory(replace(wish, gpu=wish.gpu + more))
    assert larger.tokens >= less.tokens
    assert larger.fits or not less.fits


@given(wishes(backend="pytorch"), st.integers(0, 64 * GIB))
def test_more_memory_never_fits_less_where_the_prefill_is_the_same(
    wish: PlanRequest, more: int
) -> None:
    less, larger = plan_memory(wish), plan_memory(replace(wish, gpu=wish.gpu + more))
    assume(less.prefill == larger.prefill)
    assert larger.tokens >= less.tokens
    assert larger.fits or not less.fits


@given(wishes(), st.integers(0, 100_000))
def test_a_longer_context_never_fits_more_sessions(wish: PlanRequest, more: int) -> None:
    longer = plan_memory(replace(wish, context=wish.session_length + more))
    assert longer.sessions <= plan_memory(wish).sessions
    assert longer.fits <= plan_memory(wish).fits


@given(wishes(), st.integers(1, 64))
def test_more_sessions_never_fit_better(wish: PlanRequest, more: int) -> None:
    assert plan_memory(replace(wish, sessions=wish.sessions + more)).fits <= plan_memory(wish).fits


@given(wishes())
def test_more_gpus_never_need_more_of_each(wish: PlanRequest) -> None:
    assume(can_split_heads(wish.architecture, 2 * wish.tp))
    one, two = plan_memory(wish), plan_memory(replace(wish, tp=2 * wish.tp))
    assert two.weights.total <= one.weights.total
    assert two.kv_cache.token_bytes <= one.kv_cache.token_bytes
    assert two.reserve <= one.reserve or wish.backend == "pytorch"


@given(wishes())
def test_fewer_bits_never_take_more(wish: PlanRequest) -> None:
    by_bits = [plan_memory(replace(wish, kv_bits=bits)).kv_cache.token_bytes for bits in (4, 8, 16)]
    assert by_bits == sorted(by_bits)
    plain, quantized = (
        plan_memory(replace(wish, scheme="16")),
        plan_memory(replace(wish, scheme="awq")),
    )
    assert quantized.weights.total < plain.weights.total


@given(wishes())
def test_what_fits_stays_within_the_gpu(wish: PlanRequest) -> None:
    made = plan_memory(wish)
    assume(made.fits)
    assert made.peak_bytes <= wish.gpu
    assert made.sessions >= wish.sessions
    assert made.max_session_length >= wish.session_length


# most wishes fit as they are, and some that do not have no remedy
@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(wishes())
def test_a_remedy_fits_and_keeps_what_was_asked_for(wish: PlanRequest) -> None:
    short = plan_memory(wish)
    assume(not short.fits)
    found = suggest_plan(short)
    assume(found is not None)
    assert found is not None
    assert found.plan.fits
    assert found.changes
    kept = found.plan.request
    assert (kept.session_length, kept.sessions, kept.gpu) == (
        wish.session_length,
        wish.sessions,
        wish.gpu,
    )


@given(
    wishes(), st.sampled_from([LMDeployRelease(0, 5, 3), LMDeployRelease(0, 9, 2), NEWEST_RELEASE])
)
def test_every_plan_has_a_command(wish: PlanRequest, release: LMDeployRelease) -> None:
    words = build_serve_command(plan_memory(replace(wish, release=release)))
    assert words[:3] == ["lmdeploy", "serve", "api_server"]
    assert all(words)


def test_the_estimate_of_a_prefill_counts_the_experts_that_are_active() -> None:
    experts = find_architecture("Qwen3-30B-A3B")
    numbers = 4 * experts.hidden + 2 * 8 * 768
    logits = 2 * 4 * 128 * experts.vocabulary
    assert estimate_turbomind_prefill(experts, 8192, batch=128, tp=1) == 8192 * numbers * 2 + logits
