from agents import Agent, Runner, SQLiteSession, set_default_openai_api, set_tracing_disabled

set_default_openai_api("chat_completions")
set_tracing_disabled(True)
agent, session = Agent("agent", model="m"), SQLiteSession("ann", "chat.db")
Runner.run_sync(agent, "My name is Ann.", session=session)
print(Runner.run_sync(agent, "What is my name?", session=session).final_output)
