from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from rows import each_row

from agentcall import Agent
from agentcall.errors import ArgumentsError, SchemaError
from agentcall.messages import JSON
from agentcall.testing import ScriptedModel, call, say
from agentcall.tools.tool import Tool, tool_from_schema

CITY: dict[str, JSON] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Forecast",
    "type": "object",
    "properties": {
        "city": {"type": "string", "title": "City"},
        "title": {"type": "string"},
        "days": {"type": "integer", "minimum": 1},
        "unit": {"enum": ["C", "F"]},
        "place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
    },
    "required": ["city"],
    "additionalProperties": False,
}


def forecast(arguments: dict[str, JSON]) -> str:
    return f"{arguments}"


def made(parameters: dict[str, JSON]) -> Tool:
    return tool_from_schema(forecast, name="forecast", description="", parameters=parameters)


def test_titles_and_the_dialect_are_left_out_but_not_a_property_of_that_name() -> None:
    parameters = made(CITY).parameters
    assert "$schema" not in parameters
    assert parameters["properties"] == {
        "city": {"type": "string"},
        "title": {"type": "string"},
        "days": {"type": "integer", "minimum": 1},
        "unit": {"enum": ["C", "F"]},
        "place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
    }


def test_arguments_that_fit_stay_the_json_they_are() -> None:
    assert made(CITY).parse('{"city": "Oslo", "days": 2}') == {"city": "Oslo", "days": 2}


