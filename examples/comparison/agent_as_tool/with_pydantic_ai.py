from pydantic_ai import Agent, RunContext

forecaster = Agent("openai-chat:m", instructions="You forecast the weather.")
agent = Agent("openai-chat:m")


@agent.tool
async def ask_forecaster(context: RunContext[None], task: str) -> str:
    """Ask the forecaster."""
    return (await forecaster.run(task, usage=context.usage)).output


print(agent.run_sync("Do I need a coat in Oslo?").output)
