from agents import Agent, Runner, function_tool, set_default_openai_api, set_tracing_disabled

set_default_openai_api("chat_completions")
set_tracing_disabled(True)


@function_tool(needs_approval=True)
def send(to: str, text: str) -> str:
    """Send a message to somebody."""
    return f"sent to {to}"


agent = Agent("agent", model="m", tools=[send])
result = Runner.run_sync(agent, "Tell Ann that the meeting is at ten.")
while result.interruptions:
    state = result.to_state()
    for item in result.interruptions:
        if input(f"{item.name} {item.arguments}? ") == "y":
            state.approve(item)
        else:
            state.reject(item)
    result = Runner.run_sync(agent, state)
print(result.final_output)
