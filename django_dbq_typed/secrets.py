"""Secrets of a model: whether it has any, how to store what pydantic masks, and which are lost."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache
from inspect import isclass
from typing import Any, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.types import Secret, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

_SECRETS = (Secret, SecretBytes, SecretStr)


@cache
def has_secrets(model: type[BaseModel]) -> bool:
    """Return whether any field may be a secret, however deep; if that cannot be told, yes.

    Asked of the annotations: the JSON Schema marks a ``SecretStr``, but no ``Secret[int]``.
    """
    seen: dict[int, object] = {}
    pending: list[Any] = [model]
    while pending:
        annotation = pending.pop()
        if id(annotation) in seen:
            continue
        seen[id(annotation)] = annotation
        if isclass(annotation) and issubclass(annotation, _SECRETS):
            return True
        try:
            pending += _parts(annotation)
        except (NameError, TypeError):
            return True
    return False


def _parts(annotation: Any) -> Iterable[Any]:
    """Return the annotations of which this one is made."""
    if isclass(annotation):
        if issubclass(annotation, BaseModel):
            return [field.annotation for field in annotation.model_fields.values()]
        # Typed dicts, dataclasses and named tuples.
        names = ("__required_keys__", "__dataclass_fields__", "_fields")
        if any(hasattr(annotation, name) for name in names):
            return get_type_hints(annotation, include_extras=True).values()
    # What `type Password = SecretStr` and NewType("Password", SecretStr) stand for.
    behind = (getattr(annotation, name, None) for name in ("__value__", "__supertype__"))
    return [get_origin(annotation), *get_args(annotation), *behind]


def reveal(stored: Any, values: Any) -> Any:
    """Return ``stored`` with each secret that ``values`` has in the same place, in clear."""
    if isinstance(values, _SECRETS):
        return to_jsonable_python(values.get_secret_value())
    if isinstance(values, Mapping) and isinstance(stored, Mapping):
        fields = cast("Mapping[str, Any]", stored)
        pairs = zip(fields.items(), cast("Mapping[str, Any]", values).values(), strict=True)
        return {key: reveal(item, value) for (key, item), value in pairs}
    if isinstance(values, list | tuple | set | frozenset) and isinstance(stored, list):
        items = zip(cast("Iterable[Any]", stored), cast("Iterable[Any]", values), strict=True)
        return [reveal(item, value) for item, value in items]
    return stored


def stray_secret(value: Any, loaded: Any, path: str = "workspace") -> str | None:
    """Return where ``value`` has a secret that was none any more when it was ``loaded``, if it was.

    Looks at the objects themselves: what pydantic makes of them depends on who wrote a serializer.
    """
    if isinstance(value, _SECRETS):
        return None if isinstance(loaded, _SECRETS) else path
    if isinstance(value, set | frozenset):
        # Which is which cannot be told.
        return path if _count_secrets(value) > _count_secrets(loaded) else None
    parts, loaded_parts = _parts_of(value), _parts_of(loaded)
    found = (
        stray_secret(part, loaded_parts[key], f"{path}.{key}")
        for key, part in parts.items()
        if key in loaded_parts
    )
    return next(filter(None, found), None)


def _count_secrets(values: Any) -> int:
    if type(values) not in (set, frozenset, list):
        return 0
    return sum(isinstance(each, _SECRETS) for each in values)


def _parts_of(value: Any) -> Mapping[Any, Any]:
    """Return what a value is made of, by names, keys or numbers, if it is stored."""
    if isinstance(value, BaseModel):
        fields = {**vars(value), **(value.__pydantic_extra__ or {})}
        excluded = {name for name, field in type(value).model_fields.items() if field.exclude}
        return {name: part for name, part in fields.items() if name not in excluded}
    if isinstance(value, Mapping):
        return {**value}
    if isinstance(value, list | tuple | deque):
        return dict(enumerate(cast("Iterable[Any]", value)))
    return vars(value) if is_dataclass(value) and hasattr(value, "__dict__") else {}
