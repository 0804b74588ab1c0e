"""Which node last saw the beginning of a conversation: its prefix cache may still hold it.

A conversation is known by what it says, not by its run: so a session's next run, or a second
question about the same long text, finds the node of the first. Several beginnings of one
conversation may be known, at several nodes; the longest is the one that counts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from agentcall.models.protocol import ModelRequest


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
