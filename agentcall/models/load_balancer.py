"""`LoadBalancer`: several servers of the same model, used as one model.

Rules:

1. A conversation goes to the node that last saw its longest prefix, because the node's prefix cache
   may still hold it, unless that node is much busier than the idlest one. A conversation is
   recognized by its content, not by its run: the next run of a session, or a second question about
   the same long text, finds the node of the first.
2. Any other conversation goes to the node with the fewest active requests.
3. A node that cannot be reached, answers 5xx or 429, or cuts an answer off, is not used during a
   cooldown that doubles with each failure; the request goes to the next node.
4. A request is not repeated after its first part, nor after an invalid answer: the run repeats it,
   and reaches another node.
5. A node in its cooldown is used after all others have failed. When all nodes have failed, they are
   asked again after a pause, up to `len(PAUSES)` times.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing
from time import monotonic

from agentcall.display import to_single_line
from agentcall.errors import (
    BadAnswer,
    CutAnswer,
    ModelError,
    ModelTimeout,
    ModelUnreachable,
    RateLimited,
    UsageError,
)
from agentcall.models.model import (
    BEFORE_ANSWER,
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    close_response,
    collect_secrets,
    find_context_window,
)

_log = logging.getLogger("agentcall.models")

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before all nodes are asked again after each has failed."""

LOAD_SLACK = 2
"""A node is much busier if it has more than twice the idlest node's requests plus this number."""

_COOLDOWN, _MAX_COOLDOWN = 2.0, 60.0
_NODE_FAILURES = (ModelUnreachable, ModelTimeout, RateLimited, CutAnswer, BadAnswer)


class LoadBalancer:
    """Servers of one model, each given as a Model; their dialects may differ.

    >>> from agentcall.models import HTTPChat
    >>> model = LoadBalancer(HTTPChat("http://a:23333/v1"), HTTPChat("http://b:23333/v1"))
    """

    def __init__(self, *models: Model) -> None:
        if not models:
            raise UsageError("LoadBalancer needs at least one model")
        self.nodes = tuple(ServerNode(index, model) for index, model in enumerate(models))
        self._affinity = PrefixAffinity()

    @property
    def secrets(self) -> Collection[str]:
        """The secrets of all models."""
        return collect_secrets(node.model for node in self.nodes)

    async def find_context_window(self) -> int | None:
        """Return the smallest window that a server reports, in tokens."""
        windows = await asyncio.gather(*(find_context_window(node.model) for node in self.nodes))
        return min((window for window in windows if window is not None), default=None)

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of one node's answer. Raises ModelError if no node answers."""
        prefixes = hash_prefixes(request)
        failures: list[ModelError] = []
        for pause in (None, *PAUSES):
            if pause is not None:
                await asyncio.sleep(pause)
            failures.clear()
            for node in self._iterate_nodes(prefixes):
                try:
                    async with aclosing(node.ask(request)) as parts:
                        async for part in parts:
                            yield part
                except _NodeFailed as failed:
                    failures.append(failed.error)
                else:
                    self._affinity.record(node.index, prefixes)
                    return
        reasons = "; ".join(dict.fromkeys(map(str, failures)))
        message = f"none of {len(self.nodes)} servers answers: {reasons}"
        raise ModelUnreachable(message) from failures[-1]

    def _iterate_nodes(self, prefixes: Sequence[int]) -> Iterator[ServerNode]:
        """Yield every node once; each time the best of the remaining nodes."""
        remaining = list(self.nodes)
        while remaining:
            node = self._pick_node(remaining, prefixes)
            remaining.remove(node)
            yield node

    def _pick_node(self, nodes: Collection[ServerNode], prefixes: Sequence[int]) -> ServerNode:
        now = monotonic()
        available = [node for node in nodes if node.cooldown_until <= now]
        if not available:
            return min(nodes, key=lambda node: node.cooldown_until)
        # The conversation's hash breaks ties, so that several programs do not all start with the
        # same node.
        offset = prefixes[-1]
        idlest = min(available, key=lambda n: (n.active, (n.index + offset) % len(self.nodes)))
        cached = self._affinity.find_node(prefixes)
        for node in available:
            if node.index == cached and node.active <= 2 * idlest.active + LOAD_SLACK:
                return node
        return idlest


class ServerNode:
    """One server, its number of active requests, and the end of its cooldown (`monotonic`)."""

    def __init__(self, index: int, model: Model) -> None:
        self.index = index
        self.model = model
        self.active = 0
        self.cooldown_until = 0.0
        self._failures = 0

    async def ask(self, request: ModelRequest) -> AsyncGenerator[ResponseEvent, None]:
        """Yield the parts of the node's answer.

        Raises _NodeFailed if the node fails before its first part, ModelError after it.
        """
        started_at, has_answered = monotonic(), False
        answer = self.model.ask(request)
        self.active += 1
        try:
            async for part in answer:
                if isinstance(part, ResponseEnd) and part.finish_reason is None:
                    if not has_answered:
                        raise CutAnswer("the stream ended before the answer began")
                    self._start_cooldown(started_at)
                elif isinstance(part, ResponseEnd):
                    self._failures = 0
                has_answered = has_answered or not isinstance(part, BEFORE_ANSWER)
                yield part
        except _NODE_FAILURES as error:
            self._start_cooldown(started_at, getattr(error, "retry_after", None))
            _log.warning("a server of the load balancer failed: %s", to_single_line(str(error)))
            if has_answered or isinstance(error, BadAnswer):
                raise
            raise _NodeFailed(error) from error
        finally:
            self.active -= 1
            await close_response(answer)

    def _start_cooldown(self, started_at: float, retry_after: float | None = None) -> None:
        if started_at < self.cooldown_until:
            return  # several requests were active when the node failed: count one failure
        cooldown = min(_COOLDOWN * 2**self._failures, _MAX_COOLDOWN)
        self._failures += 1
        self.cooldown_until = monotonic() + max(cooldown, retry_after or 0.0)

    def __repr__(self) -> str:
        return f"ServerNode({self.model!r}, active={self.active})"


class _NodeFailed(Exception):
    """A node failed before its first part, so that another node may be asked."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(error)
        self.error = error


class PrefixAffinity:
    """Remembers which node saw a conversation last, for the last `capacity` conversations."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._nodes: OrderedDict[int, int] = OrderedDict()

    def find_node(self, prefixes: Sequence[int]) -> int | None:
        """Return the index of the node that saw the longest of these prefixes."""
        nodes = self._nodes
        return next((nodes[prefix] for prefix in reversed(prefixes) if prefix in nodes), None)

    def record(self, node: int, prefixes: Sequence[int]) -> None:
        """Record that the node has seen the whole conversation."""
        whole = prefixes[-1]
        self._nodes[whole] = node
        self._nodes.move_to_end(whole)
        if len(self._nodes) > self._capacity:
            self._nodes.popitem(last=False)


def hash_prefixes(request: ModelRequest) -> list[int]:
    """Return a hash for each prefix of a conversation, from the first message to the whole.

    Instructions and tools alone are not a prefix: all conversations of an agent share them, so
    every node has them soon.
    """
    prompt = request.prompt
    prefix_hash = hash((prompt.instructions, tuple(tool.name for tool in prompt.tools)))
    hashes: list[int] = []
    for message in request.transcript:
        prefix_hash = hash((prefix_hash, message))
        hashes.append(prefix_hash)
    return hashes or [prefix_hash]
