"""Ask a local model two questions and print every tool call.

    make demo

Uses the embedded model, downloaded on first use, or the model named by AGENTCALL_MODEL. Exits with
1 if a tool was not called or an answer is wrong.
"""

import asyncio
import os
import sys
from time import perf_counter

from agentcall import Agent, RunResult, tool
from agentcall.events import ModelProgress, RunFinished, TextDelta, ToolCallFinished
from agentcall_tools.units import convert_units

MODEL = os.environ.get("AGENTCALL_MODEL") or "embedded"
DEGREES = {"Oslo": -3.0, "Shanghai": 18.5, "Cairo": 31.0}


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@tool
def mul(a: int, b: int) -> int:
    """Multiplies two numbers."""
    return a * b


@tool
def temperature(city: str) -> str:
    """Tells the temperature in a city now, in degrees Celsius.

    Args:
        city: The city's name in English.
    """
    if city not in DEGREES:
        raise ValueError(f"{city} is not known; known are: {', '.join(DEGREES)}")
    return f"{DEGREES[city]} degrees Celsius"


arithmetic = Agent(
    MODEL, tools=[add, mul], instructions="Use the tools for every calculation, step by step."
)
forecaster = Agent(
    MODEL,
    tools=[temperature, convert_units],
    instructions="Look temperatures up and convert them with the tools; never guess.",
)


async def ask(agent: Agent, question: str) -> RunResult[str]:
    """Run the agent, print its calls and text as they happen, and return the result."""
    print(f"\n> {question}")
    started = perf_counter()
    result = None
    async for event in agent.run_stream(question):
        match event:
            case ModelProgress("fetching" | "loading"):
                started = perf_counter()  # the time of the answer does not include the download
            case ToolCallFinished(call, answer):
                print(f"  {call.name}({call.arguments}) -> {answer.text}")
            case TextDelta(text):
                print(text, end="", flush=True)
            case RunFinished():
                result = event.result
            case _:
                pass
    assert result is not None, "a run ends with RunFinished, or raises"
    usage = result.usage
    print(f"\n  {usage.requests} requests, {usage.total_tokens} tokens,", end=" ")
    print(f"{perf_counter() - started:.1f} s")
    return result


def find_faults(result: RunResult[str], tools: set[str], expected: str) -> list[str]:
    """List the tools that were not called, and a missing expected text."""
    called = {call.name for call in result.tool_calls if call.succeeded}
    faults = [f"{name} was not called" for name in sorted(tools - called)]
    if expected not in str(result):
        faults.append(f"the answer does not contain {expected}")
    return faults


async def main() -> int:
    """Return 0 if all tools were called and the answers are right, else 1."""
    product = await ask(arithmetic, "Compute (3+5)*2")
    weather = await ask(forecaster, "What is the temperature in Shanghai in degrees Fahrenheit?")
    faults = [
        *find_faults(product, {"add", "mul"}, "16"),
        *find_faults(weather, {"temperature", "convert_units"}, "65.3"),
    ]
    print(f"\n{'; '.join(faults) or 'All tools were called and both answers are right.'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
