from agentcall import Agent, tool


@tool(requires_approval=True)
def send(to: str, text: str) -> str:
    """Send a message to somebody."""
    return f"sent to {to}"


agent = Agent(tools=[send])
result = agent.run_sync("Tell Ann that the meeting is at ten.")
while result.pending:
    decisions = {item.call.id: input(f"{item.call}? ") == "y" for item in result.pending}
    result = agent.resume_sync(result, decisions)
print(result.output)
