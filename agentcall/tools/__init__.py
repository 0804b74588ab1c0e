"""Tools: functions that a model can call.

tool.py has `@tool`, `Tool` and `RunContext`, registry.py `ToolRegistry`, schema/ a signature as
JSON Schema and the validation of arguments, search.py and selection.py the choice among many tools,
serialize.py the text of a tool's output, importable.py references for other processes. The public
names are exported by `agentcall`; here `agentcall.tools.tool` is the module.
"""
