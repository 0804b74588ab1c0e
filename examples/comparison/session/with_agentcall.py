from agentcall import Agent, SQLiteSession

agent, session = Agent(), SQLiteSession("ann", "chat.db")
agent.run_sync("My name is Ann.", session=session)
print(agent.run_sync("What is my name?", session=session).output)
