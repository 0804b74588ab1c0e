"""Functions as JSON Schema, and the validation of arguments."""
# ruff: noqa: B008, UP007, UP045 - every spelling that people use is a case here

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import json
import pathlib
import sys
import textwrap
import types
import typing
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import jsonschema
import pytest
import typing_extensions
from annotated_doc import Doc
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model
from rows import each_row

from agentcall.errors import ArgumentProblem, ArgumentsError, SchemaError
from agentcall.tools.schema import FunctionSchema, function_schema, type_schema

Deps = TypeVar("Deps")


class RunContext(Generic[Deps]):
    pass


class Colour(enum.Enum):
    """What paint looks like."""

    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Address(BaseModel):
    street: str
    number: int = Field(ge=1, description="house number")


class Person(BaseModel):
    """A person."""

    name: str
    home: Address
    work: Address | None = None


class Node(BaseModel):
    value: int
    children: list["Node"] = []


class Pair(NamedTuple):
    a: int
    b: str = "q"


class Old(typing.TypedDict):
    """An old dict."""

    name: str
    size: typing_extensions.NotRequired[int]


class OldTotal(typing.TypedDict, total=False):
    inner: Old
    must: "typing_extensions.Required[list[Old]]"


class OldTree(typing.TypedDict):
    value: int
    children: "list[OldTree]"


@dataclasses.dataclass
class Holder:
    old: Old
    count: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Careful:
    a: int
    old: Optional[Old] = None

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("a is negative")


@dataclasses.dataclass
class Tree:
    old: Old
    twins: "list[Twin]" = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Twin:
    tree: Tree


class OldPair(NamedTuple):
    old: Old
    n: int = 1


UserId = NewType("UserId", int)
Bound = TypeVar("Bound", bound=int)


def properties(schema: FunctionSchema) -> dict[str, Any]:
    jsonschema.Draft202012Validator.check_schema(schema.parameters)
    return dict(schema.parameters["properties"])  # type: ignore[arg-type, call-overload]


def of(annotation: object, default: object = inspect.Parameter.empty) -> FunctionSchema:
    """Return the schema of a function with one parameter `x`."""

    def f(x):  # type: ignore[no-untyped-def]
        return x

    f.__annotations__["x"] = annotation
    if default is not inspect.Parameter.empty:
        f.__defaults__ = (default,)
    return function_schema(f)


def call(function: Any, arguments: object) -> Any:
    """Return the result of a call with these JSON arguments."""
    schema = function_schema(function, context_type=RunContext)
    positional, keywords = schema.bind(schema.parse(json.dumps(arguments)), "the context")
    return function(*positional, **keywords)


def refusal(schema: FunctionSchema, arguments: str | bytes) -> str:
    with pytest.raises(ArgumentsError) as caught:
        schema.parse(arguments)
    return str(caught.value)


