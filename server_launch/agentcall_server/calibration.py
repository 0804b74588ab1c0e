"""Runs `lmdeploy lite` with calibration text from a local file instead of a downloaded one.

Executed as a file by LMDeploy's own Python, so it imports nothing of agentcall_server:

    python calibration.py TEXT_FILE lite auto_awq MODEL ...

LMDeploy takes its calibration samples from `get_calib_loaders`, in all releases from 0.5.3 to
0.18.0. That one function is replaced; the samples are evenly spaced windows of the text.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def compute_window_starts(length: int, *, window: int, count: int) -> list[int]:
    """Return the starts of `count` windows of `window` tokens, evenly spaced. Raises ValueError.

    >>> compute_window_starts(100, window=20, count=3)
    [0, 40, 80]
    """
    if length < window:
        raise ValueError(
            f"the calibration text has {length} tokens and a sample takes {window}; give a longer "
            f"text, or a smaller --length"
        )
    if count == 1:
        return [0]
    return [(length - window) * i // (count - 1) for i in range(count)]


def make_sample_loader(text: str) -> Callable[..., list[Any]]:  # Any: torch tensors
    """Return a replacement of `get_calib_loaders`; samples are token IDs of shape [1, seqlen]."""

    def get(
        _name: str,
        tokenizer: Any,  # Any: a tokenizer of transformers
        nsamples: int = 128,
        seed: int = 0,
        seqlen: int = 2048,
    ) -> list[Any]:
        ids = tokenizer(text, return_tensors="pt").input_ids
        starts = compute_window_starts(int(ids.shape[1]), window=seqlen, count=nsamples)
        return [ids[:, start : start + seqlen] for start in starts]

    return get


def main(arguments: list[str]) -> None:
    """Replace the loader, then run LMDeploy's command line."""
    text = Path(arguments[0]).read_text(encoding="utf-8")
    sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]
    get = make_sample_loader(text)
    for name in ("calibrate", "gptq"):
        try:
            module = import_module(f"lmdeploy.lite.apis.{name}")
        except ImportError:
            continue
        if hasattr(module, "get_calib_loaders"):
            # before 0.12 the function also returns a test set, which is not used
            paired = "calib_loader, _ =" in inspect.getsource(module)
            setattr(module, "get_calib_loaders", _add_empty_test_set(get) if paired else get)  # noqa: B010 - untyped
    sys.argv = ["lmdeploy", *arguments[1:]]
    import_module("lmdeploy.cli").run()


def _add_empty_test_set(get: Callable[..., list[Any]]) -> Callable[..., tuple[list[Any], None]]:
    def pair(*given: Any, **named: Any) -> tuple[list[Any], None]:  # Any: passed on
        return get(*given, **named), None

    return pair


if __name__ == "__main__":
    main(sys.argv[1:])
