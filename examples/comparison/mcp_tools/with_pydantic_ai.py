from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset

server = MCPToolset(StdioTransport("python", ["weather_server.py"]))
agent = Agent("openai-chat:m", toolsets=[server])
print(agent.run_sync("Do I need a coat in Oslo?").output)
