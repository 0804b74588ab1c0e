"""An agent behind an OpenAI-compatible endpoint, for clients that know nothing else.

The agent's tools are called here; what comes back is a plain completion. Needs the extra
`serve`.
"""

from agentcall.serving.openai_api.app import Capacity, OpenAIEndpoint

__all__ = ["Capacity", "OpenAIEndpoint"]
