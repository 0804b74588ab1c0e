from pydantic import BaseModel

from agentcall import Agent


class Place(BaseModel):
    city: str
    country: str


print(Agent(output_type=Place).run_sync("Where is the Eiffel Tower?").output.city)