# Every kind of type: annotation, schema, a JSON value, the Python value.
NAN = float("nan")
TYPES: dict[str, tuple[object, dict[str, Any], object, object]] = {
    "int": (int, {"type": "integer"}, "2", 2),
    "big int": (int, {"type": "integer"}, 10**30, 10**30),
    "float": (float, {"type": "number"}, "2.5", 2.5),
    "bool": (bool, {"type": "boolean"}, "true", True),
    "str": (str, {"type": "string"}, 5, "5"),
    "none": (None, {"type": "null"}, None, None),
    "optional": (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),
    "pipe": (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "3", 3),
    "union": (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a", "a"),
    "union turned": (Union[str, int], {"anyOf": [{"type": "string"}, {"type": "integer"}]}, 1, 1),
    "literal": (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}, "b", "b"),
    "enum": (
        Colour,
        {"description": "What paint looks like.", "enum": ["red", "green"], "type": "string"},
        "red",
        Colour.RED,
    ),
    "int enum": (Level, {"enum": [1, 2], "type": "integer"}, 2, Level.HIGH),
    "dataclass": (
        Point,
        {
            "properties": {"x": {"type": "integer"}, "y": {"default": 0, "type": "integer"}},
            "required": ["x"],
            "type": "object",
        },
        {"x": "1"},
        Point(1),
    ),
    "model": (
        Address,
        {
            "properties": {
                "street": {"type": "string"},
                "number": {"description": "house number", "minimum": 1, "type": "integer"},
            },
            "required": ["street", "number"],
            "type": "object",
        },
        {"street": "a", "number": 1},
        Address(street="a", number=1),
    ),
    "named tuple": (
        Pair,
        {
            "maxItems": 2,
            "minItems": 1,
            "prefixItems": [{"type": "integer"}, {"default": "q", "type": "string"}],
            "type": "array",
        },
        [1],
        Pair(1),
    ),
    "new type": (UserId, {"type": "integer"}, 1, 1),
    "type var": (Bound, {"type": "integer"}, "1", 1),
    "free type var": (Deps, {}, "1", "1"),
    "list": (list[int], {"items": {"type": "integer"}, "type": "array"}, ["1"], [1]),
    "bare list": (list, {"items": {}, "type": "array"}, [1, "a"], [1, "a"]),
    "nested list": (
        list[dict[str, int]],
        {"items": {"additionalProperties": {"type": "integer"}, "type": "object"}, "type": "array"},
        [{"a": "1"}],
        [{"a": 1}],
    ),
    "dict": (
        dict[int, str],
        {"additionalProperties": {"type": "string"}, "type": "object"},
        {"1": 2},
        {1: "2"},
    ),
    "any dict": (dict[str, Any], {"type": "object"}, {"a": [1]}, {"a": [1]}),
    "mapping": (
        collections.abc.Mapping[str, int],
        {"additionalProperties": {"type": "integer"}, "type": "object"},
        {"a": 1},
        {"a": 1},
    ),
    "tuple": (
        tuple[int, str],
        {
            "maxItems": 2,
            "minItems": 2,
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "type": "array",
        },
        [1, "a"],
        (1, "a"),
    ),
    "long tuple": (
        tuple[int, ...],
        {"items": {"type": "integer"}, "type": "array"},
        [1, 2],
        (1, 2),
    ),
    "set": (
        set[int],
        {"items": {"type": "integer"}, "type": "array", "uniqueItems": True},
        [1, 1],
        {1},
    ),
    "sequence": (
        collections.abc.Sequence[int],
        {"items": {"type": "integer"}, "type": "array"},
        [1],
        [1],
    ),
    "iterable": (
        collections.abc.Iterable[int],
        {"items": {"type": "integer"}, "type": "array"},
        ["1"],
        [1],
    ),
    "bare iterable": (typing.Iterable, {"items": {}, "type": "array"}, ["1"], ["1"]),
    "date": (
        datetime.date,
        {"format": "date", "type": "string"},
        "2026-11-30",
        datetime.date(2026, 11, 30),
    ),
    "datetime": (
        datetime.datetime,
        {"format": "date-time", "type": "string"},
        "2026-11-30T10:00",
        datetime.datetime(2026, 11, 30, 10),  # noqa: DTZ001 - the text has no zone
    ),
    "time": (datetime.time, {"format": "time", "type": "string"}, "10:00", datetime.time(10)),
    "timedelta": (
        datetime.timedelta,
        {"format": "duration", "type": "string"},
        "PT1H",
        datetime.timedelta(hours=1),
    ),
    "decimal": (decimal.Decimal, {"type": "number"}, "1.10", decimal.Decimal("1.10")),
    "uuid": (
        uuid.UUID,
        {"format": "uuid", "type": "string"},
        str(uuid.UUID(int=1)),
        uuid.UUID(int=1),
    ),
    "path": (pathlib.Path, {"format": "path", "type": "string"}, "a/b", pathlib.Path("a/b")),
    "bytes": (bytes, {"type": "string"}, "ab", b"ab"),
    "any": (Any, {}, {"a": 1}, {"a": 1}),
    "object": (object, {}, 1, 1),
    "unannotated": (inspect.Parameter.empty, {}, [1], [1]),
    "field": (
        Annotated[int, Field(ge=1, le=9, description="how many")],
        {"description": "how many", "maximum": 9, "minimum": 1, "type": "integer"},
        9,
        9,
    ),
    "pattern": (
        Annotated[str, Field(pattern="^a", min_length=2)],
        {"minLength": 2, "pattern": "^a", "type": "string"},
        "ab",
        "ab",
    ),
    "annotated text": (
        Annotated[int, "how many"],
        {"type": "integer", "description": "how many"},
        1,
        1,
    ),
    "annotated doc": (
        Annotated[int, Doc("how many")],
        {"type": "integer", "description": "how many"},
        1,
        1,
    ),
    "inner annotated text": (
        list[Annotated[int, "one"]],
        {"items": {"description": "one", "type": "integer"}, "type": "array"},
        [1],
        [1],
    ),
    "optional annotated": (
        Optional[Annotated[int, Field(ge=1)]],
        {"anyOf": [{"minimum": 1, "type": "integer"}, {"type": "null"}]},
        1,
        1,
    ),
    "typing typed dict": (
        Old,
        {
            "description": "An old dict.",
            "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
            "required": ["name"],
            "type": "object",
        },
        {"name": 5},
        {"name": "5"},
    ),
    "optional typed dicts": (
        Optional[dict[str, list[OldTotal]]],
        {
            "anyOf": [
                {
                    "type": "object",
                    "additionalProperties": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "inner": {
                                    "description": "An old dict.",
                                    "properties": {
                                        "name": {"type": "string"},
                                        "size": {"type": "integer"},
                                    },
                                    "required": ["name"],
                                    "type": "object",
                                },
                                "must": {
                                    "type": "array",
                                    "items": {
                                        "description": "An old dict.",
                                        "properties": {
                                            "name": {"type": "string"},
                                            "size": {"type": "integer"},
                                        },
                                        "required": ["name"],
                                        "type": "object",
                                    },
                                },
                            },
                            "required": ["must"],
                        },
                    },
                },
                {"type": "null"},
            ]
        },
        {"a": [{"must": []}]},
        {"a": [{"must": []}]},
    ),
    "dataclass of typed dict": (
        Holder,
        {
            "properties": {
                "old": {
                    "description": "An old dict.",
                    "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
                    "required": ["name"],
                    "type": "object",
                },
                "count": {"default": 1, "type": "integer"},
                "tags": {"items": {"type": "string"}, "type": "array"},
            },
            "required": ["old"],
            "type": "object",
        },
        {"old": {"name": "a"}, "count": "2"},
        Holder({"name": "a"}, 2),
    ),
}


