"""Use your own client of the `openai` package: any provider, your settings.

    OPENAI_BASE_URL=http://127.0.0.1:23333/v1 OPENAI_API_KEY=none \
        python examples/with_openai_client.py internlm2_5-7b-chat "What is 12.5% of 360?"
"""

import sys

from openai import AsyncOpenAI

from agentcall import Agent
from agentcall.models.openai_client import OpenAIChat
from agentcall_tools.calculator import calculator

if __name__ == "__main__":
    model = sys.argv[1] if len(sys.argv) > 1 else "gpt-4o-mini"
    question = " ".join(sys.argv[2:]) or "What is 12.5% of 360?"
    client = AsyncOpenAI(max_retries=4, timeout=120.0)
    agent = Agent(OpenAIChat(client, model), tools=[calculator])
    print(agent.run_sync(question).output)
