"""Secrets of a model: whether it has any, and how to store what pydantic would mask."""

from collections.abc import Iterable, Mapping
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
