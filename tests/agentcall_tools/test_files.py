"""Files beneath a folder: what is read and written, and every way out of it."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from agentcall import ToolRegistry
from agentcall_tools.files import FileError, Files
from agentcall_tools.files.files import MAX_LISTED, MAX_MATCHES, MAX_SHOWN, MAX_WRITTEN
from agentcall_tools.files.walk import FolderWalk

SECRET = "the secret of another folder"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a few files; beside it lies one with a secret."""
    folder = tmp_path / "root"
    (folder / "docs" / "deep").mkdir(parents=True)
    (folder / "notes.md").write_text("# Notes\nBuy milk\nCall Ann\n")
    (folder / "docs" / "a.txt").write_text("alpha\n")
    (folder / "docs" / "deep" / "b.md").write_text("beta\nMILK again\n")
    (folder / ".env").write_text("KEY=" + SECRET)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture
def files(root: Path) -> Files:
    return Files(root)


def test_a_file_is_read(files: Files) -> None:
    assert files.read_file("notes.md") == "# Notes\nBuy milk\nCall Ann\n"
    assert files.read_file("./docs//deep/b.md") == "beta\nMILK again\n"


def test_no_message_has_a_name_that_is_kept_out(root: Path) -> None:
    for name in ("secret-plan.md", "SECRET.txt", "notes2.md"):
        (root / name).write_text(SECRET)
    (root / "secrets").mkdir()
    (root / "secrets" / "deep.txt").write_text(SECRET)
    (root / "link").symlink_to("secret-plan.md")
    files = Files(root, deny=["secret*", "notes2*"])
    paths = ("ecret-plan.md", "notes3.md", "secret-plan", "secrets/dee", "nothing/there", "ecrets",
             "link", "link/a", "docs/../a", "SECRET.TXT", "")  # fmt: skip
    calls: list[Callable[[str], str]] = [
        files.read_file,
        files.list_files,
        lambda path: files.list_files(path, "*"),
        lambda path: files.list_files(path, "secret*"),
        lambda path: files.search_files("another folder", path),
        lambda path: files.write_file(f"{path}/new/x" if path else "", "x"),
    ]
    for path in paths:
        for each in calls:
            try:
                said = each(path)
            except FileError as error:
                said = str(error)
            for name in ("secret-plan.md", "SECRET.txt", "notes2", "deep.txt"):
                assert name not in said, (path, said)


def test_a_name_is_kept_out_in_upper_case_too(root: Path) -> None:
    (root / "Secret.md").write_text(SECRET)
    with pytest.raises(FileError, match="are denied"):
        Files(root, deny=["secret*"]).read_file("Secret.md")


def test_a_folder_is_listed(files: Files) -> None:
    assert files.list_files() == "docs/\nnotes.md (26 bytes)"
    assert files.list_files("docs") == "docs/a.txt (6 bytes)\ndocs/deep/"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.md", "docs/deep/b.md (16 bytes)\nnotes.md (26 bytes)"),
        ("docs/*.md", "docs/deep/b.md (16 bytes)"),
        ("*.py", "no file fits '*.py'"),
    ],
)
def test_files_are_found_by_a_pattern(files: Files, pattern: str, found: str) -> None:
    assert files.list_files(pattern=pattern) == found


def test_lines_are_found_with_their_place(files: Files) -> None:
    assert files.search_files("milk") == (
        "docs/deep/b.md:2 (offset 5): MILK again\nnotes.md:2 (offset 8): Buy milk"
    )
    assert files.search_files("milk", path="docs") == "docs/deep/b.md:2 (offset 5): MILK again"
    assert files.search_files("milk", pattern="n*") == "notes.md:2 (offset 8): Buy milk"
    assert files.search_files("beer") == "no line contains 'beer'"
    assert files.read_file("notes.md", 8) == "Buy milk\nCall Ann\n\n[bytes 8 to 26 of 26]"


@pytest.mark.parametrize("text", ["", "  ", "a\nb"])
def test_a_search_for_no_words_of_a_line_is_refused(files: Files, text: str) -> None:
    with pytest.raises(FileError, match="in one line"):
        files.search_files(text)


