"""Tools that read and write the files beneath one folder, and cannot leave it."""

from agentcall_tools.files.beneath import FileError
from agentcall_tools.files.files import Files

__all__ = ["FileError", "Files"]
