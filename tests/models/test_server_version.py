"""How old an LMDeploy is, by what its OpenAPI document or its paths say."""

import pytest
from rows import each_row

from agentcall.messages import JSON
from agentcall.models.http import HTTPEndpoint
from agentcall.models.server_version import ServerVersion, detect_lmdeploy_version, infer_version
from agentcall.testing import FakeServer, status

FIELDS = {
    "0.5 or earlier": "model messages tools",
    "0.6": "stream_options",
    "0.7 or 0.8": "stream_options spaces_between_special_tokens",
    "0.9": "stream_options spaces_between_special_tokens enable_thinking",
}
FIELDS["0.10.0"] = f"{FIELDS['0.9']} do_preprocess max_completion_tokens"
FIELDS["0.10.1 to 0.11.0"] = f"{FIELDS['0.10.0']} include_stop_str_in_output"
FIELDS["0.11.1 to 0.12"] = f"{FIELDS['0.10.1 to 0.11.0']} chat_template_kwargs"
FIELDS["0.13"] = f"{FIELDS['0.11.1 to 0.12']} repetition_ngram_size"
FIELDS["0.14 to 0.17"] = f"{FIELDS['0.13']} parallel_tool_calls"
FIELDS["0.18 or later"] = FIELDS["0.14 to 0.17"].replace("do_preprocess ", "")
NEW = ["/v1/responses", "/v1/messages", "/is_sleeping", "/generate"]


def document(fields: str, paths: list[str]) -> dict[str, object]:
    request = {"properties": {name: {"type": "string"} for name in fields.split()}}
    return {
        "openapi": "3.1.0",
        "paths": {path: {} for path in paths},
        "components": {"schemas": {"ChatCompletionRequest": request}},
    }


@each_row("text", FIELDS)
async def test_the_fields_of_a_chat_request_tell_the_age(text: str) -> None:
    with FakeServer(pages={"/openapi.json": document(FIELDS[text], [])}) as server:
        assert (await detect_lmdeploy_version(HTTPEndpoint(server.url))).text == text


@pytest.mark.parametrize(
    ("paths", "age"),
    [
        (NEW, ServerVersion((0, 16), "0.16 or 0.17")),
        ([*NEW, "/v1/chat/interactive"], ServerVersion((0, 14), "0.14 or 0.15")),
        (["/nodes/add"], ServerVersion((0, 14), "0.14 to 0.17")),
    ],
)
async def test_paths_part_the_ages_that_have_the_same_fields(
    paths: list[str], age: ServerVersion
) -> None:
    pages = {"/openapi.json": document(FIELDS["0.14 to 0.17"], paths)}
    with FakeServer(pages=pages) as server:
        assert await detect_lmdeploy_version(HTTPEndpoint(server.url)) == age


@each_row("page", [None, [], {}, {"paths": {"/v1/models": {}}}, {"components": None}])
def test_a_document_of_something_else_tells_no_age(page: JSON) -> None:
    assert infer_version(page) == ServerVersion()


@each_row(
    ("there", "text"),
    [
        (["/v1/responses", "/v1/messages", "/is_sleeping", "/generate"], "0.16 or later"),
        (["/v1/responses", "/v1/messages", "/is_sleeping", "/v1/chat/interactive"], "0.14 or 0.15"),
        (["/v1/messages", "/is_sleeping", "/generate", "/v1/chat/interactive"], "0.13"),
        (["/is_sleeping", "/generate", "/v1/chat/interactive"], "0.11 or 0.12"),
        (["/generate", "/v1/chat/interactive"], "0.10.2"),
        (["/v1/chat/interactive"], "0.10.1 or earlier"),
        ([], ""),
    ],
)
async def test_paths_tell_the_age_where_the_document_is_hidden(there: list[str], text: str) -> None:
    pages: dict[str, object] = {path: status(405, times=1) for path in there}
    if "/is_sleeping" in there:
        pages["/is_sleeping"] = {"is_sleeping": False}
    with FakeServer(pages=pages) as server:
        assert (await detect_lmdeploy_version(HTTPEndpoint(server.url))).text == text
