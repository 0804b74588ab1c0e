from pydantic import BaseModel
from pydantic_ai import Agent


class Place(BaseModel):
    city: str
    country: str


agent = Agent("openai-chat:m", output_type=Place)
print(agent.run_sync("Where is the Eiffel Tower?").output.city)