@each_row("case", TYPES)
def test_a_type_has_its_schema_and_reads_its_values(case: str) -> None:
    annotation, schema, wire, value = TYPES[case]
    if annotation is inspect.Parameter.empty:
        built = function_schema(lambda x: x, name="f")
    else:
        built = of(annotation)
    assert properties(built) == {"x": schema}
    assert built.parameters["required"] == ["x"]
    read = built.parse(json.dumps({"x": wire}))["x"]
    assert read == value
    assert type(read) is type(value)


@each_row("case", TYPES)
def test_an_output_type_shares_the_machinery(case: str) -> None:
    annotation, schema, wire, value = TYPES[case]
    if annotation is inspect.Parameter.empty or get_metadata(annotation):
        return
    built = type_schema(annotation)
    assert built.schema == schema
    assert built.parse(json.dumps(wire)) == value


def get_metadata(annotation: object) -> bool:
    return hasattr(annotation, "__metadata__")


PLAIN = st.sampled_from(
    [int, str, float, bool, list, dict, Literal["a", 1], datetime.date, Colour, Any]
)
ANNOTATIONS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        inner.map(lambda t: list[t]),  # type: ignore[valid-type]
        inner.map(lambda t: dict[str, t]),  # type: ignore[valid-type]
        inner.map(lambda t: Optional[t]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda ts: Union[ts]),
        st.tuples(inner, inner).map(lambda ts: tuple[ts]),  # type: ignore[valid-type]
    ),
    max_leaves=5,
)


