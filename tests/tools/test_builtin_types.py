"""Builtin types work without pydantic, and pydantic agrees with the results."""

import json
import subprocess
import sys
import types
from functools import reduce
from operator import or_
from typing import Any, Literal, Optional

from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from agentcall.tools.schema.errors import TypeMismatch
from agentcall.tools.schema.pydantic_types import build_pydantic_adapter
from agentcall.tools.schema.types import BuiltinAdapter, get_builtin_schema, is_value_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(["a", "b", "7", "true"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SCALARS = st.sampled_from([str, int, float, bool])
CHOICES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True)


def either(parts: list[Any]) -> Any:
    return reduce(or_, parts) if len(parts) > 1 else Optional[parts[0]]  # noqa: UP045


TYPES = st.recursive(
    SCALARS | CHOICES.map(lambda parts: Literal[tuple(parts)]),
    lambda inner: (
        inner.map(lambda part: types.GenericAlias(list, (part,)))
        | inner.map(lambda part: types.GenericAlias(dict, (str, part)))
        | st.lists(inner, min_size=1, max_size=3).map(either)
    ),
    max_leaves=4,
)


@given(TYPES)
def test_the_schema_of_a_plain_type_is_the_one_that_pydantic_gives(annotation: Any) -> None:
    assert json.dumps(get_builtin_schema(annotation)) == json.dumps(
        build_pydantic_adapter(annotation).schema
    )


@given(TYPES, VALUES)
def test_a_value_of_a_plain_type_is_what_pydantic_gives_for_it(annotation: Any, value: Any) -> None:
    if is_value_of(value, annotation):
        assert repr(build_pydantic_adapter(annotation).read(value, "x", {})) == repr(value)


@given(TYPES, VALUES)
def test_any_other_value_is_read_by_pydantic(annotation: Any, value: Any) -> None:
    def told(reader: Any) -> str:
        try:
            return repr(reader.read(value, "x", {}))
        except TypeMismatch as misfit:
            return str(misfit)

    assert told(BuiltinAdapter(annotation, {})) == told(build_pydantic_adapter(annotation))


@each_row(
    "annotation", [bytes, list, dict, Any, object, dict[int, str], list[bytes], Literal[1, 2]]
)
def test_other_types_are_not_plain(annotation: Any) -> None:
    assert get_builtin_schema(annotation) is None


def test_tools_of_plain_types_are_made_and_read_without_pydantic() -> None:
    code = (
        "import sys\n"
        "from agentcall import Agent, tool\n"
        "@tool\n"
        "def book(city: str, nights: int = 1, tags: list[str] | None = None) -> str:\n"
        "    'Book a room.'\n"
        "    return city\n"
        'book.parse(\'{"city": "Oslo", "tags": ["quiet"]}\')\n'
        "assert not [name for name in sys.modules if name.startswith('pydantic')]\n"
        'book.parse(\'{"city": "Oslo", "nights": "2"}\')\n'
        "assert 'pydantic' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
