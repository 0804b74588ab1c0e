"""Logs of servers: rotated, without secrets, readable while they are written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcall_server.log_file import OLD_FILE_COUNT, LogFile, follow, read_tail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def written(log: Path, *pieces: bytes, limit: int = 1 << 20) -> LogFile:
    book = LogFile(log, secrets=["s3cret", ""], limit=limit)
    for piece in pieces:
        book.write(piece)
    return book


def test_lines_are_kept_as_they_were_said(log: Path) -> None:
    written(log, b"one\ntw", b"o\r\nth", b"ree").close()
    assert log.read_text() == "one\ntwo\nthree\n"


def test_a_bar_that_overwrites_itself_is_kept_as_it_was_in_the_end(log: Path) -> None:
    book = written(log, b"loading\n")
    assert book.write(b"\r 10%|#") == "10%|#"
    assert book.write(b"\r 20%|##\r 30%|###") == "30%|###"
    book.write(b"\r100%|####\ndone\n")
    book.close()
    assert log.read_text().splitlines() == ["loading", "100%|####", "done"]


def test_a_secret_is_never_written_nor_remembered(log: Path) -> None:
    book = written(log, b"args: --api-keys s3c", b"ret --tp 1\n")
    assert book.lines == ["args: --api-keys [API key] --tp 1"]
    book.close()
    assert "s3cret" not in log.read_text()


def test_our_own_looks_at_its_health_are_not_kept(log: Path) -> None:
    seen = b'INFO: 127.0.0.1:1 - "GET /health HTTP/1.1" %d OK\n'
    written(log, seen % 200, seen % 503, b"GET /health is not here\n").close()
    assert log.read_text().splitlines() == [
        'INFO: 127.0.0.1:1 - "GET /health HTTP/1.1" 503 OK',
        "GET /health is not here",
    ]


def test_styles_are_not_remembered(log: Path) -> None:
    book = written(log, b"\x1b[31mERROR\x1b[0m gone\n")
    assert book.lines == ["ERROR gone"]
    book.close()


def test_a_new_life_forgets_the_last_one_but_the_file_does_not(log: Path) -> None:
    book = written(log, b"CUDA out of memory\n")
    book.start_run("--- again")
    assert book.lines == []
    book.close()
    assert log.read_text() == "CUDA out of memory\n--- again\n"


def test_the_log_is_rotated_and_the_oldest_file_goes(log: Path) -> None:
    lines = [f"line {n:04}" for n in range(200)]
    written(log, *(f"{line}\n".encode() for line in lines), limit=100).close()
    files = [log, *(log.with_name(f"server.log.{n}") for n in range(1, OLD_FILE_COUNT + 1))]
    assert sorted(log.parent.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 100 for file in files)
    kept = [line for file in reversed(files) for line in file.read_text().splitlines()]
    assert kept == lines[-len(kept) :]


def test_the_tail_reaches_into_the_file_before(log: Path) -> None:
    written(log, *(f"{n}\n".encode() for n in range(40)), limit=60).close()
    assert read_tail(log, 25) == [str(n) for n in range(15, 40)]
    assert read_tail(log, 0) == []
    assert read_tail(log.with_name("none"), 5) == []


@settings(deadline=None)
@given(st.text("ab\r\n%", max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_where_the_pieces_are_cut_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, text: str, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    at = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b].encode() for a, b in pairwise(at)]
    written(folder / "whole", text.encode()).close()
    written(folder / "cut", *pieces).close()
    assert (folder / "whole").read_text() == (folder / "cut").read_text()


def test_a_reader_follows_through_a_rotation(log: Path) -> None:
    book = written(log, b"before\n", limit=40)
    seen: list[str] = []
    going, reading = threading.Event(), threading.Event()

    def wait() -> bool:
        reading.set()
        return not going.wait(0.01)

    def read() -> None:
        seen.extend(follow(log, wait))

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(10)
    for n in range(6):
        reading.clear()
        book.write(f"line {n} is here\n".encode())
        assert reading.wait(10)
    going.set()
    reader.join(10)
    book.close()
    assert seen == [f"line {n} is here" for n in range(6)]


def test_a_line_that_is_half_written_is_read_when_it_is_whole(log: Path) -> None:
    log.write_bytes(b"")
    more: Iterator[bytes] = iter([b"ha", b"lf\n"])

    def wait() -> bool:
        piece = next(more, None)
        with log.open("ab") as stream:
            stream.write(piece or b"")
        return piece is not None

    assert list(follow(log, wait)) == ["half"]
