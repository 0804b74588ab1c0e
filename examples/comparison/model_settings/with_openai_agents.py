from agents import Agent, ModelSettings, Runner
from agents import set_default_openai_api, set_tracing_disabled

set_default_openai_api("chat_completions")
set_tracing_disabled(True)
settings = ModelSettings(temperature=0.2, extra_headers={"X-Tenant": "a"})
agent = Agent("agent", model="m", model_settings=settings)
print(Runner.run_sync(agent, "Hello!").final_output)
