from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, Tool


def send(to: str, text: str) -> str:
    """Send a message to somebody."""
    return f"sent to {to}"


tools = [Tool(send, requires_approval=True)]
agent = Agent("openai-chat:m", tools=tools, output_type=[str, DeferredToolRequests])
result = agent.run_sync("Tell Ann that the meeting is at ten.")
while isinstance(result.output, DeferredToolRequests):
    decisions = DeferredToolResults()
    for call in result.output.approvals:
        decisions.approvals[call.tool_call_id] = input(f"{call.tool_name} {call.args}? ") == "y"
    history = result.all_messages()
    result = agent.run_sync(message_history=history, deferred_tool_results=decisions)
print(result.output)
