"""The loop of an agent: model turns, tool calls, approvals, handoffs, nested agents, sessions."""
