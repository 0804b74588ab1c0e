"""pydantic's `Field`, as far as it can be told without importing pydantic."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def as_field(value: object) -> FieldInfo | None:
    """The value, if it is a Field; whoever made one has imported pydantic."""
    fields = sys.modules.get("pydantic.fields")
    is_field = fields is not None and isinstance(value, fields.FieldInfo)
    return cast("FieldInfo", value) if is_field else None


def get_description(metadata: object) -> str | None:
    """The description that one item of an `Annotated` gives: a text, a Doc or a Field."""
    if isinstance(metadata, str):
        return metadata
    field = as_field(metadata)
    if field is not None:
        return field.description
    text = getattr(metadata, "documentation", None)  # there are several classes called Doc
    return text if isinstance(text, str) else None
