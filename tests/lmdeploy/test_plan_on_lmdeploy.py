"""The plan's figures beside LMDeploy 0.18.0's own functions, which run without a GPU."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
from environments import NoInterpreterError
from installation import python_with
from launch import STANDIN

from agentcall_server.kv_cache import BLOCK_TOKENS, make_kv_cache
from agentcall_server.language_models import ARCHITECTURES, find_architecture
from agentcall_server.memory_plan import PlanRequest, plan_memory
from agentcall_server.rope import RopeSettings, compute_ntk_base
from agentcall_server.units import GIB


def ask(questions: list[dict[str, object]]) -> Iterator[object]:
    """LMDeploy's answers, in order."""
    try:
        python = python_with("0.18.0", print)
    except NoInterpreterError as reason:
        pytest.skip(str(reason))
    done = subprocess.run(
        [str(python), str(STANDIN / "formulas.py")],
        input="\n".join(json.dumps(question) for question in questions),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(questions)
    return iter(answers)


def test_the_bytes_of_a_block_are_those_that_the_pytorch_engine_allocates() -> None:
    # pytorch/engine/cache_engine/plan.py, schema.py
    cases = [
        (model, bits, tp)
        for model, bits, tp in product(ARCHITECTURES, (16, 8, 4), (1, 2))
        if model.kv_heads % tp == 0
    ]
    answers = ask(
        [
            {
                "what": "block",
                "layers": model.layers,
                "heads": model.kv_heads,
                "head_dim": model.head_dim,
                "bits": bits,
                "tp": tp,
            }
            for model, bits, tp in cases
        ]
    )
    for (model, bits, tp), answer in zip(cases, answers, strict=True):
        ours = make_kv_cache(model, bits, backend="pytorch", tp=tp).block_bytes
        assert ours == answer, (model.name, bits, tp)


def test_small_tensors_are_rounded_up_as_in_the_pytorch_engine() -> None:
    # schema.py:27-42 aligns each tensor of a layer and block to 256 bytes
    tiny = [(heads, dim, bits) for heads in (1, 3) for dim in (2, 6, 64) for bits in (16, 8, 4)]
    answers = ask(
        [
            {"what": "block", "layers": 3, "heads": h, "head_dim": d, "bits": b, "tp": 1}
            for h, d, b in tiny
        ]
    )
    model = find_architecture("Llama-3.2-1B")
    for (heads, dim, bits), answer in zip(tiny, answers, strict=True):
        small = replace(model, layers=3, kv_heads=heads, head_dim=dim)
        assert make_kv_cache(small, bits, backend="pytorch", tp=1).block_bytes == answer


def test_what_the_pytorch_engine_sets_aside_and_how_many_blocks_are_left() -> None:
    # pytorch/engine/executor/base.py:183-240
    model = find_architecture("internlm2_5-7b-chat")
    wishes = [
        PlanRequest(
            model,
            size * GIB // 8,
            cache=ratio,
            backend="pytorch",
            kv_bits=bits,
            context=BLOCK_TOKENS,
        )
        for size in range(120, 320, 7)
        for ratio in (0.1, 0.4, 0.8, 0.95)
        for bits in (16, 4)
    ]
    plans = [made for made in map(plan_memory, wishes) if made.free > 0]
    answers = ask(
        [
            {
                "what": "runtime",
                "free": made.free,
                "block": made.kv_cache.block_bytes,
                "vocabulary": model.vocabulary,
                "ratio": made.request.cache,
                "prefill": 8192,
                "batch": made.request.batch,
            }
            for made in plans
        ]
    )
    halved = 0
    for made, answer in zip(plans, answers, strict=True):
        if answer is None:  # it would not start
            assert not made.fits
            continue
        assert [made.reserve, made.prefill, made.blocks] == answer, made.request
        halved += made.prefill < 8192
    assert halved, "no case reached the halving"


def test_the_base_of_dynamic_ntk_is_that_of_lmdeploy() -> None:
    # pytorch/backends/default/rotary_embedding.py:114-120
    cases = list(product((1e6, 5e7), (1.0, 2.0, 2.5), (32769, 65536, 262144), (64, 128)))
    answers = ask(
        [
            {
                "what": "ntk",
                "base": base,
                "factor": factor,
                "length": length,
                "trained": 32768,
                "head_dim": dim,
            }
            for base, factor, length, dim in cases
        ]
    )
    for (base, factor, length, dim), answer in zip(cases, answers, strict=True):
        rope = RopeSettings("dynamic", base, factor)
        ours = compute_ntk_base(rope, length=length, trained_length=32768, head_dim=dim)
        assert ours ** (-2 / dim) == pytest.approx(answer, rel=1e-4)
