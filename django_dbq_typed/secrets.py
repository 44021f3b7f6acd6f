"""Secrets of a model: whether it has any, how to store what pydantic would mask, and strays."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from inspect import isclass
from typing import Any, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.types import Secret, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

_SECRETS = (Secret, SecretBytes, SecretStr)
_CONTAINERS = {list, tuple, set, frozenset, dict}
#: Annotations under which a value may be of any type.
_ANYTHING = (Any, object, *_CONTAINERS)


@cache
def has_secrets(model: type[BaseModel]) -> bool:
    """Return whether any field may be a secret, however deep; if that cannot be told, yes.

    Asked of the annotations: the JSON Schema marks a ``SecretStr``, but no ``Secret[int]``.
    """
    try:
        return any(isclass(each) and issubclass(each, _SECRETS) for each in _annotations(model))
    except (NameError, TypeError):
        return True


@cache
def takes_anything(model: type[BaseModel]) -> bool:
    """Return whether there may be secrets in the model of which its annotations do not speak."""
    try:
        return any(each in _ANYTHING or _allows_extra_fields(each) for each in _annotations(model))
    except (NameError, TypeError):
        return True


def _allows_extra_fields(annotation: Any) -> bool:
    if not (isclass(annotation) and issubclass(annotation, BaseModel)):
        return False
    return annotation.model_config.get("extra") == "allow"


def _annotations(model: type[BaseModel]) -> Iterator[Any]:
    """Yield the annotations of all fields, and all of which they are made."""
    seen: dict[int, object] = {}
    pending: list[Any] = [model]
    while pending:
        annotation = pending.pop()
        if id(annotation) not in seen:
            seen[id(annotation)] = annotation
            yield annotation
            pending += _parts(annotation)


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
    # The list of a list[int] is no list of anything.
    origins = {get_origin(annotation)} - _CONTAINERS
    return [*origins, *get_args(annotation), *behind]


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


def stray_secret(values: Any, loaded: Any, path: str = "workspace") -> str | None:
    """Return where ``values`` has a secret that was no secret any more when it was ``loaded``."""
    if isinstance(values, _SECRETS):
        return None if isinstance(loaded, _SECRETS) else path
    both = (values, loaded)
    inside: Iterable[tuple[str, Any, Any]] = ()
    if all(isinstance(each, dict) for each in both):
        inside = ((f"{path}.{key}", values[key], loaded[key]) for key in values if key in loaded)
    elif all(isinstance(each, list | tuple | set | frozenset) for each in both):
        pairs = enumerate(zip(values, loaded, strict=False))
        inside = ((f"{path}[{number}]", *pair) for number, pair in pairs)
    found = (stray_secret(value, back, place) for place, value, back in inside)
    return next(filter(None, found), None)
