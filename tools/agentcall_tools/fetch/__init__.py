"""Web pages as text, and a guard that only lets public addresses be fetched."""

from agentcall_tools.fetch.fetcher import Fetch, fetch, is_allowed
from agentcall_tools.fetch.url import FetchError

__all__ = ["Fetch", "FetchError", "fetch", "is_allowed"]