def untitled(schema: Any) -> Any:
    if isinstance(schema, list):
        return [untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    noise = {"title", "$defs"} | (
        {"additionalProperties"} if schema.get("additionalProperties") is True else set()
    )
    return {key: untitled(value) for key, value in schema.items() if key not in noise}


@given(ANNOTATIONS)
@settings(deadline=None, max_examples=150)
def test_the_schema_is_what_a_pydantic_model_gives_without_the_noise(annotation: Any) -> None:
    model = create_model("M", x=(annotation, ...)).model_json_schema()
    inlined = untitled(model["properties"]["x"])

    def inline(schema: Any) -> Any:
        if isinstance(schema, list):
            return [inline(item) for item in schema]
        if isinstance(schema, dict):
            if "$ref" in schema:
                return untitled(model["$defs"][schema["$ref"].split("/")[-1]])
            return {key: inline(value) for key, value in schema.items()}
        return schema

    assert properties(of(annotation)) == {"x": inline(inlined)}


# The 21 cases in which the tool schemas of agent frameworks were compared.


class TestTheCasesOfTheSchemaBattery:
    def test_optional_none_is_not_required(self) -> None:
        def f(a: int, b: str | None = None) -> None: ...

        schema = function_schema(f)
        assert schema.parameters["required"] == ["a"]
        assert schema.parse('{"a": 1, "b": null}') == {"a": 1, "b": None}

    def test_union_of_int_and_str(self) -> None:
        assert properties(of(Union[int, str]))["x"]["anyOf"] == [
            {"type": "integer"},
            {"type": "string"},
        ]

    def test_literal(self) -> None:
        assert properties(of(Literal["c", "f"]))["x"]["enum"] == ["c", "f"]

    def test_enum(self) -> None:
        schema = of(Colour)
        assert properties(schema)["x"]["enum"] == ["red", "green"]
        assert schema.parse('{"x": "green"}') == {"x": Colour.GREEN}

    def test_dataclass(self) -> None:
        assert of(Point).parse('{"x": {"x": 1, "y": 2}}') == {"x": Point(1, 2)}

    def test_typed_dict_of_typing(self) -> None:
        assert of(Old).parse('{"x": {"name": "a", "size": "2"}}') == {"x": {"name": "a", "size": 2}}

    def test_base_model(self) -> None:
        text = '{"x": {"name": "a", "home": {"street": "b", "number": 2}}}'
        person = Person(name="a", home=Address(street="b", number=2))
        assert of(Person).parse(text) == {"x": person}
        assert "$defs" not in of(Person).parameters

    def test_recursive_model(self) -> None:
        schema = of(Node)
        assert properties(schema)["x"] == {"$ref": "#/$defs/Node"}
        assert list(schema.parameters["$defs"]) == ["Node"]  # type: ignore[arg-type]
        read = schema.parse('{"x": {"value": 1, "children": [{"value": 2}]}}')
        assert read == {"x": Node(value=1, children=[Node(value=2)])}

    def test_annotated_field(self) -> None:
        schema = of(Annotated[int, Field(ge=1, le=5, description="stars")])
        assert properties(schema)["x"] == {
            "type": "integer",
            "minimum": 1,
            "maximum": 5,
            "description": "stars",
        }

    def test_annotated_text_is_the_description(self) -> None:
        assert properties(of(Annotated[int, "stars"]))["x"]["description"] == "stars"

    def test_default_is_kept(self) -> None:
        assert properties(of(int, 5))["x"] == {"type": "integer", "default": 5}

    def test_list_of_dict(self) -> None:
        assert of(list[dict[str, int]]).parse('{"x": [{"a": 1}]}') == {"x": [{"a": 1}]}

    def test_tuple(self) -> None:
        assert of(tuple[int, str]).parse('{"x": [1, "a"]}') == {"x": (1, "a")}

    def test_date(self) -> None:
        assert properties(of(datetime.date))["x"] == {"type": "string", "format": "date"}

    def test_args_and_kwargs(self) -> None:
        def f(a: int, *args: int, **kw: str) -> Any:
            return a, args, kw

        schema = function_schema(f)
        assert properties(schema) == {
            "a": {"type": "integer"},
            "args": {"type": "array", "items": {"type": "integer"}},
        }
        assert schema.parameters["additionalProperties"] == {"type": "string"}
        assert call(f, {"a": 1, "args": [2, "3"], "k": 4}) == (1, (2, 3), {"k": "4"})

    def test_unannotated(self) -> None:
        def f(a, b=2):  # type: ignore[no-untyped-def]
            return a, b

        assert properties(function_schema(f)) == {"a": {}, "b": {"default": 2}}
        assert call(f, {"a": [1]}) == ([1], 2)

    def test_positional_only(self) -> None:
        def f(a: int, b: int = 2, /, c: int = 3) -> Any:
            return a, b, c

        assert call(f, {"a": 1, "c": 4}) == (1, 2, 4)

    def test_no_docstring(self) -> None:
        def f(a: int) -> None: ...

        assert function_schema(f).description == ""

    def test_google_args(self) -> None:
        def f(a: int) -> None:
            """Do.

            Args:
                a: the a
            """

        schema = function_schema(f)
        assert (schema.description, properties(schema)["a"]["description"]) == ("Do.", "the a")

    def test_numpy_parameters(self) -> None:
        def f(a: int) -> None:
            """Do.

            Parameters
            ----------
            a : int
                the a
            """

        schema = function_schema(f)
        assert (schema.description, properties(schema)["a"]["description"]) == ("Do.", "the a")

    def test_sphinx_param(self) -> None:
        def f(a: int) -> None:
            """Do.

            :param a: the a
            """

        schema = function_schema(f)
        assert (schema.description, properties(schema)["a"]["description"]) == ("Do.", "the a")


# Types in particular.


def test_a_recursive_typed_dict_keeps_its_reference() -> None:
    schema = of(list[OldTree])
    assert properties(schema)["x"]["items"] == {"$ref": "#/$defs/OldTree"}
    tree = {"value": 1, "children": [{"value": 2, "children": []}]}
    assert schema.parse(json.dumps({"x": [tree]})) == {"x": [tree]}


def test_a_recursive_dataclass_with_a_typed_dict_is_made_as_itself() -> None:
    wire = {"old": {"name": "a"}, "twins": [{"tree": {"old": {"name": 2}}}]}
    schema = of(Tree)
    jsonschema.validate({"x": {"old": {"name": "a"}, "twins": []}}, schema.parameters)
    tree = Tree({"name": "a"}, [Twin(Tree({"name": "2"}))])
    assert schema.parse(json.dumps({"x": wire})) == {"x": tree}


def test_a_named_tuple_with_a_typed_dict_is_made_as_itself() -> None:
    assert properties(of(OldPair))["x"]["type"] == "array"
    read = of(OldPair).parse('{"x": [{"name": 1}]}')["x"]
    assert read == OldPair({"name": "1"})
    assert type(read) is OldPair


def test_a_local_recursive_dataclass() -> None:
    @dataclasses.dataclass
    class Link:
        n: int
        next: "Optional[Link]" = None

    assert of(Link).parse('{"x": {"n": 1, "next": {"n": 2}}}') == {"x": Link(1, Link(2))}


def test_two_recursive_types_of_one_name_stay_apart() -> None:
    def other() -> type[BaseModel]:
        class Node(BaseModel):
            name: str
            next: Optional["Node"] = None

        return Node

    def f(a: Node, b: Any) -> None: ...

    f.__annotations__["b"] = other()
    schema = function_schema(f)
    names = {prop["$ref"] for prop in properties(schema).values()}
    assert len(names) == 2
    valid = {"a": {"value": 1}, "b": {"name": "x", "next": {"name": "y"}}}
    jsonschema.validate(valid, schema.parameters)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"a": {"value": 1}, "b": {"next": None}}, schema.parameters)


def test_a_recursive_output_type_shows_its_first_level() -> None:
    schema = type_schema(Node)
    assert schema.schema["type"] == "object"
    jsonschema.Draft202012Validator.check_schema(schema.schema)
    jsonschema.validate({"value": 1, "children": [{"value": 2}]}, schema.schema)
    assert schema.parse('{"value": 1}') == Node(value=1)


def test_an_output_type_names_what_is_wrong() -> None:
    with pytest.raises(ArgumentsError) as caught:
        type_schema(Person).parse('{"name": "a", "home": {"street": "b", "number": 0}}')
    (problem,) = caught.value.problems
    assert problem == ArgumentProblem("home.number", 0, "greater than or equal to 1")
    with pytest.raises(ArgumentsError, match='value: got "x", expected an integer'):
        type_schema(int).parse('"x"')


def test_an_impossible_output_type_is_refused() -> None:
    with pytest.raises(SchemaError, match="Random cannot be written as JSON"):
        type_schema(__import__("random").Random)


def test_a_property_called_title_stays() -> None:
    def f(title: str, book: "Book") -> None: ...

    class Book(BaseModel):
        title: str
        description: str = ""

    schema = function_schema(f)
    assert properties(schema)["title"] == {"type": "string"}
    assert set(properties(schema)["book"]["properties"]) == {"title", "description"}
    assert "Title" not in json.dumps(schema.parameters)


