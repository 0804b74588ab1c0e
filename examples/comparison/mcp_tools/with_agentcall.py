from agentcall import Agent
from agentcall.mcp import MCPTools

agent = Agent(tools=MCPTools("python weather_server.py"))
print(agent.run_sync("Do I need a coat in Oslo?").output)
