"""Model servers for agentcall: the embedded one, its models and their download.

Stands alone: it imports nothing of agentcall, so that it can run on the machine of the model.
"""

from agentcall_server.catalogue import MODELS, EmbeddedModel, lookup
from agentcall_server.download import fetch
from agentcall_server.embedded import EmbeddedServer, ensure
from agentcall_server.errors import ServerError

__all__ = ["MODELS", "EmbeddedModel", "EmbeddedServer", "ServerError", "ensure", "fetch", "lookup"]
