"""Messages to a run that is under way.

Rules:
1. A message arrives before the next request, after the results of the calls of the turn. A run that
   would end with an answer while a message waits continues with the message.
2. No message is lost silently: `send` returns False when no run will take the message, and those
   that a run took and did not deliver, as it ended by a limit or waits for approval, are in
   `RunResult.undelivered`. A resumed run delivers them.
3. A durable run records a message before the request that contains it, and those that a tool sent
   together with the tool's result.
"""

from __future__ import annotations

from threading import Lock
from typing import Literal

from agentcall.errors import UsageError
from agentcall.messages import Prompt, User, to_user_message


class Inbox:
    """Takes messages for a run: `agent.run(prompt, inbox=inbox)`, and `inbox.send(text)` meanwhile.

    Before its first run, the run begins with what was sent. It may be used for one run after
    another, and by any thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._messages: list[User] = []
        self._state: Literal["new", "open", "closed"] = "new"

    @property
    def is_open(self) -> bool:
        """Whether a run takes messages now."""
        return self._state == "open"

    def send(self, message: Prompt | User) -> bool:
        """Send a message of the user: a text, an image, or a list of these.

        Returns False if the run has ended. Raises UsageError for what is not a message.
        """
        user = message if isinstance(message, User) else to_user_message(message)
        with self._lock:
            if self._state == "closed":
                return False
            self._messages.append(user)
            return True

    def open(self) -> None:
        """Take messages for a run that begins. Raises UsageError if another run takes them."""
        with self._lock:
            if self._state == "open":
                raise UsageError("this inbox is that of another run; make one for each: Inbox()")
            self._state = "open"

    def take(self) -> list[User]:
        """Return and remove the messages that wait."""
        with self._lock:
            taken, self._messages = self._messages, []
            return taken

    def close_if_empty(self) -> bool:
        """Close the inbox, unless a message waits."""
        with self._lock:
            if not self._messages:
                self._state = "closed"
            return not self._messages

    def close(self) -> tuple[User, ...]:
        """Close the inbox; return and remove the messages that wait."""
        with self._lock:
            self._state = "closed"
            left, self._messages = self._messages, []
            return tuple(left)
