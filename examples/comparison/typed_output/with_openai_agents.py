from agents import Agent, Runner, set_default_openai_api, set_tracing_disabled
from pydantic import BaseModel

set_default_openai_api("chat_completions")
set_tracing_disabled(True)


class Place(BaseModel):
    city: str
    country: str


agent = Agent("agent", model="m", output_type=Place)
print(Runner.run_sync(agent, "Where is the Eiffel Tower?").final_output.city)
