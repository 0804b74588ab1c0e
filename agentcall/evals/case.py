"""A case: a question and the checks of its answer; and files of cases.

A file is YAML or lines of JSON. Its cases have these keys:

    prompt    the question
    messages  the conversation before it, as in `Agent.run`
    name, tags
    checks    a list of: called: {TOOL: {ARGUMENT: VALUE}}; not_called: TOOL or a list, [] for all;
              order: [TOOL, ...]; max_requests: N; equals: VALUE; contains: TEXT or a list;
              matches: PATTERN; judge: CRITERION
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from agentcall.agent import History
from agentcall.errors import UsageError
from agentcall.evals.checks import (
    Check,
    answer_contains,
    answer_equals,
    answer_matches,
    call_order,
    called,
    judged,
    max_requests,
    not_called,
)
from agentcall.messages import Prompt
from agentcall.models.resolve import ModelLike


@dataclass(frozen=True, eq=False)
class Case:
    """A question and the checks of its answer.

    prompt, messages, deps: as in `Agent.run`.
    checks: all of them have to pass; see `Check`.
    name: by default the beginning of the prompt. tags: groups of cases, which are counted.

    >>> case = Case("What does an apple cost?", [answer_contains("0.5")])
    >>> case.name
    'What does an apple cost?'
    """

    prompt: Prompt | None
    checks: Sequence[Check] = ()
    name: str = ""
    tags: Sequence[str] = ()
    messages: History = ()
    deps: Any = None  # Any: the user's own type

    def __post_init__(self) -> None:
        checks: object = self.checks
        if not isinstance(checks, (list, tuple)) or not all(map(callable, self.checks)):
            raise UsageError(
                f"Case(checks={checks!r:.100}): it has to be a list of checks, such as "
                '[answer_contains("Oslo")]'
            )
        if not self.name:
            title = " ".join(str(self.prompt).split())
            object.__setattr__(self, "name", title if len(title) <= 60 else f"{title[:59]}…")


def load_cases(path: str | Path, judge: ModelLike | None = None) -> list[Case]:
    """Return the cases of a file. Raises UsageError, which names the case and the key.

    judge: the model that judges, as in `judged`.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the cases {path} cannot be read: {error}") from error
    if path.suffix == ".jsonl":
        lines = [line for line in text.splitlines() if line.strip()]
        cases = [_parse(path, orjson.loads, line) for line in lines]
    else:
        import yaml  # late: a program may have its cases in Python

        content = _parse(path, yaml.safe_load, text)
        found = cast("Mapping[str, object]", content).get("cases") if _is_map(content) else content
        if not isinstance(found, list):
            raise UsageError(f"{path} has no list of cases: `cases:` and below it `- prompt: ...`")
        cases = cast("list[object]", found)
    loaded = [_read_case(path, number, case, judge) for number, case in enumerate(cases, 1)]
    if not loaded:
        raise UsageError(f"{path} has no cases")
    return loaded


def _parse(path: Path, parse: Callable[[str], object], text: str) -> object:
    try:
        return parse(text)
    except Exception as error:
        raise UsageError(f"{path} cannot be parsed: {error}") from error


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


_KEYS = ("prompt", "checks", "name", "tags", "messages")


def _read_case(path: Path, number: int, value: object, judge: ModelLike | None) -> Case:
    where = f"case {number} of {path}"
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} is {value!r:.80}, not an object with a `prompt`")
    case = cast("Mapping[str, Any]", value)
    unknown = [key for key in case if key not in _KEYS]
    if unknown:
        raise UsageError(f"{where} has the key {unknown[0]!r}; it may have {', '.join(_KEYS)}")
    if not isinstance(case.get("prompt"), str) and not case.get("messages"):
        raise UsageError(f"{where} has no `prompt`")
    written = case.get("checks", [])
    if not isinstance(written, list):
        raise UsageError(f"{where}: `checks` is {written!r:.80}, not a list")
    checks = [
        check for item in cast("list[object]", written) for check in _read_check(where, item, judge)
    ]
    return Case(
        case.get("prompt"),
        checks,
        str(case.get("name", "")),
        [str(tag) for tag in _as_list(case.get("tags", []))],
        case.get("messages", ()),
    )


def _read_check(where: str, item: object, judge: ModelLike | None) -> Iterable[Check]:
    if not isinstance(item, Mapping):
        raise UsageError(f"{where}: the check {item!r:.80} is not such as `contains: text`")
    for name, value in cast("Mapping[str, Any]", item).items():
        if name == "called":
            yield from _read_calls(where, value)
        elif name == "judge" and isinstance(value, str):
            yield judged(value, judge)
        elif name in _CHECKS and isinstance(value, _CHECKS[name][0]):
            yield _CHECKS[name][1](value)
        else:
            raise UsageError(f"{where}: the check `{name}: {value!r:.80}` is not known; {_KNOWN}")


def _read_calls(where: str, value: object) -> Iterable[Check]:
    tools = {value: None} if isinstance(value, str) else value
    if not isinstance(tools, Mapping):
        raise UsageError(f"{where}: the check `called: {value!r:.80}` is not known; {_KNOWN}")
    for tool, arguments in cast("Mapping[str, Mapping[str, object] | None]", tools).items():
        yield called(tool, **(arguments or {}))


_CHECKS: Mapping[str, tuple[type, Callable[[Any], Check]]] = {  # Any: of the type beside it
    "not_called": (object, lambda value: not_called(*map(str, _as_list(value)))),
    "order": (object, lambda value: call_order(*map(str, _as_list(value)))),
    "max_requests": (int, max_requests),
    "equals": (object, answer_equals),
    "contains": (object, lambda value: answer_contains(*map(str, _as_list(value)))),
    "matches": (str, answer_matches),
}
_KNOWN = (
    "use called, not_called, order, max_requests, equals, contains, matches or judge "
    "(docs/evals.md)"
)


def _as_list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else [value]
