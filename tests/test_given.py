from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from agentcall import Agent
from agentcall.errors import ArgumentsError, SchemaError
from agentcall.messages import JSON
from agentcall.testing import ScriptedModel, call, say
from agentcall.tool import Tool, given_tool

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
    return given_tool(forecast, name="forecast", description="", parameters=parameters)


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


@pytest.mark.parametrize(
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
def test_what_is_no_schema_of_an_object_is_refused(parameters: dict[str, JSON]) -> None:
    with pytest.raises(SchemaError, match="forecast"):
        made(parameters)


def test_a_name_that_no_server_takes_is_refused() -> None:
    with pytest.raises(SchemaError, match="no name for a tool"):
        given_tool(forecast, name="a b", description="", parameters={})


def test_what_python_cannot_check_is_left_to_the_tool() -> None:
    pattern: dict[str, JSON] = {"properties": {"a": {"type": "string", "pattern": r"\p{L}+"}}}
    assert made(pattern).parse('{"a": "x"}') == {"a": "x"}


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