@each_row(
    ("annotation", "default", "rendered"),
    [
        (Colour, Colour.RED, "red"),
        (datetime.date, datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.timedelta, datetime.timedelta(hours=1), "PT1H"),
        (Point, Point(1, 2), {"x": 1, "y": 2}),
        (Address, Address(street="a", number=1), {"street": "a", "number": 1}),
        (decimal.Decimal, decimal.Decimal("1.5"), 1.5),
        (tuple[int, ...], (1, 2), [1, 2]),
        (pathlib.Path, pathlib.Path("a"), "a"),
        (Optional[int], None, None),
        (str, "", ""),
        (bool, False, False),
    ],
)
def test_a_default_is_shown_as_json(annotation: object, default: object, rendered: object) -> None:
    schema = of(annotation, default)
    assert properties(schema)["x"]["default"] == rendered
    assert "required" not in schema.parameters
    assert schema.parse("{}") == {}


@pytest.mark.parametrize(("annotation", "default"), [(Any, object()), (float, NAN), (Any, print)])
def test_a_default_that_json_cannot_hold_is_left_out(annotation: object, default: object) -> None:
    schema = of(annotation, default)
    assert "default" not in properties(schema)["x"]
    assert "required" not in schema.parameters


def test_int_with_default_none_takes_null() -> None:
    def f(x: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert function_schema(f).parse('{"x": null}') == {"x": None}


def test_a_field_as_default_belongs_to_the_type() -> None:
    def f(
        a: int = Field(description="the a", ge=1),
        b: int = Field(default=3),
        c: list[int] = Field(default_factory=list),
        d: str | None = Field(None, alias="from"),
    ) -> Any:
        return a, b, c, d

    schema = function_schema(f)
    assert properties(schema)["a"] == {"type": "integer", "minimum": 1, "description": "the a"}
    assert properties(schema)["b"] == {"type": "integer", "default": 3}
    assert schema.parameters["required"] == ["a"]
    assert call(f, {"a": 1, "from": "x"}) == (1, 3, [], "x")
    assert call(f, {"a": 1}) == (1, 3, [], None)


def test_the_annotation_describes_before_the_docstring_and_that_before_the_type() -> None:
    def f(a: Annotated[int, "own"], b: Colour, c: Colour) -> None:
        """Do.

        Args:
            a: doc a
            b: doc b
        """

    shown = {name: schema["description"] for name, schema in properties(function_schema(f)).items()}
    assert shown == {"a": "own", "b": "doc b", "c": "What paint looks like."}


def test_a_strict_model_reads_json_as_json() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        day: datetime.date
        pair: tuple[int, int]

    read = of(Strict).parse('{"x": {"day": "2026-01-02", "pair": [1, 2]}}')["x"]
    assert read == Strict(day=datetime.date(2026, 1, 2), pair=(1, 2))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_type_parameters_and_type_aliases() -> None:
    source = textwrap.dedent("""
        type Ints = list[int]
        type Json = int | list[Json]
        def f[T: int](a: T, b: Ints, c: Json, d: "T") -> None: ...
    """)
    module: dict[str, Any] = {}
    exec(source, module)
    schema = function_schema(module["f"])
    assert properties(schema)["a"] == properties(schema)["d"] == {"type": "integer"}
    assert properties(schema)["b"] == {"type": "array", "items": {"type": "integer"}}
    assert schema.parse('{"a": "1", "b": [1], "c": [1, [2]], "d": 1}')["a"] == 1


def test_unpacked_keywords_are_parameters() -> None:
    class Options(typing_extensions.TypedDict, total=False):
        depth: typing_extensions.Required[int]
        mode: str

    def f(a: int, **options: typing_extensions.Unpack[Options]) -> Any:
        return a, options

    schema = function_schema(f)
    assert schema.parameters["required"] == ["a", "depth"]
    assert schema.parameters["additionalProperties"] is False
    assert call(f, {"a": 1, "depth": "2"}) == (1, {"depth": 2})


# Callables of every kind.


class Box:
    """A box."""

    size = 3

    def method(self, a: int) -> Any:
        """Do it."""
        return self.size, a

    @classmethod
    def of_class(cls, a: int) -> Any:
        return cls, a

    @staticmethod
    def of_none(a: int) -> Any:
        return a

    def __call__(self, a: int) -> Any:
        """Call it."""
        return a


class Documented:
    """Adds things."""

    def __call__(self, a: int) -> Any:
        return a


def test_bound_methods_have_no_self() -> None:
    assert list(properties(function_schema(Box().method))) == ["a"]
    assert call(Box().method, {"a": 1}) == (3, 1)
    assert call(Box.of_class, {"a": 1}) == (Box, 1)
    assert call(Box.of_none, {"a": 1}) == 1


def test_functions_of_a_class_body_leave_the_first_parameter_out() -> None:
    schema = function_schema(Box.method, method=True)
    assert (schema.name, list(properties(schema))) == ("method", ["a"])
    assert schema.bind({"a": 1}) == ((), {"a": 1})
    assert list(properties(function_schema(vars(Box)["of_class"]))) == ["a"]
    assert list(properties(function_schema(vars(Box)["of_class"], method=True))) == ["a"]
    assert list(properties(function_schema(vars(Box)["of_none"], method=True))) == ["a"]


def test_self_of_a_plain_function_is_a_parameter() -> None:
    def f(self: int, cls: int) -> Any:
        return self, cls

    assert call(f, {"self": 1, "cls": 2}) == (1, 2)


def test_a_callable_object() -> None:
    schema = function_schema(Box())
    assert (schema.name, schema.description, list(properties(schema))) == ("Box", "Call it.", ["a"])
    assert function_schema(Documented()).description == "Adds things."


def test_a_class_is_called_as_its_constructor() -> None:
    assert call(Point, {"x": "1"}) == Point(1)
    assert call(Address, {"street": "a", "number": 1}) == Address(street="a", number=1)


async def test_an_async_function() -> None:
    async def f(a: int) -> int:
        """Do."""
        return a

    assert await call(f, {"a": "1"}) == 1


def test_what_a_partial_binds_vanishes() -> None:
    def f(a: int, b: int, c: int = 3) -> Any:
        """Do.

        Args:
            c: the c
        """
        return a, b, c

    bound = functools.partial(f, 1, b=2)
    schema = function_schema(bound)
    assert (schema.name, schema.description) == ("f", "Do.")
    assert properties(schema) == {"c": {"type": "integer", "default": 3, "description": "the c"}}
    assert call(bound, {"c": "5"}) == (1, 2, 5)
    assert "no such argument" in refusal(schema, '{"b": 9}')


def test_a_bound_keyword_is_not_overwritten_through_kwargs() -> None:
    def f(context: RunContext[int], a: int, **kw: int) -> None: ...

    schema = function_schema(functools.partial(f, a=1), context_type=RunContext)
    assert "a: got 2, expected no arguments" in refusal(schema, '{"a": 2, "k": 1}')
    assert "context: got 2" in refusal(schema, '{"context": 2}')


def test_a_wrapped_function_shows_what_it_wraps() -> None:
    def f(a: "Inner") -> Any:
        """Do."""
        return a

    class Inner(BaseModel):
        n: int

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return "wrapped", f(*args, **kwargs)

    assert call(wrapper, {"a": {"n": 1}}) == ("wrapped", Inner(n=1))
    assert function_schema(wrapper).description == "Do."
    assert list(properties(function_schema(functools.lru_cache(f)))) == ["a"]


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(SchemaError, match="name="):
        function_schema(lambda x: x)
    assert function_schema(lambda x: x, name="same").name == "same"


def test_a_builtin_function() -> None:
    assert call(__import__("math").sqrt, {"x": 4}) == 2


def test_name_and_description_can_be_given() -> None:
    schema = function_schema(Box().method, name="查询", description="查天气")
    assert (schema.name, schema.description) == ("查询", "查天气")


def test_names_that_pydantic_models_cannot_have() -> None:
    def f(
        schema: int,
        json: int,
        copy: int,
        model_config: int,
        validate: int,
        _private: int,
        class_: int,
        value: int,
        dict: int,
        fields: int,
        __root__: int,
    ) -> Any:
        return schema, json, copy, model_config, validate, _private, class_, value, dict, fields

    names = list(inspect.signature(f).parameters)
    assert list(properties(function_schema(f))) == names
    arguments = {name: position for position, name in enumerate(names)}
    assert call(f, arguments) == tuple(range(10))


FUTURE = textwrap.dedent("""
    from __future__ import annotations
    from typing import TYPE_CHECKING, Annotated
    from pydantic import BaseModel
    if TYPE_CHECKING:
        from somewhere import RunContext, Deps, Missing

    class Top:
        class Mode(BaseModel):
            n: int
        def method(self, mode: Mode) -> None: ...
        def late(self, mode: list[Mode]) -> None: ...
        inside = staticmethod(lambda schema, f: schema(f))(SCHEMA, method)

    def outer(schema):
        class Local(BaseModel):
            n: int
        def inner(ctx: RunContext[Deps], a: Local, b: list[Local] | None = None) -> None: ...
        return schema(inner)

    def missing(a: Missing) -> None: ...
    def broken(a: the number) -> None: ...
    """).replace("def broken(a: the number)", "def broken(a: 'the number')")


def future_module() -> types.ModuleType:
    module = types.ModuleType("future_module")
    vars(module)["SCHEMA"] = lambda f: function_schema(f, context_type=RunContext)
    sys.modules["future_module"] = module
    exec(compile(FUTURE, "future_module.py", "exec"), vars(module))
    return module


def test_annotations_in_text_find_local_types() -> None:
    module = future_module()
    schema = module.outer(vars(module)["SCHEMA"])
    assert schema.context_parameter == "ctx"
    assert schema.parse('{"a": {"n": "1"}}')["a"].n == 1  # type: ignore[union-attr]


def test_annotations_in_text_find_types_of_their_class() -> None:
    module = future_module()
    schema = function_schema(module.Top().late)
    assert properties(schema)["mode"]["items"]["properties"] == {"n": {"type": "integer"}}


def test_an_annotation_that_cannot_be_resolved_is_refused() -> None:
    module = future_module()
    with pytest.raises(
        SchemaError, match=r"missing \(future_module.py:\d+\), parameter 'a': .*TYPE_CHECKING"
    ):
        function_schema(module.missing)
    with pytest.raises(SchemaError, match="parameter 'a'"):
        function_schema(module.broken)


# The run's context.


@each_row(
    "annotation",
    [
        RunContext,
        RunContext[int],
        "RunContext",
        "RunContext[int]",
        Optional[RunContext[int]],
        Annotated[RunContext[int], "x"],
        "module.RunContext[Unknown]",
    ],
)
def test_the_context_is_never_in_the_schema(annotation: object) -> None:
    def f(ctx, /, a: int) -> Any:  # type: ignore[no-untyped-def]
        return ctx, a

    f.__annotations__ = {"ctx": annotation, "a": int}
    schema = function_schema(f, context_type=RunContext)
    assert (schema.context_parameter, list(properties(schema))) == ("ctx", ["a"])
    assert call(f, {"a": 1}) == ("the context", 1)
    assert "known are a" in refusal(schema, '{"a": 1, "ctx": {}}')


def test_the_context_may_stand_anywhere() -> None:
    def f(a: int, *, ctx: RunContext[int]) -> Any:
        return a, ctx

    assert call(f, {"a": 1}) == (1, "the context")

    def g(ctx: RunContext[int], *names: str) -> Any:
        return ctx, names

    assert call(g, {"names": ["a"]}) == ("the context", ("a",))
    assert call(g, {}) == ("the context", ())


def test_a_second_context_is_refused() -> None:
    def f(a: RunContext[int], b: RunContext[int]) -> None: ...

    with pytest.raises(SchemaError, match="parameter 'b': a second context; 'a'"):
        function_schema(f, context_type=RunContext)


# What cannot be offered.


class Strange:
    pass


@each_row(
    "annotation",
    [
        Strange,
        list[Strange],
        collections.abc.Callable[[int], int],
        Optional[collections.abc.Callable[..., int]],
        collections.abc.Generator[int, None, None],
        collections.abc.Iterator[int],
        collections.abc.AsyncIterator[int],
        type[int],
        3,
        Annotated[str, Field(pattern="(")],
        RunContext[int],
    ],
)
def test_an_impossible_annotation_is_refused_with_place_and_remedy(annotation: object) -> None:
    with pytest.raises(SchemaError) as caught:
        of(annotation)
    text = str(caught.value)
    assert text.startswith(f"f ({__file__}:")
    assert "parameter 'x': " in text
    assert "use a type that can" in text


@pytest.mark.parametrize("thing", [3, None, "f", [1]])
def test_what_cannot_be_called_is_refused(thing: object) -> None:
    with pytest.raises(SchemaError, match="not callable"):
        function_schema(thing, name="f")


@each_row("name", ["", "a b", "a.b", "x" * 65, "a\n", "<lambda>"])
def test_a_name_that_the_wire_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="name="):
        function_schema(Box().method, name=name)


