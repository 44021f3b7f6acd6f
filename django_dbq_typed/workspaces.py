"""Models to JSON and back: what is stored, what is read, and what people may see."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, PydanticInvalidForJsonSchema, ValidationError
from pydantic.types import Secret, SecretBytes, SecretStr
from pydantic_core import InitErrorDetails, PydanticCustomError, to_json, to_jsonable_python
from pydantic_core.core_schema import ErrorType

W = TypeVar("W", bound=BaseModel)

_SECRETS = (Secret, SecretBytes, SecretStr)
_KNOWN_ERRORS = frozenset(get_args(ErrorType))
CONCEALED = "**********"


@dataclass(frozen=True)
class Checked:
    """A workspace that has just been validated, on its way to the row."""

    stored: Any


def dump(workspace: BaseModel) -> Any:
    """Return the workspace as JSON, by field names, with its secrets in clear.

    Field names and not aliases: a model may have two aliases for a field, one to read and one to
    write, while its name serves for both.
    """
    stored = workspace.model_dump(mode="json", by_alias=False, round_trip=True, warnings=False)
    if not has_secrets(type(workspace)):
        return stored
    values = workspace.model_dump(mode="python", by_alias=False, round_trip=True, warnings=False)
    return _reveal(stored, values)


def text_of(workspace: BaseModel) -> bytes:
    """Return what ``dump`` would as text, to see whether it changes; in clear as well."""
    if has_secrets(type(workspace)):
        return to_json(dump(workspace))
    serializer = workspace.__pydantic_serializer__
    return serializer.to_json(workspace, by_alias=False, round_trip=True, warnings=False)


def load(model: type[W], stored: Any) -> W:
    """Return the model of a stored workspace.

    Raises ``ValidationError``, without the values that it was given: they may be secrets.
    """
    try:
        # From JSON, in which a date is text, as strict models want to know it.
        validator = model.__pydantic_validator__
        loaded: W = validator.validate_json(to_json(stored), by_alias=False, by_name=True)
        return loaded
    except ValidationError as error:
        raise _without_input(error) from None


def check(model: type[BaseModel], given: Any) -> Any:
    """Return a new job's workspace as it is to be stored: a model, or the JSON for one.

    JSON may use aliases, as everywhere with pydantic, and is stored by field names. Raises
    ``ValidationError``.
    """
    if isinstance(given, Checked):
        return given.stored
    if not isinstance(given, BaseModel):
        try:
            given = model.model_validate_json(json.dumps(given), by_alias=True, by_name=True)
        except ValidationError as error:
            raise _without_input(error) from None
    stored = dump(given)
    load(model, stored)
    return stored


def conceal(model: type[BaseModel], stored: Any) -> Any:
    """Return a stored workspace as people may see it; one that cannot be read is hidden whole."""
    if not has_secrets(model):
        return stored
    try:
        return load(model, stored).model_dump(mode="json", by_alias=False, round_trip=True)
    except ValidationError:
        return CONCEALED


@cache
def has_secrets(model: type[BaseModel]) -> bool:
    """Return whether any field is a secret, however deep; if that cannot be told, yes."""
    try:
        return '"format": "password"' in json.dumps(model.model_json_schema())
    except PydanticInvalidForJsonSchema:
        return True


def _reveal(stored: Any, values: Any) -> Any:
    """Return ``stored`` with each secret that ``values`` has in the same place, in clear."""
    if isinstance(values, _SECRETS):
        return to_jsonable_python(values.get_secret_value())
    if isinstance(values, Mapping) and isinstance(stored, Mapping):
        fields = cast("Mapping[str, Any]", stored)
        pairs = zip(fields.items(), cast("Mapping[str, Any]", values).values(), strict=True)
        return {key: _reveal(item, value) for (key, item), value in pairs}
    if isinstance(values, list | tuple | set | frozenset) and isinstance(stored, list):
        items = zip(cast("Iterable[Any]", stored), cast("Iterable[Any]", values), strict=True)
        return [_reveal(item, value) for item, value in items]
    return stored


def _without_input(error: ValidationError) -> ValidationError:
    """Return the same errors without the input, which pydantic would print."""
    details: list[InitErrorDetails] = []
    for line in error.errors(include_url=False, include_input=False):
        kind: str | PydanticCustomError = line["type"]
        context = line.get("ctx", {})
        if kind not in _KNOWN_ERRORS:
            # As a template, in which braces stand for values of the context.
            message = line["msg"].replace("{", "{{").replace("}", "}}")
            kind = PydanticCustomError(line["type"], message)  # pyright: ignore[reportArgumentType]
        details.append(InitErrorDetails(type=kind, loc=line["loc"], input=None, ctx=context))
    return ValidationError.from_exception_data(error.title, details, hide_input=True)
