"""Answers with LMDeploy 0.18.0's own figures: questions are JSON lines, so are the answers.

    {"what": "block", "layers": 32, "heads": 8, "head_dim": 128, "bits": 8, "tp": 2}
    {"what": "runtime", "free": BYTES, "block": BYTES, "vocabulary": 92544, "ratio": 0.8,
     "prefill": 8192, "batch": 128}
    {"what": "ntk", "base": 1e6, "factor": 2.0, "length": 65536, "trained": 32768, "head_dim": 128}
"""

import json
import sys
from types import SimpleNamespace

import torch
from lmdeploy.messages import QuantPolicy
from lmdeploy.pytorch.backends.default.rotary_embedding import LlamaDynamicNTKScalingRotaryEmbedding
from lmdeploy.pytorch.config import CacheConfig, ModelConfig
from lmdeploy.pytorch.engine.cache_engine.plan import build_block_cache_plan
from lmdeploy.pytorch.engine.executor.base import ExecutorBase, _WorkerCachePlanSizes

POLICIES = {16: QuantPolicy.NONE, 8: QuantPolicy.INT8, 4: QuantPolicy.INT4}


def block(layers, heads, head_dim, bits, tp):
    model = ModelConfig(
        hidden_size=heads * head_dim,
        num_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        bos_token_id=1,
        eos_token_id=[2],
        dtype=torch.bfloat16,
    )
    return build_block_cache_plan(model, _cache(quant_policy=POLICIES[bits]), tp).logical_block_nbytes


def runtime(free, block, vocabulary, ratio, prefill, batch):
    """Bytes set aside, tokens of a prefill, blocks."""
    cache = _cache(cache_max_entry_count=ratio, max_prefill_token_num=prefill, max_batches=batch)
    executor = SimpleNamespace(
        cache_config=cache,
        _get_rank_cache_block_sizes=ExecutorBase._get_rank_cache_block_sizes,
        _get_dsa_score_workspace_size=lambda: 0,
        _get_min_num_gpu_blocks=ExecutorBase._get_min_num_gpu_blocks,
    )
    try:
        size, tokens = ExecutorBase._get_runtime_size(
            executor, [free], [_WorkerCachePlanSizes(block)], vocabulary
        )
        available = int((free - size) * ratio)
        return [size, tokens, ExecutorBase._get_min_num_gpu_blocks([available], [block])]
    except RuntimeError:  # fewer than three blocks
        return None


def ntk(base, factor, length, trained, head_dim):
    """The second inverse frequency, which is base ** (-2 / head_dim)."""
    rope = LlamaDynamicNTKScalingRotaryEmbedding(head_dim, base, factor, trained)
    return float(rope._ntk_inv_freq(torch.tensor(length))[1])


def _cache(max_batches=128, **more):
    return CacheConfig(
        max_batches=max_batches, block_size=64, num_cpu_blocks=0, num_gpu_blocks=0, **more
    )


QUESTIONS = {"block": block, "runtime": runtime, "ntk": ntk}

if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(QUESTIONS[asked.pop("what")](**asked)))
