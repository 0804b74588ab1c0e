"""Retrieval from real folders, files and SQLite databases, by real processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from agentcall import Agent, tool
from agentcall.messages import is_tainted
from agentcall.testing import ScriptedModel, call, say
from agentcall_tools.knowledge import IndexReport, Knowledge, KnowledgeError
from agentcall_tools.knowledge.document import DocumentLine, TextDocument, read_document
from agentcall_tools.knowledge.fts_terms import build_match_query
from agentcall_tools.knowledge.passages import MAX_LENGTH, cut_passages

OLD = 1_700_000_000
HANDBOOK = """\
# Handbook

Welcome.

## Leave

Everybody has twenty days.

```sh
# no heading
```

### Carry over

Five days may be carried over.
"""
PAGE = """\
<html><head><title>Rules</title><script>var x = "hidden words";</script></head>
<body><h1>Travel</h1>
<p>Trains are <b>preferred</b>
to planes.</p>
<h2>Hotels</h2>
<p>At most 120 euros &amp; breakfast.</p>
</body></html>
"""


def pdf(*pages: str) -> bytes:
    """A PDF whose pages say so, by the book (ISO 32000-1, 7.5)."""
    count = len(pages)
    bodies = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%b]>>"
        % (count, b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(count))),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, text in enumerate(pages):
        lines = b" T* ".join(b"(%b) Tj" % line.encode() for line in text.splitlines())
        drawn = b"BT /F1 12 Tf 14 TL 72 700 Td %b ET" % lines
        bodies.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents %d 0 R"
            b"/Resources<</Font<</F1 3 0 R>>>>>>" % (5 + 2 * number)
        )
        bodies.append(b"<</Length %d>>stream\n%b\nendstream" % (len(drawn), drawn))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(bodies, 1):
        places.append(len(out))
        out += b"%d 0 obj%b endobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(bodies) + 1, table)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        len(bodies) + 1,
        out.index(b"xref"),
    )
    return bytes(out + end)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "docs"
    (found / "deep").mkdir(parents=True)
    (found / "handbook.md").write_text(HANDBOOK)
    (found / "deep" / "travel.html").write_text(PAGE)
    (found / "notes.txt").write_text("Buy milk.\n\nAnn likes oolong tea.\n")
    (found / "手册.txt").write_text("员工每年有二十天年假。\n差旅费用须在三十天内报销。\n")
    (found / "report.pdf").write_bytes(pdf("Sales rose.", "Profit fell\nin autumn."))
    (found / ".secret.md").write_text("a secret oolong")
    (found / "picture.png").write_bytes(b"\x89PNG oolong")
    (tmp_path / "outside.md").write_text("oolong outside")
    (found / "link.md").symlink_to(tmp_path / "outside.md")
    for path in found.rglob("*"):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    return found


@pytest.fixture
def knowledge(folder: Path, tmp_path: Path) -> Knowledge:
    return Knowledge(folder, index=tmp_path / "index.db")


@pytest.mark.parametrize(
    ("query", "place", "text"),
    [
        ("who gets twenty days", "handbook.md:5-11, passage 2 (Handbook > Leave)", "twenty days"),
        ("carrying over", "handbook.md:13-15, passage 3 (Handbook > Leave > Carry over)", "Five"),
        ("oolong", "notes.txt:1-3, passage 1", "Ann likes oolong tea."),
        ("train preferred", "deep/travel.html:1-3, passage 1 (Travel)", "Trains are preferred to"),
        ("hotel breakfast", "deep/travel.html:5-6, passage 2 (Travel > Hotels)", "120 euros &"),
        ("profits in autumn", "report.pdf, page 2, passage 2", "Profit fell\nin autumn."),
        ("sales", "report.pdf, page 1, passage 1", "Sales rose."),
        ("年假", "手册.txt:1-2, passage 1", "二十天年假"),
        ("怎么报销", "手册.txt:1-2, passage 1", "三十天内报销"),
        ("税", "税", ""),
    ],
)
def test_a_passage_is_found_with_its_place(
    knowledge: Knowledge, folder: Path, query: str, place: str, text: str
) -> None:
    if place == "税":  # a word of one character
        (folder / "税.txt").write_text("含税价")
        place = "税.txt:1, passage 1"
    found = knowledge.search_knowledge(query, 1)
    assert found.startswith(f"[{place}]\n")
    assert text in found


def test_what_is_hidden_linked_or_no_document_is_left_out(knowledge: Knowledge) -> None:
    found = knowledge.search_knowledge("oolong hidden words var PNG outside", 20)
    assert "secret" not in found
    assert "outside" not in found
    assert "PNG" not in found
    assert "var x" not in found


def test_where_nothing_is_found_the_documents_are_named(knowledge: Knowledge) -> None:
    found = knowledge.search_knowledge("zebra")
    assert found.startswith(
        "no passage has any of these words; the documents are: deep/travel.html"
    )
    assert "handbook.md" in found


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = Knowledge(tmp_path / "empty", index=tmp_path / "i.db").search_knowledge("tea")
    assert found == "there are no documents with text"


# In step with the files.


def test_a_refresh_does_what_has_changed_and_no_more(knowledge: Knowledge, folder: Path) -> None:
    assert knowledge.refresh() == IndexReport(documents=5, added=5)
    assert knowledge.refresh() == IndexReport(documents=5)
    (folder / "notes.txt").write_text("Buy oat milk.\n")
    (folder / "handbook.md").unlink()
    (folder / "new.md").write_text("# New\nA zebra.\n")
    os.utime(folder / "手册.txt", (OLD + 5, OLD + 5))  # touched, not changed
    assert knowledge.refresh() == IndexReport(documents=5, added=1, changed=1, removed=1)
    assert "oat" in knowledge.search_knowledge("oat milk")
    assert "zebra" in knowledge.search_knowledge("zebra")
    assert "twenty" not in knowledge.search_knowledge("twenty oolong tea")


def test_a_search_sees_what_has_just_been_written(knowledge: Knowledge, folder: Path) -> None:
    path = folder / "fresh.txt"
    for word in ("alpha", "gamma", "delta"):  # of one length, within one tick of some clocks
        path.write_text(word)
        os.utime(path, ns=(path.stat().st_mtime_ns // 10**9 * 10**9,) * 2)
        assert f"fresh.txt:1, passage 1]\n{word}" in knowledge.search_knowledge(word)


def test_an_unchanged_file_is_not_read_again(knowledge: Knowledge, folder: Path) -> None:
    knowledge.refresh()
    path = folder / "notes.txt"
    path.write_text("X" * len(path.read_bytes()))
    os.utime(path, (OLD, OLD))  # neither size nor time tell
    assert knowledge.refresh() == IndexReport(documents=5)


def test_what_there_is_no_time_for_is_indexed_the_next_time(knowledge: Knowledge) -> None:
    report = knowledge.refresh(seconds=0)
    assert (report.documents, report.pending) == (0, 5)
    assert "oolong" in knowledge.search_knowledge("oolong")


def test_files_without_text_are_told_and_not_tried_again(
    knowledge: Knowledge, folder: Path
) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing of it")
    (folder / "binary.txt").write_bytes(b"a\0b" * 100)
    (folder / "empty.md").write_text("\n\n")
    for path in folder.glob("[be]*.*"):
        os.utime(path, (OLD, OLD))
    unread = knowledge.refresh().unread_files
    assert set(unread) == {"broken.pdf", "binary.txt", "empty.md"}
    assert unread["broken.pdf"].startswith("the PDF cannot be read: ")
    assert (unread["binary.txt"], unread["empty.md"]) == ("it is not text", "it has no text")
    assert knowledge.refresh() == IndexReport(documents=5, unread_files=unread)
    assert "[not read: binary.txt: it is not text; " in knowledge.search_knowledge("oolong")


@pytest.mark.processes
def test_two_processes_at_once_make_one_index(folder: Path, tmp_path: Path) -> None:
    for number in range(100):
        (folder / f"{number}.md").write_text(f"# Number {number}\nzebra {number}\n")
    code = f"""
        from agentcall_tools.knowledge import Knowledge
        print(Knowledge({str(folder)!r}, index={str(tmp_path / "both.db")!r}).refresh().documents)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["105\n", "105\n"]
    connection = sqlite3.connect(tmp_path / "both.db")
    (count,) = connection.execute(
        "SELECT count(*) FROM passages WHERE text LIKE '%zebra%'"
    ).fetchone()
    (words,) = connection.execute("SELECT count(*) FROM words WHERE words MATCH 'zebra'").fetchone()
    connection.close()
    assert (count, words) == (100, 100)


