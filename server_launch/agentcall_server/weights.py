"""Bytes of a model's weights on each GPU, for each engine, and on disk.

Weight quantization affects the matrices of the layers only; embedding, output head, norms and
biases stay at 16 bits. So a 7B model at 4 bits takes 4.9 GiB, not a quarter of 14.4.

- AWQ and GPTQ: 4 bits a weight, and for each group of 128 a scale of 16 bits and a zero point: of
  16 bits in turbomind, which stores the two together; of 4 bits on disk and in the pytorch engine
  (LMDeploy 0.18.0 lite/quantization/awq.py, pytorch/nn/linear/awq.py).
- smooth_quant (W8A8): 8 bits a weight and one scale of 32 bits for each output.
- FP8: 8 bits a weight and one scale of 32 bits for each 128 x 128.

turbomind splits embedding and head across the GPUs (0.18.0 turbomind/builders/text_model.py:43-54)
and keeps two copies if the model ties them (turbomind/models/llama.py:55); the pytorch engine
keeps both whole on every GPU (pytorch/models/llama.py:221, 316, 343).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from agentcall_server.architecture import ModelArchitecture
from agentcall_server.errors import BadValue

Backend = Literal["turbomind", "pytorch"]
SCHEMES = ("16", "awq", "gptq", "smooth_quant", "fp8")
_SCHEME_NAMES = {
    "16": ("16", "none", "hf", "bf16", "fp16", "16bit"),
    "awq": ("awq", "w4a16", "w4", "int4"),
    "gptq": ("gptq",),
    "smooth_quant": ("smooth_quant", "w8a8"),
    "fp8": ("fp8",),
}
HALF_BYTES = 2
"""Bytes of a 16-bit number."""


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """Bytes on one GPU; the whole vision model is on the first GPU."""

    language: int
    vision: int

    @property
    def total(self) -> int:
        return self.language + self.vision


def parse_scheme(text: str) -> str:
    """Return one of SCHEMES by any of its names. Raises BadValue."""
    for scheme, names in _SCHEME_NAMES.items():
        if text.strip().lower() in names:
            return scheme
    known = "none (16 bit), w4a16 (awq), gptq, w8a8 (smooth_quant), fp8"
    raise BadValue(f"{text!r} is not a quantization of weights; there are {known}")


def compute_gpu_weights(
    architecture: ModelArchitecture, scheme: str, *, backend: Backend, tp: int
) -> WeightBytes:
    """Return the bytes of the weights on the fullest of `tp` GPUs."""
    zero_bits = 16 if backend == "turbomind" else 4
    share = _compute_gpu_share(architecture, tp)
    matrices = _compute_matrix_bytes(architecture, scheme, zero_bits) * share
    ends = float(architecture.embedding_parameters * HALF_BYTES)
    if backend == "turbomind":
        ends *= 2 / tp
    elif not architecture.has_tied_embeddings:
        ends *= 2
    language = matrices + ends + architecture.small_parameters * HALF_BYTES
    return WeightBytes(math.ceil(language), architecture.vision_parameters * HALF_BYTES)


def compute_disk_bytes(architecture: ModelArchitecture, scheme: str) -> int:
    """Return the bytes of the checkpoint's weight files, without their headers."""
    ends = (1 if architecture.has_tied_embeddings else 2) * architecture.embedding_parameters
    rest = (ends + architecture.small_parameters + architecture.vision_parameters) * HALF_BYTES
    return math.ceil(_compute_matrix_bytes(architecture, scheme, 4)) + rest


def _compute_matrix_bytes(architecture: ModelArchitecture, scheme: str, zero_bits: int) -> float:
    count = architecture.linear_parameters
    match scheme:
        case "awq" | "gptq":
            return count * (0.5 + (16 + zero_bits) / 8 / architecture.group_size)
        case "smooth_quant":
            return count + 4 * architecture.layers * _count_outputs(architecture)
        case "fp8":
            return count * (1 + 4 / 128**2)
        case _:
            return count * HALF_BYTES


def _count_outputs(architecture: ModelArchitecture) -> int:
    """Return the number of outputs of one layer's matrices."""
    heads = (architecture.heads + 2 * architecture.kv_heads) * architecture.head_dim
    experts = architecture.experts
    width = architecture.width if experts is None else experts.count * experts.width
    rows = architecture.hidden * (1 if experts is None else experts.count)
    return heads + architecture.hidden + 2 * width + rows


def _compute_gpu_share(architecture: ModelArchitecture, tp: int) -> float:
    """Return the share of the matrices on one GPU; key and value heads are never split."""
    repeated = max(0, tp - architecture.kv_heads) * 2 * architecture.hidden * architecture.head_dim
    return (1 + repeated * architecture.layers / architecture.linear_parameters) / tp
