"""Two tools of tests: one that only looks, and one that needs approval and notes what it did."""

from agentcall import tool

SENT: list[str] = []
"""Whom something was sent to; a test begins with nothing in it."""


@tool
def look(at: str = "it") -> str:
    """Look."""
    return f"saw {at}"


@tool(requires_approval=True)
def send(to: str) -> str:
    """Send."""
    SENT.append(to)
    return f"sent to {to}"
