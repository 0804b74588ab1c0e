"""Measure the overhead of agentcall, compared with a loop written by hand on aiohttp."""
