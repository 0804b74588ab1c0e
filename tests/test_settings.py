from __future__ import annotations

import math
from typing import Any

import pytest

from agentcall import Limits
from agentcall.errors import UsageError

NAMES = ["requests", "tool_calls", "tokens", "seconds", "parallel", "result_chars"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_a_bound_that_is_not_above_zero_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("name", NAMES)
def test_none_is_no_bound(name: str) -> None:
    bounds: dict[str, Any] = {name: None}
    assert getattr(Limits(**bounds), name) is None
