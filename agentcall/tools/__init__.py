"""Tools: functions that a model can call, with their JSON Schemas."""
