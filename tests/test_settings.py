from __future__ import annotations

import math
from typing import Any

import pytest
from rows import each_row

from agentcall import Limits, ModelSettings
from agentcall.errors import UsageError

NAMES = [*Limits.__slots__]


@each_row("name", NAMES)
@each_row("value", [0, -1, math.nan])
def test_a_bound_that_is_not_above_zero_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        Limits(**{name: value})


@each_row("name", NAMES)
def test_none_is_no_bound(name: str) -> None:
    bounds: dict[str, Any] = {name: None}
    assert getattr(Limits(**bounds), name) is None


def test_model_settings_are_the_fields_that_are_set() -> None:
    assert ModelSettings().to_fields() == {}
    settings = ModelSettings(temperature=0.0, stop=("END",), extra_body={"top_k": 1})
    assert settings.to_fields() == {"temperature": 0.0, "stop": ["END"], "top_k": 1}


@pytest.mark.parametrize("name", ["model", "messages", "stream", "stream_options"])
def test_a_field_of_every_request_is_not_a_model_setting(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        ModelSettings(extra_body={name: 1})
