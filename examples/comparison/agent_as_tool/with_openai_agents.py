from agents import Agent, Runner, set_default_openai_api, set_tracing_disabled

set_default_openai_api("chat_completions")
set_tracing_disabled(True)
forecaster = Agent("forecaster", model="m", instructions="You forecast the weather.")
tools = [forecaster.as_tool("forecaster", "Ask the forecaster.")]
agent = Agent("agent", model="m", tools=tools)
print(Runner.run_sync(agent, "Do I need a coat in Oslo?").final_output)
