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
"""

from __future__ import annotations

import asyncio
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
from agentcall.models.prefixes import Prefixes, beginnings
from agentcall.models.protocol import (
    Answer,
    Chosen,
    Ended,
    Model,
    Request,
    closed,
    secrets_of,
)

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before all nodes are asked again, once each has failed."""

SLACK = 2
"""A node is much busier if it has more than twice the requests of the idlest, and this many."""

_REST, _LONGEST_REST = 2.0, 60.0
_FAILURES = (ModelUnreachable, ModelTimeout, RateLimited, CutAnswer, BadAnswer)


class Balanced:
    """Servers of one model, given as a Model each; they may speak different dialects.

    >>> from agentcall.models.http_chat import HTTPChat
    >>> both = Balanced(HTTPChat("http://a:23333/v1"), HTTPChat("http://b:23333/v1"))
    """

    def __init__(self, *models: Model) -> None:
        if not models:
            raise UsageError("Balanced needs at least one model")
        self.nodes = tuple(Node(index, model) for index, model in enumerate(models))
        self._prefixes = Prefixes()

    @property
    def secrets(self) -> Collection[str]:
        """Those of all its models."""
        return secrets_of(node.model for node in self.nodes)

    async def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The parts of one node's answer. Raises ModelError if no node answers."""
        conversation = beginnings(request)
        failures: list[ModelError] = []
        for pause in (None, *PAUSES):
            if pause is not None:
                await asyncio.sleep(pause)
            failures.clear()
            for node in self._each(conversation):
                try:
                    async with aclosing(node.ask(request)) as parts:
                        async for part in parts:
                            yield part
                except _Unsaid as unsaid:
                    failures.append(unsaid.why)
                else:
                    self._prefixes.saw(node.index, conversation)
                    return
        raise self._none_answers(failures) from failures[-1]

    def _each(self, conversation: Sequence[int]) -> Iterator[Node]:
        """Every node once, the best of those that are left each time."""
        left = list(self.nodes)
        while left:
            node = self._best(left, conversation)
            left.remove(node)
            yield node

    def _best(self, nodes: Collection[Node], conversation: Sequence[int]) -> Node:
        now = monotonic()
        awake = [node for node in nodes if node.rests_until <= now]
        if not awake:
            return min(nodes, key=lambda node: node.rests_until)
        # Of equals another one each time, so that several programs do not all begin with the same.
        turn = conversation[-1]
        idlest = min(awake, key=lambda n: (n.active, (n.index + turn) % len(self.nodes)))
        home = self._prefixes.node(conversation)
        for node in awake:
            if node.index == home and node.active <= 2 * idlest.active + SLACK:
                return node
        return idlest

    def _none_answers(self, failures: Sequence[ModelError]) -> ModelError:
        told = "; ".join(dict.fromkeys(map(str, failures)))
        return ModelUnreachable(f"none of {len(self.nodes)} servers answers: {told}")


class Node:
    """One server: how many requests of ours it has, and until when it is set aside (monotonic)."""

    def __init__(self, index: int, model: Model) -> None:
        self.index = index
        self.model = model
        self.active = 0
        self.rests_until = 0.0
        self._failures = 0

    async def ask(self, request: Request) -> AsyncGenerator[Answer, None]:
        """The parts of its answer. Raises _Unsaid if it fails before the first, else ModelError."""
        began, spoken = monotonic(), False
        answer = self.model.ask(request)
        self.active += 1
        try:
            async for part in answer:
                if isinstance(part, Ended) and part.finish is None:
                    if not spoken:
                        raise CutAnswer("the stream ended before the answer began")
                    self._set_aside(began)
                elif isinstance(part, Ended):
                    self._failures = 0
                spoken = spoken or not isinstance(part, Chosen)
                yield part
        except _FAILURES as error:
            self._set_aside(began, getattr(error, "retry_after", None))
            if spoken or isinstance(error, BadAnswer):
                raise
            raise _Unsaid(error) from error
        finally:
            self.active -= 1
            await closed(answer)

    def _set_aside(self, began: float, asked: float | None = None) -> None:
        """For a while; what was under way when it failed fails with it, and that counts once."""
        if began < self.rests_until:
            return
        rest = min(_REST * 2**self._failures, _LONGEST_REST)
        self._failures += 1
        self.rests_until = monotonic() + max(rest, asked or 0.0)

    def __repr__(self) -> str:
        return f"Node({self.model!r}, active={self.active})"


class _Unsaid(Exception):
    """A node failed before it gave a part, so another may be asked."""

    def __init__(self, why: ModelError) -> None:
        super().__init__(why)
        self.why = why
