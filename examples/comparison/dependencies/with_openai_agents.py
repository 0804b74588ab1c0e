from dataclasses import dataclass

from agents import Agent, RunContextWrapper, Runner, function_tool
from agents import set_default_openai_api, set_tracing_disabled

set_default_openai_api("chat_completions")
set_tracing_disabled(True)


@dataclass
class User:
    name: str
    city: str


def instruct(context: RunContextWrapper[User], agent: Agent[User]) -> str:
    return f"The user is {context.context.name}."


@function_tool
def weather(context: RunContextWrapper[User]) -> str:
    """The weather where the user is."""
    return f"{context.context.city}: 21 C, sunny"


agent = Agent[User]("agent", model="m", tools=[weather], instructions=instruct)
print(Runner.run_sync(agent, "Do I need a coat?", context=User("Ann", "Oslo")).final_output)
