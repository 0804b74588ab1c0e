"""Measure how agentcall and its peers handle the faults of local models and servers."""
