"""Two questions to a model that runs on this machine, with every tool call shown.

    make demo

The model is the embedded one, downloaded at first, or the one that AGENTCALL_MODEL names. Ends
with 1 if a tool was not called or an answer is wrong.
"""

import asyncio
import os
import sys
from time import perf_counter

from agentcall import Agent, RunResult, tool
from agentcall.events import RunFinished, TextDelta, ToolCallFinished
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
    """The result of a run; prints its calls and its text as they happen."""
    print(f"\n> {question}")
    started = perf_counter()
    result = None
    async for event in agent.run_stream(question):
        match event:
            case ToolCallFinished(call, answer):
                print(f"  {call.name}({call.arguments}) -> {answer.text}")
            case TextDelta(text):
                print(text, end="", flush=True)
            case RunFinished():
                result = event.result
            case _:
                pass
    assert result is not None, "a run ends with RunFinished, or raises"
    used = result.usage
    print(f"\n  {used.requests} requests, {used.total_tokens} tokens,", end=" ")
    print(f"{perf_counter() - started:.1f} s")
    return result


def missing(result: RunResult[str], tools: set[str], words: str) -> list[str]:
    """What a result should have and does not."""
    done = {call.name for call, answer in result.tool_calls if answer and not answer.is_error}
    lacks = [f"{name} was not called" for name in sorted(tools - done)]
    return lacks if words in str(result) else [*lacks, f"the answer does not say {words}"]


async def main() -> int:
    """0 if all went well, else 1."""
    sixteen = await ask(arithmetic, "Compute (3+5)*2")
    warmth = await ask(forecaster, "What is the temperature in Shanghai in degrees Fahrenheit?")
    faults = [
        *missing(sixteen, {"add", "mul"}, "16"),
        *missing(warmth, {"temperature", "convert_units"}, "65.3"),
    ]
    print(f"\n{'; '.join(faults) or 'All as it should be.'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
