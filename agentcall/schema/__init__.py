"""A callable as JSON Schema, and JSON arguments checked against it.

Types are pydantic's, read laxly ("2" is an int, 5 is a str), descriptions the docstring's. The
schema says what a model needs and no more: no titles, references only where a type is recursive.
"""

from agentcall.errors import ArgumentProblem
from agentcall.schema.function import FunctionSchema, function_schema
from agentcall.schema.given import ExternalSchema
from agentcall.schema.input import input_schema
from agentcall.schema.output import TypeSchema, type_schema
from agentcall.schema.problems import format_shape

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
