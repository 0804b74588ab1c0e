"""A callable as JSON Schema, and JSON arguments checked against it.

Types are pydantic's, read laxly ("2" is an int, 5 is a str), descriptions the docstring's. The
schema says what a model needs and no more: no titles, references only where a type is recursive.
"""

from agentcall.errors import ArgumentProblem
from agentcall.tools.schema.errors import format_shape
from agentcall.tools.schema.function import FunctionSchema, function_schema, input_schema
from agentcall.tools.schema.json_schema import ExternalSchema
from agentcall.tools.schema.types import TypeSchema, type_schema

__all__ = [
    "ArgumentProblem",
    "ExternalSchema",
    "FunctionSchema",
    "TypeSchema",
    "format_shape",
    "function_schema",
    "input_schema",
    "type_schema",
]
