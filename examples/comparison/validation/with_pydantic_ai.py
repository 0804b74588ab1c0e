from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext


class Booking(BaseModel):
    city: str
    nights: int


agent = Agent("openai-chat:m", output_type=Booking, deps_type=int)


@agent.output_validator
def check(context: RunContext[int], booking: Booking) -> Booking:
    if booking.nights > context.deps:
        raise ModelRetry(f"At most {context.deps} nights are free.")
    return booking


print(agent.run_sync("Book five nights in Oslo.", deps=3).output)
