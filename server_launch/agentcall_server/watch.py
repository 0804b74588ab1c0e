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
from agentcall_server.exchange import parse_server_url, send_request
from agentcall_server.nodes import ProxyNodes

NodeHealth = Literal["well", "ill", "silent"]

HEALTH_TIMEOUT = 2.0
"""Seconds that a node may take to tell its health."""

_MAX_SILENCES = 3


def check_health(url: str, timeout: float = HEALTH_TIMEOUT) -> NodeHealth:
    """How a server is. One that has no /health is well if it answers at all."""
    try:
        status = send_request(f"{url}/health", timeout=timeout).status
    except TimeoutError:
        return "silent"
    except OSError:
        return "ill"
    return "ill" if status >= 500 else "well"


class NodeWatch:
    """Watches the nodes of a proxy, and those that it should have; `say` tells what changed."""

    def __init__(self, nodes: ProxyNodes, given: Iterable[str], say: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._missing_nodes = {parse_server_url(url): "it has not answered yet" for url in given}
        self._silences: dict[str, int] = {}
        self._say = say

    @property
    def missing_nodes(self) -> dict[str, str]:
        """The nodes that should be there and are not, and why."""
        return dict(self._missing_nodes)

    def check_nodes(self) -> None:
        """Asks all nodes once, and changes the proxy accordingly. Raises ProxyError."""
        there = [state.url for state in self._nodes.list_states()]
        for url in there:
            self._missing_nodes.pop(url, None)
        asked = [*there, *self._missing_nodes]
        with ThreadPoolExecutor(max_workers=max(1, min(32, len(asked)))) as pool:
            for url, found in zip(asked, pool.map(check_health, asked), strict=True):
                if url in self._missing_nodes:
                    self._restore_node(url, found)
                else:
                    self._check_node(url, found)

    def _check_node(self, url: str, found: NodeHealth) -> None:
        self._silences[url] = self._silences.get(url, 0) + 1 if found == "silent" else 0
        if found == "well" or (found == "silent" and self._silences[url] < _MAX_SILENCES):
            return
        self._silences.pop(url)
        try:
            self._nodes.remove(url)
        except NodeError:
            return  # somebody else took it out
        self._missing_nodes[url] = "it does not answer"
        self._say(f"node {url} does not answer; taken out")

    def _restore_node(self, url: str, found: NodeHealth) -> None:
        if found != "well":
            return
        try:
            state = self._nodes.add(url)
        except NodeError as error:
            if self._missing_nodes[url] != str(error):
                self._say(str(error))
            self._missing_nodes[url] = str(error)
            return
        del self._missing_nodes[url]
        self._say(f"node {url} serves {', '.join(state.models)}")
