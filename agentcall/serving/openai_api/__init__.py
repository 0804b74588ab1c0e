"""An agent as an OpenAI-compatible endpoint, for any client of OpenAI's API.

The agent calls its tools on the server, and the client gets a plain completion. Needs the extra
`serve`.
"""

from agentcall.errors import MissingExtra

try:
    from agentcall.serving.openai_api.app import OpenAIEndpoint
    from agentcall.serving.run_requests import Capacity
except ModuleNotFoundError as error:
    raise MissingExtra.for_feature("the endpoint", "serve", error) from None

__all__ = ["Capacity", "OpenAIEndpoint"]