def test_a_method_without_parameters_is_refused() -> None:
    def f() -> None: ...

    with pytest.raises(SchemaError, match="first parameter"):
        function_schema(f, method=True)


# Arguments.


def search(
    query: str,
    limit: int = 5,
    *,
    mode: Literal["fast", "deep"] = "fast",
    at: Point | None = None,
) -> Any:
    return query, limit, mode, at


def test_defaults_are_left_to_the_function() -> None:
    schema = function_schema(search)
    assert schema.parse('{"query": "a"}') == {"query": "a"}
    assert schema.bind({"query": "a"}) == ((), {"query": "a"})
    assert call(search, {"query": "a"}) == ("a", 5, "fast", None)


def test_every_wrong_field_is_named_with_value_and_expectation() -> None:
    schema = function_schema(search)
    text = refusal(schema, '{"limit": "x", "mode": "slow", "at": {"y": "z"}, "extra": 1}')
    assert text.split("\n") == [
        "search: the arguments do not fit.",
        "- query: missing, expected a string",
        '- limit: got "x", expected an integer',
        '- mode: got "slow", expected one of "fast", "deep"',
        "- at.x: missing, expected an integer",
        '- at.y: got "z", expected an integer',
        "- extra: got 1, expected no such argument; known are query, limit, mode, at",
        (
            'Expected shape: {"query": string, "limit"?: integer, "mode"?: "fast" | "deep", '
            '"at"?: {"x": integer, "y"?: integer} | null}'
        ),
    ]


