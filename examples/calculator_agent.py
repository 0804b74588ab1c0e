"""An agent with a ready-made tool: any arithmetic, exactly and safely, without eval.

    python examples/calculator_agent.py "What is e^8/12345, to six digits?"

The model is the one that AGENTCALL_MODEL names, else a local LMDeploy, else the embedded one.
"""

import sys

from agentcall import Agent
from agentcall_tools.calculator import calculator

agent = Agent(
    tools=[calculator],
    instructions="Use the calculator for every calculation. Answer in one sentence.",
)

if __name__ == "__main__":
    question = " ".join(sys.argv[1:]) or "What is e^8/12345, to six digits?"
    print(agent.run_sync(question).output)
