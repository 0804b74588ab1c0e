"""A chat template that renders tools, for models whose own ignores them.

The published template of InternLM2 and 2.5 renders neither `tools` nor calls nor results, and since
0.10 LMDeploy has no other for it. `--chat-template` accepts no template but a JSON file that names
a folder with a tokenizer (ChatTemplateConfig.model_path, v0.10.0 model.py), so this module creates
such a folder: the model's own small files, with the template replaced. agentcall itself does not
need it (it writes the protocol into the messages); other clients that send `tools` do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from agentcall_server.cli_flags import CommandFlags
from agentcall_server.errors import BadValue
from agentcall_server.model_families import ModelFamily
from agentcall_server.processes import make_program_environment
from agentcall_server.releases import LMDeployRelease, infer_min_release

STOCK_CHOICES = ("none", "stock")
_OWN_TEMPLATES = {"internlm2": Path(__file__).with_name("templates") / "internlm2.jinja"}
_MIN_RELEASE = LMDeployRelease(0, 10)
_SECONDS = 300.0
_CONFIG = "tokenizer_config.json"
_TOKENIZER_PATTERNS = ("*.json", "*.py", "*.model", "*.txt", "*.jinja", "*.tiktoken")
_DOWNLOAD_TOKENIZER = (
    "import sys; sys.path.pop(0); from huggingface_hub import snapshot_download; "
    "print(snapshot_download(sys.argv[1], allow_patterns=sys.argv[2:]))"
)
"""Run by LMDeploy's Python: prints the folder in the hub's cache, where LMDeploy looks as well."""


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """The model (a folder or a name on the hub), its family, and the LMDeploy that serves it."""

    model: str
    family: ModelFamily
    known_flags: CommandFlags
    python: Path | None


def prepare_chat_template(
    requested: str, source: TemplateSource, folder: Path, say: Callable[[str], None]
) -> str:
    """Return the value of `--chat-template`, '' for none; create its files in `folder`.

    `requested` is `auto`, `none` or `stock`, a file (.json or .jinja), or a name that LMDeploy
    knows. `say` receives remarks. Raises BadValue.
    """
    file = Path(requested).expanduser()
    if requested in STOCK_CHOICES:
        return ""
    if requested == "auto":
        return _choose_template(source, folder, say)
    if file.suffix in (".jinja", ".json") and not file.is_file():
        raise BadValue(f"--chat-template {requested}: no such file")
    if file.suffix == ".jinja":
        if infer_min_release(source.known_flags) < _MIN_RELEASE:
            raise BadValue(
                f"--chat-template {file}: LMDeploy accepts templates since 0.10 only; earlier "
                f"releases have their own for each family"
            )
        return _write_template_folder(_find_tokenizer_folder(source), file, folder)
    return str(file.absolute()) if file.is_file() else requested


def _choose_template(source: TemplateSource, folder: Path, say: Callable[[str], None]) -> str:
    template = _OWN_TEMPLATES.get(source.family.kind)
    is_old = infer_min_release(source.known_flags) < _MIN_RELEASE
    if template is None or source.family.has_vision or is_old:
        return ""
    try:
        tokenizer = _find_tokenizer_folder(source)
    except BadValue as error:
        say(f"using the model's own chat template, which drops tools: {error}")
        return ""
    has_tools = _has_tool_support(tokenizer)
    return "" if has_tools else _write_template_folder(tokenizer, template, folder)


def _find_tokenizer_folder(source: TemplateSource) -> Path:
    """Return the folder of the model's small files. Raises BadValue if they are unavailable."""
    if (folder := Path(source.model)).is_dir():
        return folder
    if source.python is None:
        raise BadValue("the files of its tokenizer are not here; give the folder of the model")
    command = [str(source.python), "-c", _DOWNLOAD_TOKENIZER, source.model, *_TOKENIZER_PATTERNS]
    try:
        result = subprocess.run(  # noqa: S603  (LMDeploy's own Python, no shell)
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=make_program_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadValue(f"the files of its tokenizer are unavailable ({error})") from error
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise BadValue(f"the files of its tokenizer are unavailable ({last[:200]})")
    return Path(result.stdout.strip().splitlines()[-1])


def _has_tool_support(tokenizer: Path) -> bool:
    separate = tokenizer / "chat_template.jinja"
    if separate.is_file():
        return "tools" in separate.read_text(encoding="utf-8")
    return "tools" in json.dumps(_read_tokenizer_config(tokenizer).get("chat_template", ""))


def _write_template_folder(tokenizer: Path, template: Path, folder: Path) -> str:
    """Create a copy of the tokenizer with this template, and return the JSON file that names it."""
    target = folder / "tokenizer"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for pattern in _TOKENIZER_PATTERNS:
        for file in tokenizer.glob(pattern):
            if not file.name.endswith(".index.json"):
                shutil.copy(file, target / file.name)
    text = template.read_text(encoding="utf-8")
    # new releases of transformers read the file, old ones the field
    (target / "chat_template.jinja").write_text(text, encoding="utf-8")
    config = {**_read_tokenizer_config(tokenizer), "chat_template": text}
    (target / _CONFIG).write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    choice = folder / "chat_template.json"
    choice.write_text(json.dumps({"model_name": "hf", "model_path": str(target)}), "utf-8")
    return str(choice)


def _read_tokenizer_config(tokenizer: Path) -> dict[str, object]:
    file = tokenizer / _CONFIG
    try:
        value: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadValue(f"{file} cannot be read ({error})") from error
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