def test_problems_carry_path_value_and_expectation() -> None:
    def f(people: list[Person], sizes: dict[str, int]) -> None: ...

    wire = {
        "people": [{"name": "a", "home": {"street": "b", "number": "x"}}],
        "sizes": {"a": [1]},
    }
    with pytest.raises(ArgumentsError) as caught:
        function_schema(f).parse(json.dumps(wire))
    assert caught.value.problems == (
        ArgumentProblem("people[0].home.number", "x", "an integer"),
        ArgumentProblem("sizes.a", [1], "an integer"),
    )


@each_row(
    ("annotation", "wire", "expected"),
    [
        (int, 1.5, "an integer, without a fraction"),
        (int, None, "an integer"),
        (float, "x", "a number"),
        (float, "NaN", "a finite number"),
        (bool, "maybe", "true or false"),
        (str, [1], "a string"),
        (list[int], "x", "a list"),
        (dict[str, int], [1], "an object"),
        (Point, 3, "an object"),
        (Address, 3, "an object"),
        (Old, 3, "an object"),
        (Colour, "blue", 'one of "red", "green"'),
        (datetime.date, "x", "a date like"),
        (datetime.datetime, "x", "a date and time like"),
        (datetime.time, "x", "a time like"),
        (datetime.timedelta, "x", "a duration like"),
        (decimal.Decimal, "x", "a number"),
        (uuid.UUID, "x", "a UUID"),
        (Literal[1, "a", None, True], "b", 'one of 1, "a", null, true'),
        (Annotated[list[int], Field(min_length=2)], [1], "at least 2 items"),
        (Careful, {"a": -1}, "something else: a is negative"),
        (list[Node], [{"value": 1, "children": [{"value": "x"}]}], "an integer"),
        (Annotated[int, Field(ge=3)], 1, "greater than or equal to 3"),
        (Annotated[str, Field(pattern="^a$")], "b", "match pattern '^a$'"),
        (Union[int, list[int]], "x", "integer | [integer, ...]"),
        (Union[Point, Address], {"z": 1}, '{"x": integer, "y"?: integer} | {"street"'),
        (Optional[int], "x", "an integer"),
        (tuple[int, str], [1], "a string"),
        (list[tuple[int, str]], [[1]], "a string"),
    ],
)
def test_a_wrong_value_is_answered_in_plain_language(
    annotation: object, wire: object, expected: str
) -> None:
    text = refusal(of(annotation), json.dumps({"x": wire}))
    assert expected in text.split("\n")[1].split(", expected ", 1)[1]
    assert text.count("\n") == 2


