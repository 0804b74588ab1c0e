from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcall.models.event_stream import SSEDecoder


def events(*pieces: bytes) -> list[bytes]:
    reader = SSEDecoder()
    found = [event for piece in pieces for event in reader.feed(piece)]
    return [*found, *reader.close()]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_ends_a_line(end: bytes) -> None:
    assert events(b"data: a" + end + end + b"data: b" + end + end) == [b"a", b"b"]


def test_lines_of_one_event_are_joined() -> None:
    assert events(b"data: a\ndata:\ndata: b\n\n") == [b"a\n\nb"]


def test_only_one_space_after_the_colon_goes() -> None:
    assert events(b"data:a\n\ndata: b\n\ndata:  c\n\n") == [b"a", b"b", b" c"]


def test_comments_and_other_fields_are_passed_over() -> None:
    assert events(b": ping\n\nevent: x\nid: 1\nretry: 5\ndatum: no\ndata: a\n: b\n\n") == [b"a"]


def test_events_without_data_are_none() -> None:
    assert events(b"event: ping\n\ndata:\n\n\n\n") == []


def test_an_event_that_the_end_of_the_stream_completes_is_given() -> None:
    assert events(b"data: a\n\ndata: b") == [b"a", b"b"]
    assert events(b"data: a\n\ndata: b\n") == [b"a", b"b"]


def test_a_line_end_cut_in_two_ends_one_line() -> None:
    assert events(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [b"a\nb"]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert events(b"\xef\xbb\xbfdata: a\n\n") == [b"a"]


def test_an_event_comes_as_soon_as_its_end_is_known() -> None:
    reader = SSEDecoder()
    assert reader.feed(b"data: a\n") == []
    assert reader.feed(b"\ndat") == [b"a"]
    assert reader.feed(b"a: b\r\n\r\n") == [b"b"]


def test_a_long_line_in_many_pieces_costs_no_more_than_its_length() -> None:
    reader = SSEDecoder()
    for _ in range(20_000):
        assert reader.feed(b"data: " if not _ else b"x" * 1000) == []
    assert [len(event) for event in reader.close()] == [19_999_000]


@given(
    st.lists(st.sampled_from([b"data: \xe4\xb8\x96", b"data:x", b":c", b"", b"id: 1", b"\xef"])),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 200)),
)
def test_where_the_stream_is_cut_changes_nothing(
    lines: list[bytes], end: bytes, cuts: list[int]
) -> None:
    stream = end.join(lines) + end + end
    places = sorted({0, len(stream), *(place for place in cuts if place < len(stream))})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    assert events(*pieces) == events(stream)
