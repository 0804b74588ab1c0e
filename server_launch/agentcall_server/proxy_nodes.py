"""The nodes of a running `lmdeploy serve proxy`: what they are, and how they come and go.

LMDeploy's proxy answers 200 to /nodes/add and /nodes/remove whatever came of it, and it asks a new
node for its models without a key. So a node is asked here, is registered with its models, and
what came of it is read from /nodes/status (0.18.0 serve/proxy/proxy.py:150-182, 503-570).

Keeps the nodes of a proxy to those that answer.

LMDeploy's proxy sends on to a node that died until its heart beat notices, 90 seconds later; and as
such a node has nothing under way, it is the one that gets all. It is never taken back either. So
every node is asked for its health each second: one that refuses the connection or says that it is
ill is taken out at once, one that is silent the third time, and each comes back when it is well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import urlencode

from agentcall_server.errors import NodeError, ProxyError
from agentcall_server.http_client import HTTPReply, parse_server_url, send_request


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the proxy knows of a node: requests under way, and the mean seconds of the last ones."""

    url: str
    models: tuple[str, ...]
    unfinished: int = 0
    latency: float | None = None


class ProxyNodes:
    """The nodes of the proxy at a URL; the key is the proxy's and that of its nodes."""

    def __init__(self, proxy: str, api_key: str = "") -> None:
        self.proxy = parse_server_url(proxy)
        self._api_key = api_key

    def list_states(self) -> tuple[NodeState, ...]:
        """All nodes, as the proxy sees them. Raises ProxyError."""
        listed = _parse_json(self._send_request("/nodes/status"))
        if not isinstance(listed, Mapping):
            raise ProxyError(f"{self.proxy} is no proxy of LMDeploy: it does not list nodes")
        nodes = cast("Mapping[str, object]", listed)
        return tuple(_parse_state(url, status) for url, status in nodes.items())

    def add(self, url: str) -> NodeState:
        """Registers a server that answers. Raises NodeError, ProxyError, BadValue."""
        root = parse_server_url(url)
        models = list_served_models(root, self._api_key)
        said = self._send_request("/nodes/add", {"url": root, "status": {"models": list(models)}})
        for state in self.list_states():
            if state.url == root:
                return state
        raise NodeError(f"{self.proxy} did not take the node {root}; it said: {said.summary}")

    def remove(self, url: str) -> None:
        """Takes a node out. Raises NodeError if there is none such, ProxyError, BadValue."""
        root = parse_server_url(url)
        known = {parse_server_url(state.url): state.url for state in self.list_states()}
        if root not in known:
            there = ", ".join(known.values()) or "none"
            raise NodeError(f"{self.proxy} has no node {root}; there are: {there}")
        # in the body since 0.7 or so, in the query before
        query = urlencode({"node_url": known[root]})
        said = self._send_request(f"/nodes/remove?{query}", {"url": known[root]})
        if any(state.url == known[root] for state in self.list_states()):
            raise NodeError(f"{self.proxy} did not let the node {root} go; it said: {said.summary}")

    def _send_request(self, path: str, payload: object = None) -> HTTPReply:
        try:
            reply = send_request(self.proxy + path, payload, api_key=self._api_key)
        except OSError as error:
            raise ProxyError(
                f"no proxy answers at {self.proxy} ({error}); start one with "
                f"`agentcall server proxy`, or name another with --proxy"
            ) from error
        if reply.status == 404:
            raise ProxyError(f"{self.proxy} is no proxy of LMDeploy: it has no {path}")
        if reply.status >= 400:
            raise ProxyError(f"{self.proxy}{path} answered {reply.status}: {reply.summary}")
        return reply


def list_served_models(root: str, api_key: str) -> tuple[str, ...]:
    """The models that a server lists. Raises NodeError."""
    try:
        reply = send_request(f"{root}/v1/models", api_key=api_key)
    except OSError as error:
        raise NodeError(f"no server answers at {root} ({error}); is it running?") from error
    if reply.status in (401, 403):
        raise NodeError(
            f"{root} wants another key; LMDeploy's proxy hands the client's key on, so all nodes "
            f"need the one in AGENTCALL_API_KEY, or none"
        )
    if reply.status != 200:
        raise NodeError(f"{root}/v1/models answered {reply.status}: {reply.summary}")
    cards = _as_sequence(_get_member(_parse_json(reply), "data"))
    names = [name for card in cards if (name := _get_member(card, "id"))]
    if not names:
        raise NodeError(f"{root} lists no model; is it an OpenAI-compatible server?")
    return tuple(map(str, names))


def _parse_state(url: str, status: object) -> NodeState:
    models, latencies = _get_member(status, "models"), _get_member(status, "latency")
    unfinished = _get_member(status, "unfinished")
    last = [seconds for seconds in _as_sequence(latencies) if isinstance(seconds, (int, float))]
    return NodeState(
        url,
        tuple(map(str, _as_sequence(models))),
        unfinished if isinstance(unfinished, int) else 0,
        sum(last) / len(last) if last else None,
    )


def _get_member(value: object, key: str) -> object:
    return cast("Mapping[str, object]", value).get(key) if isinstance(value, Mapping) else None


def _as_sequence(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list) else ()


def _parse_json(reply: HTTPReply) -> object:
    try:
        return reply.json()
    except ValueError:
        return None


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
