from agentcall import Agent, ModelSettings

settings = ModelSettings(temperature=0.2, extra_headers={"X-Tenant": "a"})
print(Agent(settings=settings).run_sync("Hello!").output)
