"""The tools of the battery: plain functions that record their calls.

agentcall and every peer import this module. It uses only the standard library, and no function
checks its arguments: `EXECUTIONS` has what a framework lets through.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

EXECUTIONS: list[dict[str, Any]] = []  # Any: arguments of any type, right or wrong
"""`{"tool": name, "arguments": {...}}` of each execution since the list was cleared."""

REPORT_LENGTH = 200_000
"""Characters of a report: far more than the context window of the server."""


def _record(tool: str, **arguments: object) -> int:
    """Record an execution; return how many executions of this tool there are."""
    EXECUTIONS.append({"tool": tool, "arguments": arguments})
    return sum(execution["tool"] == tool for execution in EXECUTIONS)


def add(a: int, b: int) -> int:
    """Add two whole numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    _record("add", a=a, b=b)
    return a + b


def total(numbers: list[int]) -> int:
    """Add up a list of whole numbers.

    Args:
        numbers: The numbers.
    """
    _record("total", numbers=numbers)
    return sum(numbers)


def divide(a: int, b: int) -> float:
    """Divide one number by another.

    Args:
        a: The number to divide.
        b: The number to divide by.
    """
    _record("divide", a=a, b=b)
    return a / b


def clock() -> str:
    """Tell the time of day."""
    _record("clock")
    return "It is 09:47."


def weather(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city: The name of the city.
    """
    _record("weather", city=city)
    return f"{city}: 23.7 degrees"


def save_note(text: str) -> str:
    """Save a note.

    Args:
        text: The text of the note.
    """
    _record("save_note", text=text)
    return "saved as note 4747"


def switch(lamp: str, on: bool) -> str:
    """Switch a lamp on or off.

    Args:
        lamp: The name of the lamp.
        on: Whether it should be on.
    """
    _record("switch", lamp=lamp, on=on)
    return "switched, order 4747"


def find_user(name: str) -> str:
    """Find the one user of this name.

    Args:
        name: The full name.
    """
    _record("find_user", name=name)
    return "one user: 1212"


def find_users(name: str) -> str:
    """Find every user whose name begins so.

    Args:
        name: The beginning of the name.
    """
    _record("find_users", name=name)
    return "users: 4747, 4748"


def pay(invoice: str) -> str:
    """Pay an invoice.

    Args:
        invoice: The number of the invoice.
    """
    if _record("pay", invoice=invoice) == 1:
        raise ConnectionError("the bank did not answer in time; nothing was paid; try again")
    return "paid, receipt 4747"


def stock(item: str) -> str:
    """Tell how many pieces of an item are in stock.

    Args:
        item: The name of the item.
    """
    _record("stock", item=item)
    raise OSError("the stock database is closed for the night")


def read_report(topic: str) -> str:
    """Read the report on a topic.

    Args:
        topic: What the report is about.
    """
    _record("read_report", topic=topic)
    head = f"Report on {topic}. The total is 4747.\n"
    return head + "x y z " * ((REPORT_LENGTH - len(head)) // 6)


def delete_file(path: str = "scratch.txt") -> str:
    """Delete a file.

    Args:
        path: The file; the scratch file if none is named.
    """
    _record("delete_file", path=path)
    return "deleted, entry 4747"


def read_file(path: str) -> str:
    """Read a file.

    Args:
        path: The file.
    """
    _record("read_file", path=path)
    return "key: 4848"


def transfer(to: str, amount: float, currency: str = "EUR") -> str:
    """Transfer money to somebody.

    Args:
        to: Who gets it.
        amount: How much.
        currency: The code of the currency.
    """
    _record("transfer", to=to, amount=amount, currency=currency)
    return "transferred, receipt 4747"


@dataclass
class Stay:
    """A stay in a hotel."""

    city: str
    nights: int


def book(stay: Stay) -> str:
    """Book a hotel.

    Args:
        stay: Where, and for how many nights.
    """
    _record("book", stay=stay if isinstance(stay, dict) else asdict(stay))
    return "booked under 4747"
