"""Bytes of LMDeploy's key-value cache for each token and block, on each GPU.

Per layer, key and value head and token: head_dim numbers, and if they are quantized a scale
and a zero point of 16 bits each. So int8 saves a factor of 1.94 at head_dim 128, not 2, and int4
3.76, not 4.

- turbomind: v0.5.3 src/turbomind/kernels/attention/block.h, Layout::token_data_size,
  token_param_size, layer_size, block_size; the same in v0.18.0 (object_cache_plan.cc,
  CreateDefaultAttentionCachePlan).
- pytorch: v0.18.0 pytorch/engine/cache_engine/schema.py:106-155, where each tensor of a layer and
  block is rounded up to 256 bytes (schema.py:27-42). v0.5.3 has no quantized cache there.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentcall_server.architecture import ModelArchitecture
from agentcall_server.errors import BadValue
from agentcall_server.weights import HALF_BYTES, Backend

BLOCK_TOKENS = 64
"""Tokens of a block: LMDeploy's default for --cache-block-seq-len."""
_ALIGNMENT = 256
_BITS_BY_NAME = {"16": 16, "none": 16, "0": 16, "8": 8, "int8": 8, "4": 4, "int4": 4}


@dataclass(frozen=True, slots=True)
class KVCache:
    """The cache of a model's layers on one of `tp` GPUs; `bits` is 16, 8 or 4."""

    layers: int
    heads: int
    head_dim: int
    bits: int
    backend: Backend

    @property
    def token_bytes(self) -> float:
        """Bytes per token."""
        return self.block_bytes / BLOCK_TOKENS

    @property
    def block_bytes(self) -> int:
        """Bytes per block of 64 tokens."""
        numbers = BLOCK_TOKENS * self.heads * self.head_dim * self.bits // 8
        scales = 0 if self.bits == 16 else BLOCK_TOKENS * self.heads * 2 * HALF_BYTES
        if self.backend == "pytorch":
            numbers, scales = _align(numbers), _align(scales)
        return self.layers * 2 * (numbers + scales)


def make_kv_cache(
    architecture: ModelArchitecture, bits: int, *, backend: Backend, tp: int
) -> KVCache:
    """Return the cache on each GPU. `tp` must fit the model (see `can_split_heads`)."""
    heads = max(1, architecture.kv_heads // tp)
    return KVCache(architecture.layers, heads, architecture.head_dim, bits, backend)


def parse_kv_bits(text: str) -> int:
    """Return 16, 8 or 4. Raises BadValue."""
    bits = _BITS_BY_NAME.get(text.strip().lower())
    if bits is None:
        raise BadValue(f"{text!r} is not a format of the key-value cache; there are 16, int8, int4")
    return bits


def count_blocks(tokens: int) -> int:
    """Return the number of blocks that a session of `tokens` tokens uses."""
    return -(-tokens // BLOCK_TOKENS)


def _align(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
