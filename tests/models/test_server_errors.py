from __future__ import annotations

import base64
from datetime import datetime, timezone

from rows import each_row

from agentcall.errors import (
    ContextOverflow,
    ModelError,
    ModelRefused,
    RateLimited,
    ServerFailed,
)
from agentcall.models.errors import (
    extract_error_message,
    is_model_gone,
    mask_secrets,
    parse_error_response,
    parse_retry_after,
    shorten_body,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=timezone.utc)


@each_row(
    ("status", "kind"),
    [
        (400, ModelRefused),
        (401, ModelRefused),
        (403, ModelRefused),
        (408, RateLimited),
        (409, RateLimited),
        (425, RateLimited),
        (429, RateLimited),
        (500, ServerFailed),
        (501, ModelRefused),
        (503, ServerFailed),
        (599, ServerFailed),
    ],
)
def test_the_status_says_the_kind(status: int, kind: type[ModelRefused]) -> None:
    assert type(parse_error_response(status, {"error": {"message": "no"}})) is kind


@each_row(
    ("status", "words"),
    [(401, "API key"), (403, "API key"), (404, "/v1"), (405, "/v1"), (413, "larger")],
)
def test_an_error_says_what_to_do(status: int, words: str) -> None:
    assert words in str(parse_error_response(status, "no"))


@each_row(
    ("body", "words"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ({"message": "a", "object": "error"}, "a"),
        ({"detail": "a"}, "a"),
        ({"detail": [{"msg": "世界"}]}, '[{"msg": "世界"}]'),
        ({"msg": "a"}, "a"),
        ({"else": 1}, '{"else": 1}'),
        ([1], "[1]"),
        ("a  b\n c", "a b c"),
        (b"a", "a"),
        (b'{"message": "a"}', "a"),
        (b"<!DOCTYPE html><html><h1>Not</h1> found", "Not found"),
        (b"\xff", "\ufffd"),
        (b"", "(an empty body)"),
        (None, "(an empty body)"),
        ({}, "(an empty body)"),
    ],
)
def test_the_words_of_any_body_are_found(body: object, words: str) -> None:
    assert parse_error_response(400, body).body == words  # type: ignore[arg-type]


def test_a_body_is_cut() -> None:
    assert len(extract_error_message("x" * 5000)) == 1024
    assert len(parse_error_response(400, b"y" * 5000).body) == 1024


@each_row(
    "words",
    [
        "Input length (5000) must be smaller than the model context length (4096).",
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "the request exceeds the available context size. try increasing the context size",
        "prompt is too long: 5000 tokens > 4096 maximum",
        "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        "Input is too long for requested model.",
        "Please reduce the length of the messages or completion.",
        "Token limit exceeded: 5000 > 4096",
        "input tokens 5000 > 4096: tokens limit exceeded",
    ],
)
@each_row("status", [400, 413, 500])
def test_an_overflow_is_known_by_its_words(words: str, status: int) -> None:
    assert isinstance(parse_error_response(status, {"error": {"message": words}}), ContextOverflow)


def test_an_overflow_is_known_by_its_code() -> None:
    for field in ("code", "type"):
        body = {"error": {"message": "too much", field: "context_length_exceeded"}}
        assert isinstance(parse_error_response(400, body), ContextOverflow)  # type: ignore[arg-type]


def test_a_server_that_speaks_of_its_context_is_not_overflown() -> None:
    assert not isinstance(parse_error_response(400, "max_tokens is not a number"), ContextOverflow)
    assert not isinstance(
        parse_error_response(503, "context window is being loaded"), ContextOverflow
    )


@each_row(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-4", 0.0),
        ("nan", 0.0),
        ("Fri, 20 Nov 2026 12:00:09 GMT", 9.0),
        ("Fri, 20 Nov 2026 12:00:09 -0000", 9.0),
        ("Fri, 20 Nov 2026 13:00:09 +0100", 9.0),
        ("Fri, 20 Nov 2020 12:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


def test_retry_after_is_kept() -> None:
    error = parse_error_response(429, "slow down", retry_after=2.0)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 2.0


def test_a_secret_is_taken_out_of_words_and_body() -> None:
    error = mask_secrets(parse_error_response(401, "bad key sk-1 sk-1"), ["sk-1"])
    assert error.body == "bad key *** ***"
    assert "sk-1" not in str(error)
    assert "c2Vj" not in str(mask_secrets(ModelError("bad c2Vj"), ["Basic c2Vj"]))


def test_a_password_is_taken_out_however_it_is_written() -> None:
    basic = "Basic " + base64.b64encode(b"marvin:to be/or").decode()
    error = ModelError(f"{basic}, marvin:to be/or, to%20be%2For")
    assert str(mask_secrets(error, [basic])) == "Basic ***, ***:***, ***"


def test_no_secret_takes_nothing_out() -> None:
    assert str(mask_secrets(ModelError("words"), ["", "w", "Basic bm9uZSB0aGVyZQ"])) == "words"


def test_an_excerpt_is_one_short_line() -> None:
    assert shorten_body("a\n  b") == "a b"
    assert len(shorten_body({"x": "y" * 999})) == 303
    assert shorten_body({"x": "世"}) == '{"x": "世"}'


@each_row(
    ("status", "words", "is_gone"),
    [
        (404, 'model "old" not found, try pulling it first', True),
        (400, "Model old is not loaded", True),
        (410, "model old has been unloaded", True),
        (404, "No models loaded. Please load a model in the developer page", True),
        (503, "model old is not available", False),
        (404, "Not Found", False),
    ],
)
def test_a_model_that_is_gone_is_known_by_its_words(status: int, words: str, is_gone: bool) -> None:
    error = parse_error_response(status, {"error": {"message": words}})
    assert is_model_gone(error) is is_gone
