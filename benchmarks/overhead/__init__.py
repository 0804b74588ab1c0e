"""What agentcall adds to a model call, beside a loop written by hand on aiohttp."""
