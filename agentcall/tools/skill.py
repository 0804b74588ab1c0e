"""Skills: instructions and tools for one kind of task, which a model loads when it needs them.

The folders are those of the Agent Skills format, https://agentskills.io/specification: `SKILL.md`
begins with `name` and `description` in YAML between lines of `---`; the instructions follow, and
other files may stand beside it. Scripts in a folder are never executed.

Rules:
1. A model sees the name and the description of each skill in the description of `load_skill`; of
   more than `MAX_LISTED` skills it sees none and finds them with `find_skills`.
2. The result of `load_skill` is the instructions. From then on the skill's tools are offered.
3. A file is read only if it is in the folder of its skill, links followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import orjson
from typing_extensions import Self

from agentcall.errors import ModelRetry, UsageError
from agentcall.messages import ToolCall
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.search import SearchField, SearchIndex
from agentcall.tools.tool import Tool, make_tool, tool

LOAD_SKILL, FIND_SKILLS, READ_SKILL_FILE = "load_skill", "find_skills", "read_skill_file"
MAX_LISTED, _FOUND_COUNT = 20, 5
_MAX_FILES = 100
_MAX_FILE_BYTES = 10_000_000
_NAME = re.compile(r"[\w-]{1,64}")
_FRONT_MATTER = re.compile(
    r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?\n?(.*)", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, eq=False)  # no slots: cached properties need a __dict__
class Skill:
    """Instructions and tools for one kind of task.

    name: 1 to 64 letters, digits, _ or -. description: what it is for, and when; the model decides
        by it whether to load the skill.
    instructions: what the model reads when it has loaded the skill.
    tools: as in `Agent`, offered once the skill is loaded.
    folder: the model may read the text files in it.

    Raises UsageError for a name, a description or instructions that are empty or not texts.

    >>> refunds = Skill("refunds", "How to refund an order.", "Ask for the order's number first.")
    >>> refunds.name
    'refunds'
    """

    name: str
    description: str
    instructions: str
    tools: object = ()
    folder: Path | None = None

    def __post_init__(self) -> None:
        fields: Mapping[str, object] = vars(self)
        for name in ("name", "description", "instructions"):
            value = fields[name]
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"Skill({name}={value!r:.100}): it has to be a text")
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"Skill(name={self.name!r:.100}): it has to be 1 to 64 letters, digits, _ or -"
            )
        _ = self.registry  # refuses what is no tool

    @cached_property
    def registry(self) -> ToolRegistry:
        """The tools of the skill."""
        return self.tools if isinstance(self.tools, ToolRegistry) else ToolRegistry(self.tools)

    @classmethod
    def read(cls, folder: str | Path, tools: object = ()) -> Self:
        """Read the skill of a folder with a `SKILL.md`. Raises UsageError if it has none."""
        folder = _to_path(folder)
        path = folder / "SKILL.md"
        try:
            found = _FRONT_MATTER.match(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the skill {folder} cannot be read: {error}") from error
        if found is None:
            raise UsageError(f"{path} does not begin with `---`, name, description and `---`")
        fields = _parse_front_matter(path, found[1])
        missing = [name for name in ("name", "description") if not fields.get(name)]
        if missing:
            raise UsageError(f"{path} has no {' and no '.join(missing)}")
        try:
            return cls(str(fields["name"]), str(fields["description"]), found[2], tools, folder)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    @classmethod
    def read_all(cls, folder: str | Path) -> list[Self]:
        """Read the skills of the folders in this one. Raises UsageError if there is none."""
        folders = sorted(path.parent for path in _to_path(folder).glob("*/SKILL.md"))
        if not folders:
            raise UsageError(f"{folder} has no folder with a SKILL.md")
        return [cls.read(found) for found in folders]

    def list_files(self) -> list[str]:
        """Return the paths of the files beside SKILL.md, with slashes, at most 100."""
        if self.folder is None:
            return []
        paths = sorted(path for path in self.folder.rglob("*") if self._is_readable(path))
        return [path.relative_to(self.folder).as_posix() for path in paths[:_MAX_FILES]]

    def _is_readable(self, path: Path) -> bool:
        """Whether it is a file of the skill that a model may see."""
        if self.folder is None or not path.is_file() or path == self.folder / "SKILL.md":
            return False
        inner = path.relative_to(self.folder).parts
        is_hidden = any(part.startswith((".", "__pycache__")) for part in inner)
        return not is_hidden and path.resolve().is_relative_to(self.folder.resolve())

    def read_file(self, path: str) -> str:
        """Return the text of a file in the folder. Raises ModelRetry, which the model reads."""
        files = self.list_files()
        if self.folder is None or path not in files:
            known = ", ".join(files) or "none"
            raise ModelRetry(f"The skill {self.name} has no file {path!r}. Its files: {known}")
        file = self.folder / path
        try:
            if file.stat().st_size > _MAX_FILE_BYTES:
                raise ModelRetry(f"{path} is larger than {_MAX_FILE_BYTES:,} bytes.")
            return file.read_text("utf-8")
        except UnicodeDecodeError:
            raise ModelRetry(f"{path} is not a text file.") from None


def _to_path(folder: object) -> Path:
    if not isinstance(folder, (str, os.PathLike)):
        raise UsageError(f"{folder!r:.100} is not the path of a folder")
    return Path(cast("str | os.PathLike[str]", folder))


def _parse_front_matter(path: Path, text: str) -> Mapping[str, object]:
    import yaml  # late: few agents have skills in folders

    try:
        fields: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"the beginning of {path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"the beginning of {path} has no `name:` and `description:`")
    return cast("Mapping[str, object]", fields)


class SkillSet:
    """The skills of an agent, and the tools with which its model loads them.

    Raises UsageError for two skills of one name.
    """

    def __init__(self, skills: Sequence[Skill]) -> None:
        self._skills = {skill.name: skill for skill in skills}
        if len(self._skills) < len(skills):
            names = [skill.name for skill in skills]
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"two skills are called {twice!r}; give each a unique name")
        self.loaders = tuple(self._make_loaders())

    @property
    def tools(self) -> ToolRegistry:
        """The tools of all skills."""
        return ToolRegistry(*(skill.registry for skill in self._skills.values()))

    def find_loaded_tools(self, call: ToolCall) -> Iterable[Tool]:
        """Return the tools of the skill that a call loads."""
        try:
            arguments: object = orjson.loads(call.arguments)
        except ValueError:
            return ()
        match arguments:
            case {"name": str(name)} if name in self._skills:
                return self._skills[name].registry
            case _:
                return ()

    def _make_loaders(self) -> Iterator[Tool]:
        skills = self._skills
        lines = [
            f"{skill.name}: {' '.join(skill.description.split())}" for skill in skills.values()
        ]

        def load_skill(name: str) -> str:
            if name not in skills:
                raise ModelRetry(f"There is no skill {name!r}. Find one with {FIND_SKILLS}.")
            return _format_skill(skills[name])

        is_listed = len(skills) <= MAX_LISTED
        if is_listed:
            load_skill.__annotations__["name"] = Literal[tuple(skills)]
        found = "\n".join(lines) if is_listed else f"Find one with {FIND_SKILLS}."
        yield make_tool(
            load_skill,
            description=f"Read how to do one of these tasks, before you begin with it.\n{found}",
            idempotent=True,
            read_only=True,
        )
        if not is_listed:
            yield self._make_find_tool(lines)
        if any(skill.list_files() for skill in skills.values()):
            yield self._make_file_tool()

    def _make_find_tool(self, lines: Sequence[str]) -> Tool:
        index = SearchIndex([SearchField(line)] for line in lines)

        @tool(name=FIND_SKILLS, idempotent=True, read_only=True)
        def find_skills(query: str) -> str:
            """Find instructions for a kind of task, to read with load_skill.

            Args:
                query: The task, in a few words, such as "refund an order".
            """
            found = index.search(query, _FOUND_COUNT)
            return "\n".join(lines[position] for position in found) or "No skill has these words."

        return find_skills

    def _make_file_tool(self) -> Tool:
        @tool(name=READ_SKILL_FILE, idempotent=True, read_only=True)
        def read_skill_file(skill: str, path: str) -> str:
            """Read a file of a skill, if its instructions name one.

            Args:
                skill: The name of the skill.
                path: The path of the file, as the skill names it.
            """
            if skill not in self._skills:
                known = ", ".join(self._skills)
                raise ModelRetry(f"There is no skill {skill!r}. The skills: {known}")
            return self._skills[skill].read_file(path)

        return read_skill_file


def _format_skill(skill: Skill) -> str:
    """Return what the model reads of a skill that it loads."""
    parts = [skill.instructions.strip()]
    if skill.registry:
        parts.append(f"These tools can be called now: {', '.join(skill.registry.names)}")
    files = skill.list_files()
    if files:
        parts.append(f"Its files, which {READ_SKILL_FILE} reads: {', '.join(files)}")
    return "\n\n".join(parts)
