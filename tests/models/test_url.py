from __future__ import annotations

import pytest
from rows import each_row

from agentcall.errors import UsageError
from agentcall.models.url import add_v1_path, format_authorization, join_url, parse_url, redact_url


@each_row(
    ("url", "clean", "key"),
    [
        ("http://h:1/v1", "http://h:1/v1", ""),
        ("http://h:1/v1/", "http://h:1/v1", ""),
        (" http://h:1/v1//\n", "http://h:1/v1", ""),
        ("http://h/v1/chat/completions", "http://h/v1", ""),
        ("http://[::1]:8/v1", "http://[::1]:8/v1", ""),
        ("https://sk-1@h/v1", "https://h/v1", "sk-1"),
        ("https://sk%2F1@h/v1", "https://h/v1", "sk/1"),
        ("https://u:p@h/v1", "https://h/v1", "Basic dTpw"),
        ("https://h/v1?api-version=3", "https://h/v1?api-version=3", ""),
        ("http://h:1", "http://h:1", ""),
    ],
)
def test_an_address_is_made_regular_and_freed_of_its_key(url: str, clean: str, key: str) -> None:
    known = parse_url(url)
    assert (known.url, known.api_key) == (clean, key)


@each_row("url", ["", "h", "localhost:8000", "ftp://h", "http://", "http://h:x/v1"])
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="http://host:port/v1"):
        parse_url(url)


def test_a_refused_url_is_shown_without_its_password() -> None:
    with pytest.raises(UsageError) as caught:
        parse_url("http://u:canary@h:99999/v1")
    assert "canary" not in str(caught.value)


def test_a_place_is_the_url_without_secrets() -> None:
    assert redact_url("https://u:p@h:1/v1?key=x#m") == "https://h:1/v1"
    assert redact_url("http://[") == "the server"


def test_a_path_goes_before_the_query() -> None:
    assert join_url("http://h/v1", "/models") == "http://h/v1/models"
    assert join_url("http://h/v1?a=b", "/models") == "http://h/v1/models?a=b"


@each_row(
    ("url", "expected"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("http://h:1/api/v3", "http://h:1/api/v3"),
        ("http://k@h:1?a=b", "http://k@h:1/v1?a=b"),
    ],
)
def test_v1_is_added_where_there_is_no_path(url: str, expected: str) -> None:
    assert add_v1_path(url) == expected


def test_a_key_is_a_bearer_unless_it_says_otherwise() -> None:
    assert format_authorization("sk-1") == "Bearer sk-1"
    assert format_authorization("Basic dTpw") == "Basic dTpw"
