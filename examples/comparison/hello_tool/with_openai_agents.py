from agents import Agent, Runner, function_tool, set_default_openai_api, set_tracing_disabled

set_default_openai_api("chat_completions")
set_tracing_disabled(True)


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: 21 C, sunny"


agent = Agent("agent", model="m", tools=[weather])
print(Runner.run_sync(agent, "Do I need a coat in Oslo?").final_output)
