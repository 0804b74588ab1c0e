from agentcall import Agent


def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: 21 C, sunny"


print(Agent(tools=[weather]).run_sync("Do I need a coat in Oslo?").output)
