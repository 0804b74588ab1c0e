"""Memory besides weights and cache: the CUDA context and the buffers of a prefill.

- The pytorch engine, since 0.6, reserves (max_prefill_token_num + 2 * max_batch) * vocabulary * 2
  bytes before the cache is sized; while fewer than 16 blocks fit, max_prefill_token_num is halved,
  unless two or fewer fit, which is an error (LMDeploy 0.18.0
  pytorch/engine/executor/base.py:183-240). 0.5.3 reserves max_prefill_token_num * vocabulary * 7
  bytes and always halves (pytorch/engine/model_agent.py:45-59).
- turbomind reserves nothing: the cache gets its share of the memory that is free after the weights
  are loaded, and a prefill uses the rest. Its size is estimated here from the tensors of a layer
  (four of the hidden width, and gate and up projection) for max_prefill_token_num tokens, and the
  logits twice at 32 bits; with the context it explains the figures of docs/memory.md to within
  0.4 GiB. It was not measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentcall_server.architecture import ModelArchitecture
from agentcall_server.releases import LMDeployRelease
from agentcall_server.units import GIB
from agentcall_server.weights import HALF_BYTES

CUDA_CONTEXT_BYTES = GIB // 2
"""Bytes of the CUDA context and its libraries. An estimate."""
DEFAULT_BATCH_SIZE = 128
"""--max-batch-size if LMDeploy has no value for the GPU (0.18.0 utils.py:404-421)."""
MIN_BLOCKS = 16


def get_default_prefill(release: LMDeployRelease, backend: str) -> int:
    """Return LMDeploy's default of max_prefill_token_num."""
    return 4096 if backend == "pytorch" and release < LMDeployRelease(0, 6) else 8192


def list_pytorch_reserves(
    vocabulary: int, prefill: int, *, batch: int, release: LMDeployRelease
) -> Iterator[tuple[int, int]]:
    """Yield the prefills in tokens that are tried in turn, halved each time, and their bytes."""
    while prefill > 0:
        if release < LMDeployRelease(0, 6):
            yield prefill, prefill * vocabulary * 7
        else:
            yield prefill, (prefill + 2 * batch) * vocabulary * HALF_BYTES
        prefill //= 2


def estimate_turbomind_prefill(
    architecture: ModelArchitecture, prefill: int, *, batch: int, tp: int
) -> int:
    """Estimate the bytes that turbomind needs besides its cache (see above)."""
    experts = architecture.experts
    width = architecture.width if experts is None else experts.active * experts.width
    numbers = 4 * architecture.hidden + 2 * width // tp
    return prefill * numbers * HALF_BYTES + 2 * 4 * batch * architecture.vocabulary
