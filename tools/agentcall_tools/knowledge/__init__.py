"""Retrieval as a tool: search passages in the documents of a folder."""

from agentcall_tools.knowledge.document import DocumentError
from agentcall_tools.knowledge.knowledge import Knowledge, KnowledgeError
from agentcall_tools.knowledge.refresh import IndexReport

__all__ = ["DocumentError", "IndexReport", "Knowledge", "KnowledgeError"]
