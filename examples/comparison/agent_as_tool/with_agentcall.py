from agentcall import Agent

forecaster = Agent(name="forecaster", instructions="You forecast the weather.")
agent = Agent(tools=[forecaster.as_tool()])
print(agent.run_sync("Do I need a coat in Oslo?").output)