# The index's file.


def test_an_index_that_another_process_is_creating_is_waited_for(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "index.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    release.start()
    try:
        assert Knowledge(folder, index=file).refresh().documents
    finally:
        release.join()
        other.close()


def test_the_index_is_for_its_owner_alone(knowledge: Knowledge, tmp_path: Path) -> None:
    knowledge.refresh()
    assert (tmp_path / "index.db").stat().st_mode & 0o777 == 0o600


def test_without_a_name_it_is_in_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCALL_CACHE", str(tmp_path / "cache"))
    Knowledge(folder).refresh()
    assert len(list((tmp_path / "cache" / "knowledge").glob("*.db"))) == 1


def test_the_index_of_another_folder_is_left_alone(knowledge: Knowledge, tmp_path: Path) -> None:
    knowledge.refresh()
    (tmp_path / "other").mkdir()
    other = Knowledge(tmp_path / "other", index=tmp_path / "index.db")
    with pytest.raises(ValueError, match=r"is the index of .*docs; name another file"):
        other.search_knowledge("tea")
    assert "oolong" in knowledge.search_knowledge("oolong")


def test_another_database_is_left_alone(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.db"
    connection = sqlite3.connect(mine)
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()
    before = mine.read_bytes()
    with pytest.raises(ValueError, match="is another database"):
        Knowledge(folder, index=mine).search_knowledge("tea")
    assert mine.read_bytes() == before


def test_a_broken_index_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(KnowledgeError, match="remove its file"):
        Knowledge(folder, index=tmp_path / "broken.db").search_knowledge("tea")


def test_an_index_of_an_older_version_is_made_again(knowledge: Knowledge, tmp_path: Path) -> None:
    knowledge.refresh()
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.execute("PRAGMA user_version = 0")
    connection.commit()
    connection.close()
    assert knowledge.refresh() == IndexReport(documents=5, added=5)


# Bounds.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("",), "query is 1 to"), (("x" * 1001,), "query is 1 to"), (("a", 0), "count is 1 to 20"),
     (("a", 21), "count is 1 to 20")],
)  # fmt: skip
def test_what_is_asked_has_bounds(
    knowledge: Knowledge, arguments: tuple[str, int], words: str
) -> None:
    with pytest.raises(KnowledgeError, match=words):
        knowledge.search_knowledge(*arguments)


