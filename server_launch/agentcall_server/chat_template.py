"""A chat template that knows tools, for models whose own drops them without a word.

The published template of InternLM2 and 2.5 renders neither `tools` nor calls nor results, and since
0.10 LMDeploy has no other for it. `--chat-template` takes no template but a JSON file that names a
folder with a tokenizer (ChatTemplateConfig.model_path, v0.10.0 model.py), so such a folder is
made: the model's own small files, and the template in its place. agentcall itself can do without
(it writes the protocol into the messages); other clients that send `tools` cannot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from agentcall_server import tokenizer_files
from agentcall_server.cli_flags import CommandFlags
from agentcall_server.downloader import make_program_environment
from agentcall_server.errors import BadValue
from agentcall_server.model_families import ModelFamily
from agentcall_server.releases import LMDeployRelease, infer_min_release

STOCK_CHOICES = ("none", "stock")
_OWN_TEMPLATES = {"internlm2": Path(__file__).with_name("templates") / "internlm2.jinja"}
_MIN_RELEASE = LMDeployRelease(0, 10)
_SECONDS = 300.0
_CONFIG = "tokenizer_config.json"


class TemplateNotifier(Protocol):
    """Where a remark is shown."""

    def say(self, text: str) -> None:
        """Show one line."""


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """Whose template it is: the model (a folder or a name on the hub) and LMDeploy's Python."""

    model: str
    family: ModelFamily
    manual: CommandFlags
    python: Path | None


def prepare_chat_template(
    requested: str, source: TemplateSource, folder: Path, notifier: TemplateNotifier
) -> str:
    """What `--chat-template` gets, '' for nothing; files are made in `folder`. Raises BadValue.

    asked: `auto`, `none` or `stock`, a file (.json or .jinja), or a name that LMDeploy knows.
    """
    file = Path(requested).expanduser()
    if requested in STOCK_CHOICES:
        return ""
    if requested == "auto":
        return _choose_template(source, folder, notifier)
    if file.suffix == ".jinja":
        return _use_template_file(source, file, folder)
    if file.suffix == ".json" and not file.is_file():
        raise BadValue(f"--chat-template {requested}: no such file")
    return str(file.absolute()) if file.is_file() else requested


def _choose_template(source: TemplateSource, folder: Path, notifier: TemplateNotifier) -> str:
    ours = _OWN_TEMPLATES.get(source.family.kind)
    if ours is None or source.family.has_vision or infer_min_release(source.manual) < _MIN_RELEASE:
        return ""
    try:
        tokenizer = _find_tokenizer_folder(source)
    except BadValue as problem:
        notifier.say(f"the model's own chat template is used, which drops tools: {problem}")
        return ""
    return "" if _has_tool_support(tokenizer) else _write_template_folder(tokenizer, ours, folder)


def _use_template_file(source: TemplateSource, template: Path, folder: Path) -> str:
    if not template.is_file():
        raise BadValue(f"--chat-template {template}: no such file")
    if infer_min_release(source.manual) < _MIN_RELEASE:
        raise BadValue(
            f"--chat-template {template}: LMDeploy takes templates since 0.10 only; before, it has "
            f"its own for each family"
        )
    return _write_template_folder(_find_tokenizer_folder(source), template, folder)


def _find_tokenizer_folder(source: TemplateSource) -> Path:
    """The folder of the model's small files. Raises BadValue where they cannot be had."""
    if (folder := Path(source.model)).is_dir():
        return folder
    if source.python is None:
        raise BadValue("the files of its tokenizer are not here; give the folder of the model")
    command = [str(source.python), str(Path(tokenizer_files.__file__).absolute()), source.model]
    try:
        done = subprocess.run(  # noqa: S603  (LMDeploy's own Python, no shell)
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=make_program_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadValue(f"the files of its tokenizer cannot be had ({error})") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BadValue(f"the files of its tokenizer cannot be had ({said[:200]})")
    return Path(done.stdout.strip().splitlines()[-1])


def _has_tool_support(tokenizer: Path) -> bool:
    separate = tokenizer / "chat_template.jinja"
    if separate.is_file():
        return "tools" in separate.read_text(encoding="utf-8")
    return "tools" in json.dumps(_read_tokenizer_config(tokenizer).get("chat_template", ""))


def _write_template_folder(tokenizer: Path, template: Path, folder: Path) -> str:
    """The JSON file for LMDeploy, beside a folder of the tokenizer with this template."""
    target = folder / "tokenizer"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for pattern in tokenizer_files.TOKENIZER_PATTERNS:
        for file in tokenizer.glob(pattern):
            if not file.name.endswith(".index.json"):
                shutil.copy(file, target / file.name)
    text = template.read_text(encoding="utf-8")
    # new releases of transformers read the file, old ones the field
    (target / "chat_template.jinja").write_text(text, encoding="utf-8")
    config = json.dumps(
        {**_read_tokenizer_config(tokenizer), "chat_template": text}, ensure_ascii=False
    )
    (target / _CONFIG).write_text(config, encoding="utf-8")
    choice = folder / "chat_template.json"
    choice.write_text(json.dumps({"model_name": "hf", "model_path": str(target)}), "utf-8")
    return str(choice)


def _read_tokenizer_config(tokenizer: Path) -> dict[str, object]:
    file = tokenizer / _CONFIG
    try:
        found: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadValue(f"{file} cannot be read ({error})") from error
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}
