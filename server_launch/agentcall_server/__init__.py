"""Model servers for agentcall: LMDeploy, launched and supervised, and the embedded one.

The package imports nothing of agentcall, so it can be used on the machine of the model alone.
"""

from agentcall_server.download import fetch
from agentcall_server.embedded_models import MODELS, EmbeddedModel, lookup
from agentcall_server.embedded_server import EmbeddedServer
from agentcall_server.errors import ServerError
from agentcall_server.launch import Launch
from agentcall_server.lmdeploy_server import LMDeployServer
from agentcall_server.shared_server import SharedServer, ensure

__all__ = [
    "MODELS",
    "EmbeddedModel",
    "EmbeddedServer",
    "LMDeployServer",
    "Launch",
    "ServerError",
    "SharedServer",
    "ensure",
    "fetch",
    "lookup",
]
