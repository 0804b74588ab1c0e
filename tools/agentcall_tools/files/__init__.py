"""Tools that read and write the files of one folder, and cannot leave it."""

from agentcall_tools.files.files import Files
from agentcall_tools.files.root_folder import FileError

__all__ = ["FileError", "Files"]
