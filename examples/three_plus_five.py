"""Compute (3+5)*2 with two tools; the model decides which to call, and in which order.

    python examples/three_plus_five.py

Uses the model named by AGENTCALL_MODEL ("lmdeploy:internlm2_5-7b-chat",
"http://127.0.0.1:8080/v1", "embedded"), else a local LMDeploy, else the embedded model.
"""

import sys

from agentcall import Agent, tool


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@tool
def mul(a: int, b: int) -> int:
    """Multiplies two numbers."""
    return a * b


agent = Agent(tools=[add, mul], instructions="Use the tools for every calculation.")

if __name__ == "__main__":
    result = agent.run_sync(sys.argv[1] if len(sys.argv) > 1 else "Compute (3+5)*2")
    for call in result.tool_calls:
        print(f"{call.name}({call.arguments}) -> {call.text}")
    print(result.output)
