"""Ready-made tools: small, typed, with limits. Each can also be called as a plain function."""

TOOLS: dict[str, str] = {
    "calculator": "agentcall_tools.calculator:calculator",
    "current_time": "agentcall_tools.clock:current_time_tool",
    "convert_time": "agentcall_tools.clock:convert_time_tool",
    "time_difference": "agentcall_tools.clock:time_difference_tool",
    "calendar_day": "agentcall_tools.clock:calendar_day_tool",
    "convert_units": "agentcall_tools.units:convert_units",
    "weather": "agentcall_tools.weather:weather",
    "fetch": "agentcall_tools.fetch:fetch",
    "search_papers": "agentcall_tools.papers:search_papers",
    "read_paper": "agentcall_tools.papers:read_paper",
}

KITS: dict[str, str] = {
    "files": "agentcall_tools.files:Files",
    "sql": "agentcall_tools.sql:Sql",
    "search": "agentcall_tools.search:Search",
    "shell": "agentcall_tools.shell:Shell",
    "python": "agentcall_tools.python:Python",
    "fetch": "agentcall_tools.fetch:Fetch",
    "knowledge": "agentcall_tools.knowledge:Knowledge",
}
"""Classes that make tools from one argument, such as `files=/srv/notes` on the command line."""
