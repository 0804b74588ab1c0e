"""The message about a missing extra, for each way in which a distribution may be installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentcall_server.extras import describe_missing_extra, format_install_command

METADATA = """Metadata-Version: 2.4
Name: ourtool
Version: 1.0
Requires-Dist: orjson>=3
Requires-Dist: not-there-a>=1.0; extra == "web"
Requires-Dist: orjson>=3; extra == "web"
Requires-Dist: not-there-b[more]<2; python_version >= "3.9" and extra == "web"
Requires-Dist: not-there-c; extra == "chat"
Requires-Dist: orjson; extra == "there"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site" / "ourtool-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(METADATA)
    (folder / "INSTALLER").write_text("pip\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def record_origin(installed: Path, **origin: object) -> None:
    (installed / "direct_url.json").write_text(json.dumps(origin))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("web", "the page needs not-there-a and not-there-b, which are not installed."),
        ("chat", "the page needs not-there-c, which is not installed."),
        ("there", "the page needs blocked, which is not installed."),
    ],
)
def test_the_message_names_the_packages_that_are_missing(
    installed: Path, extra: str, words: str
) -> None:
    message = describe_missing_extra("the page", extra, "blocked.inner", "ourtool")
    assert message == f"{words} Install the extra '{extra}': pip install 'ourtool[{extra}]'"


def test_an_installation_from_an_index_names_the_distribution(installed: Path) -> None:
    assert format_install_command("web", "ourtool") == "pip install 'ourtool[web]'"


@pytest.mark.parametrize(("is_editable", "option"), [(True, "-e "), (False, "")])
def test_an_installation_from_a_clone_names_its_folder(
    installed: Path, tmp_path: Path, is_editable: bool, option: str
) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    record_origin(installed, url=clone.as_uri(), dir_info={"editable": is_editable})
    assert format_install_command("web", "ourtool") == f"pip install {option}'{clone}[web]'"


def test_an_installation_from_a_wheel_names_the_wheel(installed: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "ourtool-1.0-py3-none-any.whl"
    wheel.touch()
    record_origin(installed, url=wheel.as_uri(), archive_info={})
    assert format_install_command("web", "ourtool") == f"pip install '{wheel}[web]'"


def test_a_clone_that_is_gone_is_not_named(installed: Path, tmp_path: Path) -> None:
    record_origin(installed, url=(tmp_path / "gone").as_uri(), dir_info={})
    assert format_install_command("web", "ourtool") == "pip install 'ourtool[web]'"


def test_an_installation_from_version_control_names_the_repository(installed: Path) -> None:
    url = "https://git.example/ourtool.git"
    record_origin(installed, url=url, vcs_info={"vcs": "git", "requested_revision": "v1"})
    command = format_install_command("web", "ourtool")
    assert command == f"pip install 'ourtool[web] @ git+{url}@v1'"


def test_uv_is_named_where_it_installed(installed: Path) -> None:
    (installed / "INSTALLER").write_text("uv")
    assert format_install_command("web", "ourtool") == "uv pip install 'ourtool[web]'"


def test_sources_without_an_installation_name_the_extra() -> None:
    message = describe_missing_extra("the page", "web", "gradio", "nowhere-installed")
    assert message == (
        "the page needs the extra 'web'. In a clone of nowhere-installed: pip install '.[web]'"
    )
