"""An agent with a ready-made calculator: exact arithmetic, without eval.

    python examples/calculator_agent.py "What is e^8/12345, to six digits?"

Uses the model named by AGENTCALL_MODEL, else a local LMDeploy, else the embedded model.
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
