"""Keeps the nodes of a proxy to those that answer.

LMDeploy's proxy sends on to a node that died until its heart beat notices, 90 seconds later; and as
such a node has nothing under way, it is the one that gets all. It is never taken back either. So
every node is asked for its health each second: one that refuses the connection or says that it is
ill is taken out at once, one that is silent the third time, and each comes back when it is well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from agentcall_server.errors import NodeError
from agentcall_server.exchange import exchange, root_of
from agentcall_server.nodes import Nodes

Health = Literal["well", "ill", "silent"]

ASKED_FOR = 2.0
"""Seconds that a node may take to tell its health."""

_SILENCES = 3


def health(url: str, timeout: float = ASKED_FOR) -> Health:
    """How a server is. One that has no /health is well if it answers at all."""
    try:
        status = exchange(f"{url}/health", timeout=timeout).status
    except TimeoutError:
        return "silent"
    except OSError:
        return "ill"
    return "ill" if status >= 500 else "well"


class Watch:
    """Watches the nodes of a proxy, and those that it should have; `say` tells what changed."""

    def __init__(self, nodes: Nodes, given: Iterable[str], say: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._away = {root_of(url): "it has not answered yet" for url in given}
        self._silences: dict[str, int] = {}
        self._say = say

    @property
    def away(self) -> dict[str, str]:
        """The nodes that should be there and are not, and why."""
        return dict(self._away)

    def look(self) -> None:
        """Asks all nodes once, and changes the proxy accordingly. Raises ProxyError."""
        there = [state.url for state in self._nodes.states()]
        for url in there:
            self._away.pop(url, None)
        asked = [*there, *self._away]
        with ThreadPoolExecutor(max_workers=max(1, min(32, len(asked)))) as pool:
            for url, found in zip(asked, pool.map(health, asked), strict=True):
                if url in self._away:
                    self._take_back(url, found)
                else:
                    self._check(url, found)

    def _check(self, url: str, found: Health) -> None:
        self._silences[url] = self._silences.get(url, 0) + 1 if found == "silent" else 0
        if found == "well" or (found == "silent" and self._silences[url] < _SILENCES):
            return
        self._silences.pop(url)
        try:
            self._nodes.remove(url)
        except NodeError:
            return  # somebody else took it out
        self._away[url] = "it does not answer"
        self._say(f"node {url} does not answer; taken out")

    def _take_back(self, url: str, found: Health) -> None:
        if found != "well":
            return
        try:
            state = self._nodes.add(url)
        except NodeError as error:
            if self._away[url] != str(error):
                self._say(str(error))
            self._away[url] = str(error)
            return
        del self._away[url]
        self._say(f"node {url} serves {', '.join(state.models)}")
