from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from command_line import agentcall
from rows import each_row

from agentcall.display import (
    format_arguments,
    format_call,
    strip_control_characters,
    to_single_line,
)
from agentcall.messages import ToolCall


def test_help_names_the_commands_and_ends_well(tmp_path: Path) -> None:
    done = agentcall("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert {"run", "tools", "doctor"} <= set(done.stdout.split())


def test_the_exit_codes_stand_in_the_help_of_run(tmp_path: Path) -> None:
    text = agentcall("run", "--help", cwd=tmp_path).stdout
    codes = text[text.index("Exit codes:") : text.index("Environment:")]
    assert re.findall(r"^ +(\d+) ", codes, re.MULTILINE) == ["0", "1", "2", "3", "4", "130"]


def test_the_version_is_the_distributions(tmp_path: Path) -> None:
    assert re.fullmatch(r"agentcall \d+\.\d+\.\d+\n", agentcall("--version", cwd=tmp_path).stdout)


def test_an_unknown_option_is_a_usage_error_without_a_traceback(tmp_path: Path) -> None:
    done = agentcall("run", "--nonsense", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert "--nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_doors_themselves_import_nothing_heavy() -> None:
    code = "import agentcall.cli, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    heavy = {"aiohttp", "rich", "agentcall.models.http_chat", "agentcall.cli.run_loop"}
    assert heavy & set(modules.split()) == set()


@each_row(
    ("text", "plain"),
    [
        ("a\x1b[31mred\x1b[0m\x07", "ared"),
        ("\x1b]0;title\x07rest", "rest"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone\r", "2Jgone"),
        ("two\nlines\there, 上海", "two\nlines\there, 上海"),
        ("\x1b", ""),
    ],
)
def test_no_text_of_a_tool_moves_the_cursor(text: str, plain: str) -> None:
    assert strip_control_characters(text) == plain


def test_a_line_is_cut_with_a_mark() -> None:
    assert to_single_line("one\n two\tthree", 8) == "one two…"
    assert to_single_line("one\n two", 8) == "one two"


@each_row(
    ("arguments", "line"),
    [
        ('{"a": 3, "b": 5}', "a=3, b=5"),
        ('{"city": "上海", "days": [1, 2]}', 'city="上海", days=[1, 2]'),
        ("{}", ""),
        ("not json", "not json"),
        ("[1]", "[1]"),
    ],
)
def test_arguments_read_like_a_call(arguments: str, line: str) -> None:
    assert format_arguments(arguments, 100) == line


def test_long_arguments_are_shortened_each() -> None:
    call = ToolCall("1", "write", '{"path": "a.txt", "text": "' + "x" * 500 + '"}')
    line = format_call(call, 60)
    assert line.startswith('write(path="a.txt", text="xxx')
    assert len(line) <= 60 + len("write()")
