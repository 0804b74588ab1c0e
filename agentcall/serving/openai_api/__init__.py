"""An agent as an OpenAI-compatible endpoint, for any client of OpenAI's API.

The agent calls its tools on the server, and the client gets a plain completion. Needs the extra
`serve`.
"""

from agentcall.serving.openai_api.app import Capacity, OpenAIEndpoint

__all__ = ["Capacity", "OpenAIEndpoint"]