@each_row("query", ['"', 'a" OR "', "NEAR(a, b)", "-tea", "tea*", "a AND NOT", "?!", "_"])
def test_no_query_is_a_mistake_of_syntax(knowledge: Knowledge, query: str) -> None:
    assert knowledge.search_knowledge(query)


def test_a_long_document_is_read_to_its_end_in_parts(folder: Path, knowledge: Knowledge) -> None:
    (folder / "long.txt").write_text(" ".join(f"word{number}." for number in range(10_000)))
    assert len(knowledge.search_knowledge("word77", 20)) < 8_000
    seen, at = list[str](), 1
    for _ in range(1_000):
        shown = knowledge.read_knowledge("long.txt", at)
        assert len(shown) < 8_000
        body, _, more = shown.partition("\n\n[continue with passage=")
        seen += [w for line in body.splitlines() if line[:1] == "w" or line[:2] == " w"
                 for w in line.split()]  # fmt: skip
        if not more:
            break
        at = int(more.rstrip("]"))
    assert seen == [f"word{number}." for number in range(10_000)]


def test_a_document_that_is_not_there_is_told_with_those_that_are(knowledge: Knowledge) -> None:
    with pytest.raises(KnowledgeError, match="none yet; search first"):
        knowledge.read_knowledge("notes.txt")
    knowledge.refresh()
    with pytest.raises(KnowledgeError, match=r"'x.md' has no passage 1; .*notes\.txt"):
        knowledge.read_knowledge("x.md")
    assert "Ann likes" in knowledge.read_knowledge("notes.txt")


