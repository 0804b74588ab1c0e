"""Python in a sandbox: what it computes, and what it may not."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys

import pytest
from rows import each_row

from agentcall import ToolRegistry
from agentcall.runtime.executor import call_tool
from agentcall_tools import python as module
from agentcall_tools.python import MAX_PRINTED, Python, PythonError, run_python

QUICK = Python(seconds=0.5, memory=20_000_000)


@each_row(
    ("code", "text"),
    [
        ("1 + 1", "2"),
        ("x = 3\nprint('hi', x)\nx * 2", "hi 3\n6"),
        ("print('only')", "only"),
        ("x = 1", "(no output)"),
        ("None", "(no output)"),
        ("import math\nmath.comb(49, 6)", "13983816"),
        ("import re, json\njson.dumps(re.findall('a.', 'abac'))", '\'["ab", "ac"]\''),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nf(20)", "2432902008176640000"),
        ("class A:\n    def b(self):\n        return 5\nA().b()", "5"),
        ("'上海'", "'上海'"),
        ("import time\ntime.sleep(10**6)\n'slept'", "'slept'"),
    ],
)
async def test_a_program_gives_what_it_prints_and_its_last_value(code: str, text: str) -> None:
    assert run_python(code) == text


@each_row(
    ("code", "words"),
    [
        ("print('a')\n1/0", r"a\n.*ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("undefined_name", "NameError"),
        ("import numpy", "No module named 'numpy'"),
        ("raise SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
async def test_an_error_of_the_code_is_told_with_its_traceback(code: str, words: str) -> None:
    with pytest.raises(PythonError, match=f"(?s){words}"):
        run_python(code)


@each_row(
    "code",
    [
        "open('/etc/passwd').read()",
        "open('x', 'w').write('x')",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
        "from pathlib import Path\nlist(Path('/').iterdir())",
        "import os\nos.environ['PATH']",
        "import os\nos.system('id')",
        "import os\nos.listdir('/')",
        "import subprocess",
        "import socket",
        "import ctypes",
        "import urllib.request",
        "__import__('os').system('id')",
        "().__class__.__bases__[0].__subclasses__()",
        "(lambda: 0).__globals__",
        "(x for x in [1]).gi_frame.f_back.f_globals",
        "'{0.__class__.__mro__}'.format(1)",
        "import sys\nsys.modules['os'].system('id')",
        "import builtins\nbuiltins.open('/etc/passwd')",
        "exit()",
        "breakpoint()",
    ],
)
async def test_there_is_no_way_to_files_network_or_environment(code: str) -> None:
    with pytest.raises(PythonError, match=r"Error|not defined"):
        QUICK.run_python(code)


@each_row(
    "code",
    [
        "while True: pass",
        "10 ** 10 ** 10",
        "[0] * 10 ** 10",
        "'a' * 10 ** 9",
        "x = 'a'\nwhile True: x += x",
        "x = []\nwhile True: x.append([x])",
        "def f(): return f()\nf()",
        "while True: print('x' * 1000)",
        "sum(range(10 ** 12))",
        "list(range(10 ** 9))",
        "try:\n    while True: pass\nexcept BaseException:\n    while True: pass",
        "a = lambda: [a() for _ in range(100)]\na()",
        "import itertools\nlist(itertools.product(range(100), repeat=10))",
        "int('9' * 10 ** 7)",
        "'x'.join(str(i) for i in range(10 ** 8))",
    ],
)
async def test_heavy_code_is_ended_and_the_host_stays_light(code: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(PythonError):
        await asyncio.wait_for(asyncio.to_thread(QUICK.run_python, code), 60)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 100_000  # kB


async def test_printing_without_end_is_told_as_such() -> None:
    with pytest.raises(PythonError, match=f"prints more than {MAX_PRINTED} bytes"):
        QUICK.run_python("while True: print('x' * 1000)")


async def test_a_large_value_is_cut() -> None:
    text = run_python("'x' * 100_000")
    assert text.endswith("x... (100002 characters in all)")
    assert len(text) < MAX_PRINTED + 100


async def test_a_value_that_cannot_be_shown_is_told() -> None:
    assert run_python("x = []\nx.append(x)\nx") == "['[...]']"
    assert "cannot be shown" in run_python("10 ** 5000")


async def test_nothing_is_kept_between_calls_and_no_process_is_left() -> None:
    run_python("kept = 1")
    with pytest.raises(PythonError, match="NameError"):
        run_python("kept")
    children = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "monty" not in children.stdout


async def test_code_that_is_too_long_is_refused() -> None:
    with pytest.raises(PythonError, match="has 60000 characters"):
        run_python("x" * 60_000)


async def test_an_error_is_what_the_model_reads() -> None:
    registry = ToolRegistry(module)
    assert registry.names == ("run_python",)
    text = await call_tool(registry, "run_python", '{"code": "1/0"}')
    assert text.startswith("PythonError: Traceback")


def test_without_the_package_the_words_say_what_to_install() -> None:
    program = (
        "import sys, asyncio\n"
        "sys.modules['pydantic_monty'] = None\n"
        "from agentcall_tools.python import run_python\n"
        "asyncio.run(run_python('1'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "run_python needs pydantic_monty" in done.stderr
    assert "Install the extra 'python': pip install" in done.stderr