@each_row(
    ("arguments", "words"),
    [
        ("{}", "city: missing, expected a string"),
        ('{"city": 5}', "city: got 5, expected a string"),
        ('{"city": "a", "days": 0}', "days: got 0"),
        ('{"city": "a", "unit": "K"}', 'unit: got "K", expected "C" | "F"'),
        ('{"city": "a", "place": {}}', "place.lat: missing, expected a number"),
        ('{"city": "a", "town": "b"}', 'town: got "b", expected no such argument; known are city'),
        ("[]", "must be one JSON object, not a list"),
        ("{", "not valid JSON"),
    ],
)
def test_what_does_not_fit_is_named(arguments: str, words: str) -> None:
    with pytest.raises(ArgumentsError, match=r"forecast") as caught:
        made(CITY).parse(arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("parameters", [{"type": "array"}, {"type": "objekt"}, {"required": 5}])
def test_what_is_not_a_schema_of_an_object_is_refused(parameters: dict[str, JSON]) -> None:
    with pytest.raises(SchemaError, match="forecast"):
        made(parameters)


def test_a_name_that_no_server_takes_is_refused() -> None:
    with pytest.raises(SchemaError, match="not a valid tool name"):
        tool_from_schema(forecast, name="a b", description="", parameters={})


def of(**properties: JSON) -> dict[str, JSON]:
    return {"type": "object", "properties": properties}


DRAFT = "http://json-schema.org/draft-07/schema#"
SLOW = r"^(\w+\s?)*$"
LONG = "a" * 5_000 + "!"


@each_row(
    ("parameters", "arguments"),
    [
        (of(a={"type": "string", "pattern": SLOW}), {"a": LONG}),
        (of(a={"items": {"pattern": SLOW}}), {"a": [LONG]}),
        (
            of(a={"$ref": "#/$defs/x"}) | {"$defs": {"x": {"anyOf": [{"pattern": SLOW}]}}},
            {"a": LONG},
        ),
        (of(a={"not": {"pattern": r"^(a|a)*!$"}}), {"a": LONG}),
        ({"propertyNames": {"pattern": SLOW}}, {LONG: 1}),
        ({"patternProperties": {SLOW: True}, "additionalProperties": False}, {LONG: 1}),
        ({"$schema": DRAFT, **of(a={"pattern": SLOW})}, {"a": LONG}),
        ({"$schema": DRAFT.replace("7", "4"), **of(a={"pattern": SLOW})}, {"a": LONG}),
        # a schema within that names a dialect of its own
        (of(a={"$schema": DRAFT, "pattern": SLOW}), {"a": LONG}),
        (
            of(a={"$ref": "#/x/y"}) | {"x": {"y": {"$schema": DRAFT, "pattern": SLOW}}},
            {"a": LONG},
        ),
    ],
)
def test_a_pattern_that_would_go_back_is_checked_at_once(
    parameters: dict[str, JSON], arguments: dict[str, JSON]
) -> None:
    with pytest.raises(ArgumentsError, match="do not fit"):
        made(parameters).parse(json.dumps(arguments))


def test_names_that_fit_a_pattern_are_known() -> None:
    odd: dict[str, JSON] = {
        "patternProperties": {"^x-": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert made(odd).parse('{"x-a": 1}') == {"x-a": 1}
    with pytest.raises(ArgumentsError) as caught:
        made(odd).parse('{"x-a": 1, "y": 2}')
    assert [problem.path for problem in caught.value.problems] == ["y"]
    with pytest.raises(ArgumentsError, match="x-a: got"):
        made(odd).parse('{"x-a": "b"}')


def test_a_pattern_that_needs_another_engine_is_reported_at_once() -> None:
    with pytest.raises(
        SchemaError, match=r"forecast has a pattern .*linear time \(a backreference"
    ):
        made(of(a={"type": "string", "pattern": r"^(a)\1$"}))
    with pytest.raises(SchemaError, match=r"forecast has a patternProperties .*\(lookaround"):
        made({"patternProperties": {"a(?=b)": True}})


def chain(count: int, **last: JSON) -> dict[str, JSON]:
    """Return definitions that each refer to the next several times (billion laughs)."""
    names = [f"d{number}" for number in range(count)]
    inner: dict[str, JSON] = {
        name: {"allOf": [{"$ref": f"#/$defs/{after}"}] * 10}
        for name, after in zip(names, [*names[1:], "end"], strict=True)
    }
    return {**inner, "end": last}


LAUGHS: dict[str, JSON] = {**of(a={"$ref": "#/$defs/d0"}), "$defs": chain(9, type="integer")}
CHOICES: dict[str, JSON] = {
    **of(a={"$ref": "#/$defs/d0"}),
    "$defs": {
        **{f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)},
        "d30": {"type": "integer"},
    },
}
TREE: dict[str, JSON] = {
    "$ref": "#/$defs/node",
    "$defs": {"node": of(child={"$ref": "#/$defs/node"}, value={"type": "integer"})},
}


def tree(depth: int) -> JSON:
    value: JSON = {"value": 1}
    for _ in range(depth):
        value = {"child": value}
    return value


@each_row(
    ("parameters", "arguments"),
    [
        (LAUGHS, {"a": 1}),
        (LAUGHS, {"a": "x"}),
        (CHOICES, {"a": "x"}),
        (TREE, tree(200)),
        (TREE, tree(700)),
        (of(a={"items": {"enum": list(range(5_000))}}), {"a": [-1] * 10_000}),
        (of(a={"items": {"allOf": [{"type": "integer"}] * 200}}), {"a": ["x"] * 10_000}),
        (of(a={"allOf": [{"type": "string"}] * 1_000}), {"a": [LONG] * 10}),
        (of(a={"items": {"pattern": r"(?:[abc]{1,10}c?){1,100}d"}}), {"a": ["abc" * 3_000] * 20}),
        ({"$dynamicAnchor": "me", "$dynamicRef": "#me"}, {"a": 1}),
        ({"$anchor": "me", "$ref": "#me"}, {"a": 1}),
    ],
)  # fmt: skip
def test_what_would_take_too_long_to_check_is_refused(
    parameters: dict[str, JSON], arguments: JSON
) -> None:
    before = time.process_time()
    with pytest.raises(
        ArgumentsError, match=r"cannot be checked against its schema: it takes over"
    ):
        made(parameters).parse(json.dumps(arguments))
    assert time.process_time() - before < 20


@each_row(
    ("parameters", "arguments"),
    [
        (TREE, tree(25)),
        (of(a={"uniqueItems": True}), {"a": [{"n": n} for n in range(5_000)]}),
        (of(a={"items": {"type": "integer"}}), {"a": list(range(10_000))}),
        (of(a={"type": "string", "pattern": "^[a-z]{1,64}$"}), {"a": "a" * 64}),
        (of(a={"multipleOf": 0.1}), {"a": 0.3}),
        (of(a={"multipleOf": 5e-324}), {"a": 1e308}),
        (of(a={"$ref": "#/nothing"}), {"a": 1}),
        (of(a={"$ref": "https://json-schema.org/draft/2020-12/schema"}), {"a": 1}),
        (of(a={"$ref": "#/description"}) | {"description": "no schema"}, {"a": 1}),
    ],
)  # fmt: skip
def test_what_is_large_and_plain_is_checked(parameters: dict[str, JSON], arguments: JSON) -> None:
    assert made(parameters).parse(json.dumps(arguments)) == arguments


def test_items_are_alike_where_their_json_is() -> None:
    unique = made(of(a={"uniqueItems": True}))
    assert unique.parse('{"a": [1, true, "1", [1], {"b": 1}]}')
    for same in ("[1, 1.0]", '[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]', "[null, null]"):
        with pytest.raises(ArgumentsError, match="alike"):
            unique.parse(f'{{"a": {same}}}')


def nested(depth: int) -> dict[str, JSON]:
    schema = of()
    for _ in range(depth):
        schema = of(a=schema)
    return schema


@each_row(
    ("parameters", "words"),
    [
        (nested(40), "over 64 levels"),
        (nested(400), "over 64 levels"),
        (nested(5_000), "over 64 levels"),
        (of(**{f"p{n}": {} for n in range(6_000)}), "over 5000 values"),
        (of(a={"description": "a" * 300_000}), "bytes, over the limit of 250000"),
        ({"$ref": "#"}, "refers to itself endlessly: '#'"),
        ({"allOf": [{"$ref": "#"}]}, "refers to itself endlessly: '#'"),
        (
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
            "refers to itself endlessly: '#/$defs/",
        ),
    ],
)
def test_a_schema_has_bounds(parameters: dict[str, JSON], words: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(words)):
        made(parameters)


def test_a_schema_that_holds_itself_is_refused() -> None:
    endless: dict[str, JSON] = of()
    endless["properties"] = {"a": endless}
    with pytest.raises(SchemaError, match="over 64 levels"):
        made(endless)


@each_row(
    "wrong",
    [{"type": "objekt"}, {"required": 5}, {"properties": 5}, {"minLength": -1}, {"items": 5},
     {"anyOf": []}, {"multipleOf": 0}, {"enum": 5}, {"pattern": 5}, {"$ref": 5}, {"$id": "#a#b"},
     {"minimum": "1"}, {"type": []}, {"allOf": {}}, {"$defs": {"a": 5}}, {"uniqueItems": "yes"}],
)  # fmt: skip
def test_what_the_metaschema_refuses_is_refused_at_any_depth(wrong: dict[str, JSON]) -> None:
    with pytest.raises(SchemaError, match="has an invalid JSON Schema"):
        made(of(a={"anyOf": [of(b=wrong), {"type": "null"}]}))


def test_patterns_of_functions_are_linear_too() -> None:
    """pydantic uses Rust's regex by itself and rejects what it cannot compile."""
    from typing import Annotated

    from pydantic import BaseModel, Field

    from agentcall import tool
    from agentcall.runtime.output import OutputParser

    class Words(BaseModel):
        text: Annotated[str, Field(pattern=SLOW)]

    @tool
    def say_it(text: Annotated[str, Field(pattern=SLOW)]) -> str:
        return text

    with pytest.raises(ArgumentsError, match="text"):
        say_it.parse(json.dumps({"text": LONG}))
    assert OutputParser(Words).schema
    with pytest.raises(SchemaError, match="look-around, including"):

        @tool
        def ahead(text: Annotated[str, Field(pattern="a(?=b)")]) -> str:
            return text


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/schema.json", asked
    server.shutdown()
    server.server_close()


def test_a_reference_to_another_document_is_not_followed(elsewhere: tuple[str, list[str]]) -> None:
    url, asked = elsewhere
    assert made({"properties": {"a": {"$ref": url}}}).parse('{"a": 1}') == {"a": 1}
    assert asked == []


def test_a_model_may_write_a_number_as_text() -> None:
    model = ScriptedModel([call("forecast", city="Oslo", days="3"), say("Sunny.")])
    result = Agent(model, tools=[made(CITY)]).run_sync("Weather in Oslo?")
    assert result.tool_calls[0][0].arguments == '{"city": "Oslo", "days": 3}'
