from dataclasses import dataclass

from agentcall import Agent, RunContext


@dataclass
class User:
    name: str
    city: str


def instruct(context: RunContext[User]) -> str:
    return f"The user is {context.deps.name}."


def weather(context: RunContext[User]) -> str:
    """The weather where the user is."""
    return f"{context.deps.city}: 21 C, sunny"


agent = Agent(tools=[weather], instructions=instruct, deps_type=User)
print(agent.run_sync("Do I need a coat?", deps=User("Ann", "Oslo")).output)