# Documents and passages.


@each_row(
    ("data", "text"),
    [
        ("上海".encode(), "上海"),
        ("差旅费用须在三十天内报销".encode("gbk"), "差旅费用须在三十天内报销"),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "café"),
        ("café".encode("utf-16"), "café"),
        ("Müller, Grüße aus Köln".encode("cp1252"), "Müller, Grüße aus Köln"),
    ],
)
def test_text_is_read_in_the_charsets_that_files_have(data: bytes, text: str) -> None:
    assert read_document("a.txt", data).lines == (DocumentLine(1, text),)


def test_a_page_may_name_its_charset() -> None:
    data = '<meta charset="gb2312"><p>报销</p>'.encode("gbk")
    assert [line.text for line in read_document("a.html", data).lines] == ["报销"]


LINES = st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=3_000))


@given(LINES, st.booleans())
@settings(max_examples=50, deadline=None)
def test_passages_have_all_that_a_document_says_and_no_more_than_their_size(
    texts: Sequence[str], has_headings: bool
) -> None:
    lines = tuple(map(DocumentLine, range(1, len(texts) + 1), texts))
    found = list(cut_passages(TextDocument(lines, "line", has_headings)))
    said = "".join("".join(one.text for one in found).split())
    assert said == "".join("".join(texts).split())
    assert all(len(one.text) <= MAX_LENGTH + 1_000 for one in found)
    assert all(1 <= one.first <= one.last <= len(texts) for one in found)
    assert [one.first for one in found] == sorted(one.first for one in found)


def test_a_question_of_any_length_asks_for_so_many_words() -> None:
    assert build_match_query(" ".join(map(str, range(1_000)))).count(" OR ") == 63
    assert build_match_query("") == ""


# As a tool.


def test_what_is_found_is_text_of_strangers(knowledge: Knowledge) -> None:
    @tool
    def send(text: str) -> str:
        """Send."""
        return "sent"

    script = [call("search_knowledge", query="oolong"), call("send", text="x"), say("ok")]
    result = Agent(ScriptedModel(script), tools=[knowledge, send]).run_sync("Who likes tea?")
    assert is_tainted(result.messages)
    assert [each.call.name for each in result.pending] == ["send"]


def test_the_model_is_told_what_the_documents_are_about(folder: Path, tmp_path: Path) -> None:
    made = Knowledge(folder, about="the handbook of Example Ltd", index=tmp_path / "i.db")
    assert made.search_knowledge.description.startswith("Searches the handbook of Example Ltd and")
    assert "oolong" in made.search_knowledge("oolong")
    assert made.search_knowledge.options.untrusted
    assert made.search_knowledge.options.read_only


@pytest.mark.processes
def test_the_command_line_makes_it_with_a_folder(folder: Path, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("agentcall")
    done = subprocess.run(
        [str(script), "tools", "call", "search_knowledge", '{"query": "oolong"}', "-t",
         f"knowledge={folder}"],
        env={**os.environ, "AGENTCALL_CACHE": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Ann likes oolong tea." in done.stdout
