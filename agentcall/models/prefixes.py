"""Which node last saw the beginning of a conversation: its prefix cache may still hold it.

A conversation is known by what it says, not by its run: so a session's next run, or a second
question about the same long text, finds the node of the first. Several beginnings of one
conversation may be known, at several nodes; the longest is the one that counts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from agentcall.models.protocol import Request


class Prefixes:
    """Nodes by the conversations that they saw last; keeps the last `kept`."""

    def __init__(self, kept: int = 4096) -> None:
        self._kept = kept
        self._nodes: OrderedDict[int, int] = OrderedDict()

    def node(self, beginnings: Sequence[int]) -> int | None:
        """The node that saw the longest of the beginnings."""
        return next((self._nodes[b] for b in reversed(beginnings) if b in self._nodes), None)

    def saw(self, node: int, beginnings: Sequence[int]) -> None:
        """Notes that the node read the whole conversation."""
        whole = beginnings[-1]
        self._nodes[whole] = node
        self._nodes.move_to_end(whole)
        if len(self._nodes) > self._kept:
            self._nodes.popitem(last=False)


def beginnings(request: Request) -> list[int]:
    """A number for each beginning of a conversation, the shortest first, the whole one last.

    The shortest has one message: what all conversations of an agent share is on every node soon.
    """
    offer = request.offer
    so_far = hash((offer.instructions, tuple(tool.name for tool in offer.tools)))
    found: list[int] = []
    for message in request.transcript:
        so_far = hash((so_far, message))
        found.append(so_far)
    return found or [so_far]
