"""An agent as a chat in the browser: `agentcall.web.app.WebChat`. Needs the extra `web`."""
