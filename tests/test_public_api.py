from __future__ import annotations

import subprocess
import sys
import textwrap

import agentcall

FACE = [
    "Agent",
    "AgentCallError",
    "Approved",
    "Blocked",
    "Denied",
    "Edited",
    "Hooks",
    "Image",
    "Inbox",
    "Limits",
    "ModelError",
    "ModelRetry",
    "ModelSettings",
    "PendingCall",
    "Result",
    "RunContext",
    "RunFinished",
    "RunResult",
    "SQLiteSession",
    "Session",
    "Skill",
    "TextDelta",
    "Tool",
    "ToolCallFinished",
    "ToolRegistry",
    "tool",
]
HEAVY = ["aiohttp", "openai", "typer", "httpx", "rich", "numpy", "pytest", "agentcall_server"]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_face_is_these_names_and_few() -> None:
    assert agentcall.__all__ == FACE
    assert len(FACE) <= 30
    assert all(hasattr(agentcall, name) for name in FACE)


def test_importing_imports_nothing_heavy_and_prints_nothing() -> None:
    said = python(f"""
        import sys
        import agentcall
        print([name for name in {HEAVY!r} if name in sys.modules])
    """)
    assert said == "[]\n"


def test_a_file_of_agents_imports_nothing_of_what_carries_a_run_out() -> None:
    said = python("""
        import sys
        from agentcall import Agent, tool
        late = ("asyncio", "agentcall.runtime.run", "agentcall.events")
        print([name for name in late if name in sys.modules])
    """)
    assert said == "[]\n"


def test_importing_writes_no_file_opens_no_socket_and_starts_nothing() -> None:
    said = python("""
        import os, sys, threading
        seen = []

        def watch(event, args):
            if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
                seen.append((event, args[0]))
            if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
                seen.append((event, args[0]))
            if event.startswith(("socket.", "subprocess.", "os.mkdir", "os.remove", "os.rename",
                                 "os.putenv", "os.fork", "signal.")):
                seen.append((event, args))

        sys.addaudithook(watch)
        environment = dict(os.environ)
        import agentcall
        print(seen, environment == dict(os.environ), threading.active_count())
    """)
    assert said == "[] True 1\n"


def test_making_an_agent_imports_nothing_heavy_either() -> None:
    said = python(f"""
        import sys
        from agentcall import Agent, tool

        @tool
        def add(a: int, b: int) -> int:
            "Add."
            return a + b

        Agent("http://127.0.0.1:1/v1", tools=[add], instructions="Be brief.")
        print([name for name in {HEAVY!r} if name in sys.modules])
    """)
    assert said == "[]\n"