def test_a_file_is_written_whole_and_replaced(files: Files, root: Path) -> None:
    assert files.write_file("new/deep/c.txt", "上海") == (
        "wrote 6 bytes to new/deep/c.txt (a new file)"
    )
    (root / "new" / "deep" / "c.txt").chmod(0o640)
    assert "it had 6 bytes" in files.write_file("new/deep/c.txt", "x")
    written = root / "new" / "deep" / "c.txt"
    assert (written.read_text(), stat.S_IMODE(written.stat().st_mode)) == ("x", 0o640)
    assert [path.name for path in written.parent.iterdir()] == ["c.txt"]


def test_too_much_is_not_written(files: Files, root: Path) -> None:
    with pytest.raises(FileError, match=f"at most {MAX_WRITTEN}"):
        files.write_file("big.txt", "x" * (MAX_WRITTEN + 1))
    assert not (root / "big.txt").exists()


def test_a_file_that_is_not_there_is_told_with_what_is(files: Files) -> None:
    with pytest.raises(FileError, match=r"there is no note\.md; there is: notes\.md"):
        files.read_file("note.md")
    with pytest.raises(FileError, match=r"there is no doc; there is: docs"):
        files.read_file("doc/a.txt")
    with pytest.raises(FileError, match=r"notes\.md is not a regular file|not a folder"):
        files.read_file("notes.md/x")
    with pytest.raises(FileError, match="docs is a folder; only regular files are read"):
        files.read_file("docs")


WAYS_OUT = [
    "../outside/secret.txt",
    "docs/../../outside/secret.txt",
    "docs/..",
    "..",
    "/etc/passwd",
    "//etc/passwd",
    "~/secret",
    "~root/secret",
    ".env",
    ".git/config",
    "docs/.hidden",
    "a\0b",
    "notes.md\n",
    "a\x1bb",
    "a/" * 50 + "b",
    "x" * 300,
    "上" * 100,
    "\ud800",
]
USES: list[Callable[[Files, str], str]] = [
    lambda files, path: files.read_file(path),
    lambda files, path: files.list_files(path),
    lambda files, path: files.search_files("secret", path),
    lambda files, path: files.write_file(path, "x"),
]


@each_row("use", USES, ids=["read", "list", "search", "write"])
@each_row("path", WAYS_OUT, ids=lambda path: ascii(path)[:30])
def test_a_path_that_is_not_plainly_beneath_is_refused(
    files: Files, path: str, use: Callable[[Files, str], str]
) -> None:
    with pytest.raises(
        FileError, match=r"absolute|leads out|not a path|are denied|too long"
    ) as caught:
        use(files, path)
    assert SECRET not in str(caught.value)


def test_an_absolute_path_into_the_folder_is_refused_too(files: Files, root: Path) -> None:
    with pytest.raises(FileError, match="paths are relative to the folder"):
        files.read_file(str(root / "notes.md"))


@pytest.mark.parametrize("use", USES, ids=["read", "list", "search", "write"])
def test_links_are_not_followed(files: Files, root: Path, use: Callable[[Files, str], str]) -> None:
    outside = root.parent / "outside"
    (root / "file").symlink_to(outside / "secret.txt")
    (root / "folder").symlink_to(outside)
    (root / "inner").symlink_to("notes.md")
    (root / "docs" / "up").symlink_to("..")
    for path in ("file", "folder/secret.txt", "inner", "docs/up/notes.md", "folder"):
        with pytest.raises(FileError, match="symbolic link"):
            use(files, path)
    assert SECRET not in files.search_files("secret")
    assert (outside / "secret.txt").read_text() == SECRET


def test_links_are_neither_listed_nor_searched(files: Files, root: Path) -> None:
    (root / "docs" / "way").symlink_to(root.parent / "outside")
    (root / "loop").symlink_to(root)
    assert "way" not in files.list_files("docs")
    assert files.list_files(pattern="secret*") == "no file fits 'secret*'"


def test_a_file_with_another_name_outside_is_not_read(files: Files, root: Path) -> None:
    (root / "hard.txt").hardlink_to(root.parent / "outside" / "secret.txt")
    with pytest.raises(FileError, match=r"hard\.txt has 2 names \(hard links\)"):
        files.read_file("hard.txt")
    assert "no line" in files.search_files("secret")
    files.write_file("hard.txt", "mine")
    assert (root.parent / "outside" / "secret.txt").read_text() == SECRET


