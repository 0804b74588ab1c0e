"""An agent behind the AG-UI protocol, for frontends such as CopilotKit.

The agent calls its tools on the server, and the client gets the events of the run. Needs the extra
`serve`.
"""

from agentcall.errors import MissingExtra

try:
    from agentcall.serving.ag_ui.app import AGUIEndpoint
    from agentcall.serving.run_requests import Capacity
except ModuleNotFoundError as error:
    raise MissingExtra.for_feature("the AG-UI endpoint", "serve", error) from None

__all__ = ["AGUIEndpoint", "Capacity"]
