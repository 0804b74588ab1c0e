"""An agent as a chat in the browser, made with Gradio. Needs the extra `web`."""

from agentcall.web.app import WebChat

__all__ = ["WebChat"]
