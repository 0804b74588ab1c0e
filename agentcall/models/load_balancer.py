"""Several servers of one model as one: the least busy answers, and one that fails is set aside.

Rules:
1. A conversation goes back to the node that last saw the longest beginning of it, whose prefix
   cache may hold it, unless that node is much busier than the idlest.
2. Any other goes to the node with the fewest requests of ours under way.
3. A node that cannot be reached, answers 5xx or 429, or cuts an answer, is set aside for a while
   that doubles from failure to failure, and the request goes to the next.
4. Nothing is asked again once a part was given, nor where an answer came that is none: the run asks
   again, and meets another node.
5. A node that is set aside is still asked where all others have failed, and all of them again
   after a pause, a few times.

Which node last saw the beginning of a conversation: its prefix cache may still hold it.

A conversation is known by what it says, not by its run: so a session's next run, or a second
question about the same long text, finds the node of the first. Several beginnings of one
conversation may be known, at several nodes; the longest is the one that counts.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing
from time import monotonic

from agentcall.errors import (
    BadAnswer,
    CutAnswer,
    ModelError,
    ModelTimeout,
    ModelUnreachable,
    RateLimited,
    UsageError,
)
from agentcall.models.base import (
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    ResponseStart,
    close_response,
    collect_secrets,
)


class PrefixAffinity:
    """Nodes by the conversations that they saw last; keeps the last `kept`."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._nodes: OrderedDict[int, int] = OrderedDict()

    def find_node(self, prefixes: Sequence[int]) -> int | None:
        """The node that saw the longest of the beginnings."""
        return next((self._nodes[b] for b in reversed(prefixes) if b in self._nodes), None)

    def record(self, node: int, prefixes: Sequence[int]) -> None:
        """Notes that the node read the whole conversation."""
        whole = prefixes[-1]
        self._nodes[whole] = node
        self._nodes.move_to_end(whole)
        if len(self._nodes) > self._capacity:
            self._nodes.popitem(last=False)


def hash_prefixes(request: ModelRequest) -> list[int]:
    """A number for each beginning of a conversation, the shortest first, the whole one last.

    The shortest has one message: what all conversations of an agent share is on every node soon.
    """
    offer = request.prompt
    so_far = hash((offer.instructions, tuple(tool.name for tool in offer.tools)))
    hashes: list[int] = []
    for message in request.transcript:
        so_far = hash((so_far, message))
        hashes.append(so_far)
    return hashes or [so_far]


PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before all nodes are asked again, once each has failed."""

LOAD_SLACK = 2
"""A node is much busier if it has more than twice the requests of the idlest, and this many."""

_COOLDOWN, _MAX_COOLDOWN = 2.0, 60.0
_NODE_FAILURES = (ModelUnreachable, ModelTimeout, RateLimited, CutAnswer, BadAnswer)


class LoadBalancer:
    """Servers of one model, given as a Model each; they may speak different dialects.

    >>> from agentcall.models.http_chat import HTTPChat
    >>> both = Balanced(HTTPChat("http://a:23333/v1"), HTTPChat("http://b:23333/v1"))
    """

    def __init__(self, *models: Model) -> None:
        if not models:
            raise UsageError("Balanced needs at least one model")
        self.nodes = tuple(ServerNode(index, model) for index, model in enumerate(models))
        self._affinity = PrefixAffinity()

    @property
    def secrets(self) -> Collection[str]:
        """Those of all its models."""
        return collect_secrets(node.model for node in self.nodes)

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """The parts of one node's answer. Raises ModelError if no node answers."""
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
                except _NodeFailed as unsaid:
                    failures.append(unsaid.error)
                else:
                    self._affinity.record(node.index, prefixes)
                    return
        raise self._build_error(failures) from failures[-1]

    def _iterate_nodes(self, prefixes: Sequence[int]) -> Iterator[ServerNode]:
        """Every node once, the best of those that are left each time."""
        left = list(self.nodes)
        while left:
            node = self._pick_node(left, prefixes)
            left.remove(node)
            yield node

    def _pick_node(self, nodes: Collection[ServerNode], prefixes: Sequence[int]) -> ServerNode:
        now = monotonic()
        awake = [node for node in nodes if node.cooldown_until <= now]
        if not awake:
            return min(nodes, key=lambda node: node.cooldown_until)
        # Of equals another one each time, so that several programs do not all begin with the same.
        turn = prefixes[-1]
        idlest = min(awake, key=lambda n: (n.active, (n.index + turn) % len(self.nodes)))
        home = self._affinity.find_node(prefixes)
        for node in awake:
            if node.index == home and node.active <= 2 * idlest.active + LOAD_SLACK:
                return node
        return idlest

    def _build_error(self, failures: Sequence[ModelError]) -> ModelError:
        told = "; ".join(dict.fromkeys(map(str, failures)))
        return ModelUnreachable(f"none of {len(self.nodes)} servers answers: {told}")


class ServerNode:
    """One server: how many requests of ours it has, and until when it is set aside (monotonic)."""

    def __init__(self, index: int, model: Model) -> None:
        self.index = index
        self.model = model
        self.active = 0
        self.cooldown_until = 0.0
        self._failures = 0

    async def ask(self, request: ModelRequest) -> AsyncGenerator[ResponseEvent, None]:
        """The parts of its answer. Raises _Unsaid if it fails before the first, else ModelError."""
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
                has_answered = has_answered or not isinstance(part, ResponseStart)
                yield part
        except _NODE_FAILURES as error:
            self._start_cooldown(started_at, getattr(error, "retry_after", None))
            if has_answered or isinstance(error, BadAnswer):
                raise
            raise _NodeFailed(error) from error
        finally:
            self.active -= 1
            await close_response(answer)

    def _start_cooldown(self, started_at: float, retry_after: float | None = None) -> None:
        """For a while; what was under way when it failed fails with it, and that counts once."""
        if started_at < self.cooldown_until:
            return
        cooldown = min(_COOLDOWN * 2**self._failures, _MAX_COOLDOWN)
        self._failures += 1
        self.cooldown_until = monotonic() + max(cooldown, retry_after or 0.0)

    def __repr__(self) -> str:
        return f"Node({self.model!r}, active={self.active})"


class _NodeFailed(Exception):
    """A node failed before it gave a part, so another may be asked."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(error)
        self.error = error