def test_pipes_sockets_and_devices_are_not_opened(files: Files, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket is short
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)
        with pytest.raises(FileError, match="pipe is a pipe; only regular files are read"):
            files.read_file("pipe")
        with pytest.raises(FileError, match="pipe is a pipe; only regular files are written"):
            files.write_file("pipe", "x")
        with pytest.raises(FileError, match="sock is a socket"):
            files.read_file("sock")
        assert "no line" in files.search_files("anything")
        assert "pipe" not in files.list_files()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_other_file_systems_are_not_entered() -> None:
    whole = Files("/")
    for path in ("proc/self/environ", "proc/version", "sys/kernel/notes"):
        with pytest.raises(FileError, match="on another file system"):
            whole.read_file(path)
    with pytest.raises(FileError, match=r"another file system|a device"):
        whole.read_file("dev/zero")


def test_the_folder_itself_may_not_be_exchanged(files: Files, root: Path) -> None:
    root.rename(root.parent / "moved")
    (root.parent / "outside").rename(root)
    with pytest.raises(FileError, match="replaced"):
        files.read_file("secret.txt")
    root.rename(root.parent / "outside")
    root.symlink_to(root.parent / "outside")
    with pytest.raises(OSError):
        files.read_file("secret.txt")


def test_names_that_are_denied_are_the_users_choice(root: Path) -> None:
    assert Files(root, deny=()).read_file(".env").endswith(SECRET)
    careful = Files(root, deny=(".*", "*.txt"))
    with pytest.raises(FileError, match="are denied"):
        careful.read_file("docs/a.txt")
    assert "a.txt" not in careful.list_files("docs")


def test_a_folder_that_is_not_there_is_an_error_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Files(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        Files(tmp_path / "file")


def exchange(one: Path, other: Path) -> None:
    """Swaps two names at once, by Linux's renameat2(RENAME_EXCHANGE)."""
    here, swap = -100, 2
    paths = os.fsencode(one), os.fsencode(other)
    if ctypes.CDLL(None, use_errno=True).renameat2(here, paths[0], here, paths[1], swap):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def swapping(root: Path) -> Iterator[None]:
    """A file and a folder that are now themselves, now links to the secret, in quick turns."""
    outside, aside = root.parent / "outside", root.parent / "aside"
    aside.mkdir()
    (aside / "file").symlink_to(outside / "secret.txt")
    (aside / "folder").symlink_to(outside)
    (root / "way").mkdir()
    (root / "way" / "secret.txt").write_text("harmless")
    (root / "file.txt").write_text("harmless")
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            exchange(root / "file.txt", aside / "file")
            exchange(root / "way", aside / "folder")

    thread = threading.Thread(target=run)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="swaps by Linux's renameat2")
@pytest.mark.usefixtures("swapping")
def test_a_link_that_is_put_there_meanwhile_is_no_way_out(files: Files, root: Path) -> None:
    uses = [
        lambda: files.read_file("file.txt"),
        lambda: files.read_file("way/secret.txt"),
        lambda: files.search_files("secret of another"),
        lambda: files.list_files("way"),
    ]
    outcomes: set[str] = set()
    for turn in range(500):
        for use in uses if turn % 50 else [lambda: files.write_file("way/new.txt", "x")]:
            try:
                outcomes.add(use())
            except FileError as refusal:
                outcomes.add(str(refusal).partition(" ")[2])
    assert {"harmless", "is a symbolic link, and links are not followed"} <= outcomes
    assert not [text for text in outcomes if "another folder" in text]
    assert [path.name for path in (root.parent / "outside").iterdir()] == ["secret.txt"]
    assert (root.parent / "outside" / "secret.txt").read_text() == SECRET


