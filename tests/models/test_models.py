"""The names of `agentcall.models`, which are imported when they are used."""

import subprocess
import sys

import pytest

import agentcall.models
from agentcall.models.http_chat import HTTPChat


def test_every_name_can_be_imported_and_listed() -> None:
    for name in agentcall.models.__all__:
        assert getattr(agentcall.models, name).__name__ == name
    assert set(agentcall.models.__all__) <= set(dir(agentcall.models))
    assert agentcall.models.HTTPChat is HTTPChat


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'agentcall\.models' has no attribute 'Chat'"):
        getattr(agentcall.models, "Chat")  # noqa: B009 - a type checker refuses the attribute


def test_the_room_imports_no_client() -> None:
    code = (
        "import sys, agentcall.models; "
        "sys.exit([n for n in ('aiohttp', 'openai', 'tenacity') if n in sys.modules] or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
