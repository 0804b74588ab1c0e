"""Read the memory of a machine's GPUs from `nvidia-smi`."""

from __future__ import annotations

import csv
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

QUERY = ("--query-gpu=index,name,memory.total,memory.used", "--format=csv")
MIB = 1 << 20
_EVERY = 0.2


class NvidiaSmiError(Exception):
    """nvidia-smi is missing, or its output has another format."""


@dataclass(frozen=True, slots=True)
class GPUMemory:
    """The memory of one GPU in bytes, `used` by all processes together."""

    index: int
    name: str
    total: int
    used: int


def parse_readings(text: str) -> tuple[GPUMemory, ...]:
    """Parse the output of QUERY. Raises NvidiaSmiError.

    >>> head = "index, name, memory.total [MiB], memory.used [MiB]"
    >>> parse_readings(f"{head}\\n0, NVIDIA L4, 23034 MiB, 4 MiB")
    (GPUMemory(index=0, name='NVIDIA L4', total=24152899584, used=4194304),)
    """
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.strip().splitlines())]
    if not rows or rows[0] != ["index", "name", "memory.total [MiB]", "memory.used [MiB]"]:
        raise NvidiaSmiError(f"nvidia-smi printed something unexpected: {text[:200]!r}")
    return tuple(map(_parse_row, rows[1:]))


def _parse_row(row: Sequence[str]) -> GPUMemory:
    if len(row) != 4:
        raise NvidiaSmiError(f"a line of nvidia-smi has {len(row)} fields: {row}")
    index, name, total, used = row
    return GPUMemory(int(index), name, _parse_bytes(total), _parse_bytes(used))


def _parse_bytes(text: str) -> int:
    number, _, unit = text.partition(" ")
    if unit != "MiB" or not number.isdigit():
        raise NvidiaSmiError(f"nvidia-smi reports no memory here: {text!r}")
    return int(number) * MIB


def query_gpus(program: str = "nvidia-smi") -> tuple[GPUMemory, ...]:
    """Return the current readings. Raises NvidiaSmiError."""
    try:
        done = subprocess.run(
            [program, *QUERY], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NvidiaSmiError(f"{program} failed: {error}") from error
    return parse_readings(done.stdout)


class PeakMemory:
    """Measures the peak of one GPU's used memory during a block, in bytes."""

    def __init__(self, program: str, index: int) -> None:
        self._program = program
        self._index = index
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.used = 0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            with suppress(
                NvidiaSmiError
            ):  # one of many; the first and the last reading are not lost
                for reading in query_gpus(self._program):
                    if reading.index == self._index:
                        self.used = max(self.used, reading.used)
            if self._over.wait(_EVERY):
                return