def test_a_choice_of_a_union_that_was_meant_is_looked_into() -> None:
    class Cat(BaseModel):
        kind: Literal["cat"]
        lives: int

    class Dog(BaseModel):
        kind: Literal["dog"]
        name: str

    pet = Annotated[Cat | Dog, Field(discriminator="kind")]
    assert "- x.lives: missing" in refusal(of(pet), '{"x": {"kind": "cat"}}')
    assert "'cat', 'dog'" in refusal(of(pet), '{"x": {"kind": "cow"}}')


def test_long_values_are_shortened() -> None:
    text = refusal(of(int), json.dumps({"x": "y" * 500}))
    assert len(text.split("\n")[1]) < 130
    assert "..." in text


def test_values_are_shown_without_escapes() -> None:
    assert '"北京"' in refusal(of(int), '{"x": "北京"}')


@each_row(
    ("text", "words"),
    [
        ("", "the text is empty"),
        ("  ", "the text is empty"),
        ('{"x": 1', "cut short"),
        ('{"x": "ab', "cut short"),
        (
            '{"x": 1} {"x": 2}',
            "text after the end of the JSON (trailing characters at line 1 column",
        ),
        ('{"x": NaN}', "NaN and Infinity are not JSON"),
        ('{"x": [1, Infinity]}', "NaN and Infinity are not JSON"),
        ('{"x": -Infinity}', "NaN and Infinity are not JSON"),
        ("{'x': 1}", "line 1 column 2"),
        ('{"x": 1,}', "line 1 column 9"),
        ('{\n"x": oops}', "line 2 column"),
        ("[1]", "must be one JSON object, not a list: [1]"),
        ("3", "not a number"),
        ("null", "not null"),
        ("true", "not a boolean"),
        ('"{}"', "not a string"),
        (b"\xff", "not valid JSON"),
        ('{"x": "\ud800"}', "not valid JSON"),
        ("[" * 1000, "recursion limit"),
        ('{"x": ' + "9" * 5000 + "}", "out of range"),
    ],
)
def test_text_that_is_not_an_object_is_refused_and_says_where(
    text: str | bytes, words: str
) -> None:
    assert words in refusal(of(int), text)
    assert 'Expected shape: {"x": integer}' in refusal(of(int), text)


def test_a_number_beyond_floats_is_refused() -> None:
    assert "finite" in refusal(of(float), '{"x": 1e999}')


@each_row("text", ["", " ", "null", "{}", b"", b"null"])
def test_nothing_means_no_arguments(text: str | bytes) -> None:
    def f(a: int = 1) -> None: ...

    assert function_schema(f).parse(text) == {}


def test_unknown_keys_of_a_function_without_parameters() -> None:
    def f() -> None: ...

    schema = function_schema(f)
    assert schema.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert "expected no arguments" in refusal(schema, '{"a": 1}')


def test_items_of_args_and_kwargs_are_checked() -> None:
    def f(*args: int, **kw: int) -> None: ...

    text = refusal(function_schema(f), '{"args": [1, "x"], "k": "y"}')
    assert '- args[1]: got "x", expected an integer' in text
    assert '- k: got "y", expected an integer' in text
    assert "- args: got 3, expected a list" in refusal(function_schema(f), '{"args": 3}')


def test_bind_fills_the_defaults_that_stand_before_a_positional_value() -> None:
    def f(a: int = 1, b: int = 2, /, c: int = 3, *rest: int, d: int = 4) -> Any:
        return a, b, c, rest, d

    assert call(f, {"b": 5}) == (1, 5, 3, (), 4)
    assert call(f, {"rest": [9], "d": 8}) == (1, 2, 3, (9,), 8)
    assert call(f, {"c": 7}) == (1, 2, 7, (), 4)


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.none() | st.booleans()))
@settings(deadline=None, max_examples=60)
def test_keywords_of_any_name_arrive(arguments: dict[str, object]) -> None:
    def f(**kw: Any) -> Any:
        return kw

    arguments.pop("kw", None)
    assert call(f, arguments) == arguments
