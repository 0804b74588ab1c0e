from agents import Agent, Runner, set_default_openai_api, set_tracing_disabled
from pydantic import BaseModel

set_default_openai_api("chat_completions")
set_tracing_disabled(True)


class Booking(BaseModel):
    city: str
    nights: int


agent, most = Agent("agent", model="m", output_type=Booking), 3
result = Runner.run_sync(agent, "Book five nights in Oslo.")
while result.final_output.nights > most:
    note = {"role": "user", "content": f"At most {most} nights are free."}
    result = Runner.run_sync(agent, [*result.to_input_list(), note])
print(result.final_output)
