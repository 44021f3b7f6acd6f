"""Workspaces that are their fields, where none of those can change in its place.

Of such a workspace it is cheap to tell whether it has changed: its fields are the objects that they
were, or they are not.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

from pydantic import BaseModel

#: What cannot change in its place: to have another value, a field has to be another object.
_UNCHANGING = frozenset(
    {str, int, float, bool, NoneType, date, datetime, time, timedelta, Decimal, UUID}
)

#: What pydantic calls them, where it says how a field is validated.
_UNCHANGING_SCHEMAS = frozenset(
    {
        "str", "int", "float", "bool", "none", "date", "datetime", "time", "timedelta", "decimal",
        "uuid",
    }
)  # fmt: skip


def is_flat(workspace: BaseModel) -> bool:
    """Return whether this workspace is flat."""
    return (
        _UNCHANGING.issuperset(map(type, workspace.__dict__.values()))
        and workspace.__pydantic_extra__ is None
        and workspace.__pydantic_private__ is None
    )


def all_are_flat(model: type[BaseModel]) -> bool:
    """Return whether all that is read from JSON as that model is flat, whatever it holds.

    False as well where the model does not tell, because code of its own has a say.
    """
    schema: Mapping[str, Any] = model.__pydantic_core_schema__
    match schema:
        case {"type": "model", "config": config, "schema": {"type": "model-fields"} as inner}:
            has_code = schema.get("custom_init") or schema.get("post_init")
            has_more = config.get("extra_fields_behavior") == "allow"
            fields = [field["schema"] for field in inner["fields"].values()]
            return not has_code and not has_more and all(map(_is_unchanging, fields))
        case _:
            return False


def _is_unchanging(schema: Mapping[str, Any]) -> bool:
    match schema:
        case {"type": "nullable", "schema": inner}:
            return _is_unchanging(inner)
        case {"type": "default", "schema": inner, "default": default}:
            return type(default) in _UNCHANGING and _is_unchanging(inner)
        case _:
            return schema["type"] in _UNCHANGING_SCHEMAS
