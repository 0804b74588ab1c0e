import asyncio

from agents import Agent, Runner, set_default_openai_api, set_tracing_disabled
from agents.mcp import MCPServerStdio

set_default_openai_api("chat_completions")
set_tracing_disabled(True)


async def main() -> None:
    async with MCPServerStdio({"command": "python", "args": ["weather_server.py"]}) as server:
        agent = Agent("agent", model="m", mcp_servers=[server])
        print((await Runner.run(agent, "Do I need a coat in Oslo?")).final_output)


asyncio.run(main())
