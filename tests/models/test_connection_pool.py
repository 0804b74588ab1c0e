from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from asking import heard, question
from rows import each_row

from agentcall.models import http
from agentcall.models.http_chat import HTTPChat
from agentcall.testing import FakeServer, forever, say

PROGRAM = """
import asyncio, sys
from agentcall import Agent
from agentcall.models.http_chat import HTTPChat

agent = Agent(HTTPChat(sys.argv[1], "m", dialect="native"))

async def ask():
    assert (await agent.run("hi")).output == "hi"

{body}
"""

WAYS = {
    "asyncio.run": "asyncio.run(ask()); asyncio.run(ask())",
    "run_sync": "agent.run_sync('hi'); agent.run_sync('hi')",
    "run_sync in a loop": (
        "async def main():\n    agent.run_sync('hi'); await ask()\nasyncio.run(main())"
    ),
    "run_stream left early": (
        "async def main():\n"
        "    async for event in agent.run_stream('hi'): break\n"
        "asyncio.run(main())"
    ),
    "a cancelled run": (
        "async def main():\n"
        "    task = asyncio.create_task(ask()); await asyncio.sleep(0.01); task.cancel()\n"
        "    await asyncio.wait([task])\n"
        "asyncio.run(main())"
    ),
    "a loop that is closed only": (
        "for _ in range(3):\n"
        "    loop = asyncio.new_event_loop(); loop.run_until_complete(ask()); loop.close()\n"
        "from agentcall.models import http\n"
        "assert len(http._sessions) == 1"
    ),
    "a loop that is left open": ("loop = asyncio.new_event_loop(); loop.run_until_complete(ask())"),
    "two threads": (
        "import threading\n"
        "threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(2)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()"
    ),
}


@pytest.mark.processes
@each_row("way", WAYS)
def test_no_way_to_run_leaves_a_warning(way: str) -> None:
    with FakeServer([forever(say("hi"))]) as server:
        program = PROGRAM.format(body=WAYS[way])
        strict = [] if way.startswith("a loop") else ["-W", "error"]
        ended = subprocess.run(
            [sys.executable, *strict, "-c", program, server.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, "")


async def test_requests_of_one_loop_share_a_connection() -> None:
    with FakeServer([forever(say("hi"))]) as server:
        for stream in (False, True, False, True):
            await heard(HTTPChat(server.url, "m", dialect="native").ask(question(stream)))
        session = await http.get_shared_session()
        assert session.connector is not None
        assert session is await http.get_shared_session()
        ports = {request.headers["host"] for request in server.requests}
    assert len(ports) == 1


def test_loops_one_after_the_other_leave_nothing_behind() -> None:
    with FakeServer([forever(say("hi"))]) as server:
        model = HTTPChat(server.url, "m", dialect="native")
        before = len(http._sessions)
        for _ in range(5):
            assert asyncio.run(heard(model.ask(question()))).text == "hi"
        assert len(http._sessions) == before


def test_one_model_serves_loops_in_threads_at_the_same_time() -> None:
    texts: list[str] = []

    async def several(model: HTTPChat) -> None:
        found = await asyncio.gather(*(heard(model.ask(question(True))) for _ in range(10)))
        texts.extend(one.text for one in found)

    with FakeServer([forever(say("hi"))]) as server:
        model = HTTPChat(server.url, "m", dialect="native")
        run: Callable[[], None] = lambda: asyncio.run(several(model))  # noqa: E731
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == ["hi"] * 40
