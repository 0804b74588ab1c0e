"""Agents for other programs and people: the OpenAI-compatible endpoint and the web chat."""
