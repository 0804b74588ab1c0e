"""Pages of the web as text, and a guard against what is not of the web."""

from agentcall_tools.fetch.fetcher import Fetch, fetch, is_allowed
from agentcall_tools.fetch.url import FetchError

__all__ = ["Fetch", "FetchError", "fetch", "is_allowed"]
