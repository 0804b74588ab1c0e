"""An answer as a value: validated, and asked for again where it does not fit.

    python examples/structured_output.py "Two coffees at 3.20 and a cake at 4.50, please"

The model is the one that AGENTCALL_MODEL names, else a local LMDeploy, else the embedded one.
"""

import sys

from pydantic import BaseModel, Field

from agentcall import Agent


class Item(BaseModel):
    """One line of an order."""

    name: str
    count: int = Field(ge=1)
    price: float = Field(description="Price of one")


class Order(BaseModel):
    """All that was ordered."""

    items: list[Item]

    @property
    def total(self) -> float:
        """What all items cost together."""
        return sum(item.count * item.price for item in self.items)


agent = Agent(output_type=Order, instructions="Write the order down.")

if __name__ == "__main__":
    words = " ".join(sys.argv[1:]) or "Two coffees at 3.20 and a cake at 4.50, please"
    order = agent.run_sync(words).output
    for item in order.items:
        print(f"{item.count} x {item.name} at {item.price:.2f}")
    print(f"total {order.total:.2f}")
