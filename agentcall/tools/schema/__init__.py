"""JSON Schemas of callables and types, and the validation of JSON arguments against them.

Types are pydantic's in lax mode ("2" is an int, 5 is a str); descriptions are those of the
docstring. A schema contains only what a model needs: no titles, and references only if a type is
recursive.
"""

from agentcall.errors import ArgumentProblem
from agentcall.tools.schema._definitions import merge_definitions
from agentcall.tools.schema.errors import format_shape
from agentcall.tools.schema.function import FunctionSchema, function_schema, input_schema
from agentcall.tools.schema.json_schema import ExternalSchema
from agentcall.tools.schema.signature import read_return_type
from agentcall.tools.schema.types import TypeSchema, type_schema

__all__ = [
    "ArgumentProblem",
    "ExternalSchema",
    "FunctionSchema",
    "TypeSchema",
    "format_shape",
    "function_schema",
    "input_schema",
    "merge_definitions",
    "read_return_type",
    "type_schema",
]
