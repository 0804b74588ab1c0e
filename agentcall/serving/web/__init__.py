"""An agent as a chat in the browser: `agentcall.serving.web.app.WebChat`. Needs the extra `web`."""
