"""Report the weather of real places, with streamed text and tool calls.

    python examples/weather_agent.py "Do I need a coat in Oslo today?"

Uses Open-Meteo, which needs a network connection, and the model named by AGENTCALL_MODEL, else a
local LMDeploy, else the embedded model.
"""

import asyncio
import sys

from agentcall import Agent
from agentcall.events import TextDelta, ToolCallFinished
from agentcall_tools.units import convert_units
from agentcall_tools.weather import weather

agent = Agent(
    tools=[weather, convert_units],
    instructions="Look the weather up before you speak of it. Answer in one or two sentences.",
)


async def main(question: str) -> None:
    """Run the agent and print the events as they happen."""
    async for event in agent.run_stream(question):
        match event:
            case TextDelta(text):
                print(text, end="", flush=True)
            case ToolCallFinished(call, result, seconds):
                print(f"[{call.name} {call.arguments}, {seconds:.1f} s]\n{result.text}\n")
            case _:
                pass
    print()


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Do I need a coat in Oslo today?"))
