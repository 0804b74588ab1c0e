"""pydantic's `Field`, recognized without importing pydantic."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def as_field(value: object) -> FieldInfo | None:
    """Return the value if it is a Field; if there is one, pydantic has been imported."""
    fields = sys.modules.get("pydantic.fields")
    is_field = fields is not None and isinstance(value, fields.FieldInfo)
    return cast("FieldInfo", value) if is_field else None


def get_description(metadata: object) -> str | None:
    """Return the description in one item of an `Annotated`: a text, a Doc or a Field."""
    if isinstance(metadata, str):
        return metadata
    field = as_field(metadata)
    if field is not None:
        return field.description
    text = getattr(metadata, "documentation", None)  # several classes are named Doc
    return text if isinstance(text, str) else None
