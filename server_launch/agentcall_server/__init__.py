"""Model servers for agentcall: LMDeploy, launched and kept up, and the embedded one.

Stands alone: it imports nothing of agentcall, so that it can run on the machine of the model.
"""

from agentcall_server.download import fetch
from agentcall_server.embedded_models import MODELS, EmbeddedModel, lookup
from agentcall_server.embedded_server import EmbeddedServer, ensure
from agentcall_server.errors import ServerError
from agentcall_server.launch import Launch
from agentcall_server.lmdeploy_server import LMDeployServer

__all__ = [
    "MODELS",
    "EmbeddedModel",
    "EmbeddedServer",
    "LMDeployServer",
    "Launch",
    "ServerError",
    "ensure",
    "fetch",
    "lookup",
]
