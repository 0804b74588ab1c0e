"""The nodes of a running `lmdeploy serve proxy`: list, add, remove and watch them.

LMDeploy's proxy answers 200 to /nodes/add and /nodes/remove whatever the outcome, and asks a new
node for its models without a key. So this module asks the node itself, registers it with its
models, and reads the outcome from /nodes/status (0.18.0 serve/proxy/proxy.py:150-182, 503-570).

The proxy also forwards requests to a dead node until its heartbeat notices, 90 seconds later; as
such a node has no unfinished requests, it receives all of them. It is never added again either. So
the health of every node is checked each second: one that refuses the connection or reports a
failure is removed at once, one that does not answer after three checks, and each is added again
when it is healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import urlencode

from agentcall_server.errors import NodeError, ProxyError
from agentcall_server.http_client import HTTPReply, parse_server_url, send_request

NodeHealth = Literal["healthy", "unhealthy", "silent"]
HEALTH_TIMEOUT = 2.0
"""Seconds within which a node must answer a health check."""
_MAX_SILENCES = 3


@dataclass(frozen=True, slots=True)
class NodeState:
    """The proxy's view of a node: unfinished requests, and mean latency of the last ones in s."""

    url: str
    models: tuple[str, ...]
    unfinished: int = 0
    latency: float | None = None


class ProxyNodes:
    """The nodes of the proxy at a URL. The proxy and its nodes share one API key."""

    def __init__(self, proxy: str, api_key: str = "") -> None:
        self.proxy = parse_server_url(proxy)
        self._api_key = api_key

    def list_states(self) -> tuple[NodeState, ...]:
        """Return all nodes as the proxy sees them. Raises ProxyError."""
        reply = self._send_request("/nodes/status")
        if not reply.fields and reply.body.strip() != b"{}":
            raise ProxyError(f"{self.proxy} is not a proxy of LMDeploy: it does not list nodes")
        return tuple(_parse_state(url, status) for url, status in reply.fields.items())

    def add(self, url: str) -> NodeState:
        """Register a server that answers. Raises NodeError, ProxyError, BadValue."""
        root = parse_server_url(url)
        models = list_served_models(root, self._api_key)
        reply = self._send_request("/nodes/add", {"url": root, "status": {"models": list(models)}})
        for state in self.list_states():
            if state.url == root:
                return state
        raise NodeError(f"{self.proxy} did not add the node {root}; it answered: {reply.summary}")

    def remove(self, url: str) -> None:
        """Remove a node. Raises NodeError if there is none, ProxyError, BadValue."""
        root = parse_server_url(url)
        nodes = {parse_server_url(state.url): state.url for state in self.list_states()}
        if root not in nodes:
            listed = ", ".join(nodes.values()) or "none"
            raise NodeError(f"{self.proxy} has no node {root}; its nodes: {listed}")
        # in the body since about 0.7, in the query before
        query = urlencode({"node_url": nodes[root]})
        reply = self._send_request(f"/nodes/remove?{query}", {"url": nodes[root]})
        if any(state.url == nodes[root] for state in self.list_states()):
            raise NodeError(
                f"{self.proxy} did not remove the node {root}; it answered: {reply.summary}"
            )

    def _send_request(self, path: str, payload: object = None) -> HTTPReply:
        try:
            reply = send_request(self.proxy + path, payload, api_key=self._api_key)
        except OSError as error:
            raise ProxyError(
                f"no proxy answers at {self.proxy} ({error}); start one with "
                f"`agentcall server proxy`, or give another with --proxy"
            ) from error
        if reply.status == 404:
            raise ProxyError(f"{self.proxy} is not a proxy of LMDeploy: it has no {path}")
        if reply.status >= 400:
            raise ProxyError(f"{self.proxy}{path} answered {reply.status}: {reply.summary}")
        return reply


def list_served_models(root: str, api_key: str) -> tuple[str, ...]:
    """Return the models that a server lists. Raises NodeError."""
    try:
        reply = send_request(f"{root}/v1/models", api_key=api_key)
    except OSError as error:
        raise NodeError(f"no server answers at {root} ({error}); is it running?") from error
    if reply.status in (401, 403):
        raise NodeError(
            f"{root} requires another key; LMDeploy's proxy forwards the client's key, so all "
            f"nodes need the one in AGENTCALL_API_KEY, or none"
        )
    if reply.status != 200:
        raise NodeError(f"{root}/v1/models answered {reply.status}: {reply.summary}")
    if not reply.model_ids:
        raise NodeError(f"{root} lists no model; is it an OpenAI-compatible server?")
    return reply.model_ids


def check_health(url: str, timeout: float = HEALTH_TIMEOUT) -> NodeHealth:
    """Return the health of a server. One without /health is healthy if it answers at all."""
    try:
        status = send_request(f"{url}/health", timeout=timeout).status
    except TimeoutError:
        return "silent"
    except OSError:
        return "unhealthy"
    return "unhealthy" if status >= 500 else "healthy"


class NodeWatch:
    """Adds and removes the nodes of a proxy by their health; `say` receives each change."""

    def __init__(self, nodes: ProxyNodes, urls: Iterable[str], say: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._missing_nodes = {parse_server_url(url): "it has not answered yet" for url in urls}
        self._silences: dict[str, int] = {}
        self._say = say

    @property
    def missing_nodes(self) -> dict[str, str]:
        """The nodes that were given or removed and do not answer, with the reason."""
        return dict(self._missing_nodes)

    def check_nodes(self) -> None:
        """Check each node once and change the proxy accordingly. Raises ProxyError."""
        registered = [state.url for state in self._nodes.list_states()]
        for url in registered:
            self._missing_nodes.pop(url, None)
        urls = [*registered, *self._missing_nodes]
        with ThreadPoolExecutor(max_workers=max(1, min(32, len(urls)))) as pool:
            for url, health in zip(urls, pool.map(check_health, urls), strict=True):
                if url not in self._missing_nodes:
                    self._check_node(url, health)
                elif health == "healthy":
                    self._restore_node(url)

    def _check_node(self, url: str, health: NodeHealth) -> None:
        self._silences[url] = self._silences.get(url, 0) + 1 if health == "silent" else 0
        if health == "healthy" or (health == "silent" and self._silences[url] < _MAX_SILENCES):
            return
        self._silences.pop(url)
        try:
            self._nodes.remove(url)
        except NodeError:
            return  # another client has removed it
        self._missing_nodes[url] = "it does not answer"
        self._say(f"node {url} does not answer; removed")

    def _restore_node(self, url: str) -> None:
        try:
            state = self._nodes.add(url)
        except NodeError as error:
            if self._missing_nodes[url] != str(error):
                self._say(str(error))
            self._missing_nodes[url] = str(error)
            return
        del self._missing_nodes[url]
        self._say(f"node {url} serves {', '.join(state.models)}")


def _parse_state(url: str, status: object) -> NodeState:
    fields: Mapping[str, object] = {}
    if isinstance(status, Mapping):
        fields = cast("Mapping[str, object]", status)
    models, latencies = _as_list(fields.get("models")), _as_list(fields.get("latency"))
    unfinished = fields.get("unfinished")
    seconds = [value for value in latencies if isinstance(value, (int, float))]
    return NodeState(
        url,
        tuple(map(str, models)),
        unfinished if isinstance(unfinished, int) else 0,
        sum(seconds) / len(seconds) if seconds else None,
    )


def _as_list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