def test_a_huge_file_is_read_in_parts_from_any_byte(files: Files, root: Path) -> None:
    with (root / "huge.log").open("wb") as file:
        file.truncate(10 * 2**30)
        file.seek(6 * 2**30)
        file.write(b"found me\n" + b"line of text\n" * 5_000)
    text = files.read_file("huge.log", 6 * 2**30)
    assert text.startswith("found me\nline of text\n")
    assert len(text) < MAX_SHOWN + 200
    assert "of 10737418240; call read_file with offset=6442" in text
    with pytest.raises(FileError, match=r"huge\.log is not text"):
        files.read_file("huge.log")
    with pytest.raises(FileError, match="has 10737418240 bytes; offset=10737418241"):
        files.read_file("huge.log", 10 * 2**30 + 1)
    assert "no line" in files.search_files("found me", pattern="huge.log")


@each_row("unit", ["上海 and 東京, 北京\n", "é", "x", "🙂" * 7 + "\n", "\ufeff"])
def test_the_parts_of_a_file_are_the_whole_file(files: Files, root: Path, unit: str) -> None:
    whole = unit * (3 * MAX_SHOWN // len(unit.encode()))
    (root / "whole.txt").write_text(whole, encoding="utf-8")
    parts, offset = "", 0
    while True:
        part, _, note = files.read_file("whole.txt", offset).rpartition("\n[bytes ")
        parts += part
        if "offset=" not in note:
            break
        offset = int(note.partition("offset=")[2].split()[0])
    assert parts == whole.removeprefix("\ufeff")


def test_reading_may_begin_in_the_middle_of_a_character(files: Files, root: Path) -> None:
    (root / "a.txt").write_text("上海", encoding="utf-8")
    assert files.read_file("a.txt", 1) == "海\n[bytes 3 to 6 of 6]"


def test_what_is_not_text_is_refused(files: Files, root: Path) -> None:
    (root / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(FileError, match=r"image\.png is not text; it has 16 bytes"):
        files.read_file("image.png")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    assert files.read_file("latin.txt") == "caf\ufffd"
    (root / "empty.txt").write_bytes(b"")
    assert files.read_file("empty.txt") == "(the file is empty)"


def test_long_lists_are_cut_and_say_so(files: Files, root: Path) -> None:
    for number in range(MAX_LISTED + 5):
        (root / "docs" / f"{number:04}.md").write_text("needle\n")
    listed = files.list_files("docs").splitlines()
    assert len(listed) == MAX_LISTED + 1
    assert "there may be more" in listed[-1]
    found = files.search_files("needle").splitlines()
    assert len(found) == MAX_MATCHES + 1
    assert "there may be more" in found[-1]


def test_a_search_in_a_long_line_shows_the_part(files: Files, root: Path) -> None:
    (root / "line.txt").write_text("x" * 5_000 + " needle " + "y" * 5_000)
    found = files.search_files("needle")
    assert " needle " in found
    assert len(found) < 400


def test_a_walk_ends_in_time(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcall_tools.files.walk.MAX_SECONDS", -1.0)
    assert files.search_files("beta") == "no line contains 'beta' as far as was searched"


def test_deep_folders_are_walked_without_keeping_them_open(root: Path) -> None:
    deep = root
    for _ in range(25):
        deep /= "d"
        deep.mkdir()
    names = [entry.path for entry in FolderWalk(Files(root)._root).list_entries(())]
    assert max(name.count("d/") for name in names) == 19


def test_a_folder_that_may_not_be_read_is_told(files: Files, root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (root / "closed").mkdir(mode=0)
    with pytest.raises(FileError, match="cannot be opened: Permission denied"):
        files.read_file("closed/a")


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "", "a", "~", "/"])).map("/".join)
)
@settings(deadline=None)
def test_any_path_reads_beneath_or_is_refused(path: str) -> None:
    try:
        Files(Path(__file__).parents[1] / "lmdeploy").read_file(path)
    except FileError:
        return


def test_the_tools_are_marked_as_what_they_do(root: Path) -> None:
    registry = ToolRegistry(Files(root))
    assert registry.names == ("list_files", "read_file", "search_files", "write_file")
    for found in registry:
        writes = found.name == "write_file"
        marks = found.options
        assert (marks.read_only, marks.untrusted) == (not writes, not writes)
        assert (marks.requires_approval, marks.sequential) == (writes, writes)
    assert "write_file" not in registry.without("write_file")
