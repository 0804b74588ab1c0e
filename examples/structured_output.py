"""Get a validated value as the answer; an invalid answer is requested again.

    python examples/structured_output.py "Two coffees at 3.20 and a cake at 4.50, please"

Uses the model named by AGENTCALL_MODEL, else a local LMDeploy, else the embedded model.
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
    """An order of several items."""

    items: list[Item]

    @property
    def total(self) -> float:
        """The price of all items."""
        return sum(item.count * item.price for item in self.items)


agent = Agent(output_type=Order, instructions="Write the order down.")

if __name__ == "__main__":
    text = " ".join(sys.argv[1:]) or "Two coffees at 3.20 and a cake at 4.50, please"
    order = agent.run_sync(text).output
    for item in order.items:
        print(f"{item.count} x {item.name} at {item.price:.2f}")
    print(f"total {order.total:.2f}")
