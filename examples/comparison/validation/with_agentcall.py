from pydantic import BaseModel

from agentcall import Agent, ModelRetry, RunContext


class Booking(BaseModel):
    city: str
    nights: int


def check(context: RunContext[int], booking: Booking) -> Booking:
    if booking.nights > context.deps:
        raise ModelRetry(f"At most {context.deps} nights are free.")
    return booking


agent = Agent(output_type=Booking, deps_type=int, check_output=check)
print(agent.run_sync("Book five nights in Oslo.", deps=3).output)
