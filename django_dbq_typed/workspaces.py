"""Models to JSON and back: what is stored, what is read, and what people may see."""

from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, to_json
from pydantic_core.core_schema import ErrorType

from django_dbq.errors import WorkspaceError
from django_dbq.workspace import encode_workspace
from django_dbq_typed.flat import is_flat
from django_dbq_typed.secrets import has_secrets, reveal, stray_secret

W = TypeVar("W", bound=BaseModel)

_KNOWN_ERRORS = frozenset(get_args(ErrorType))
CONCEALED = "**********"

#: A workspace as it was read: its fields, if it is flat, else its text.
AsRead = dict[str, Any] | bytes


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
    return reveal(stored, values)


def text_of(workspace: BaseModel) -> bytes:
    """Return what ``dump`` would as text, to see whether it changes; in clear as well."""
    if has_secrets(type(workspace)):
        return to_json(dump(workspace))
    serializer = workspace.__pydantic_serializer__
    text = serializer.to_json(workspace, by_alias=False, round_trip=True, warnings=False)
    # It writes a NaN like a None, and whoever sets one in the place of the other shall hear of it.
    return to_json(dump(workspace)) if b"null" in text else text


def as_read(workspace: BaseModel) -> AsRead:
    """Return what tells later whether the workspace has changed."""
    return workspace.__dict__.copy() if is_flat(workspace) else text_of(workspace)


def has_changed(workspace: BaseModel, before: AsRead) -> bool:
    """Return whether it may be another workspace, as JSON, than it was ``as_read``.

    True as well for a field that was set to an equal object, which is cheap to find out later.
    """
    if isinstance(before, bytes):
        return text_of(workspace) != before
    now = workspace.__dict__
    try:
        for name, value in before.items():
            if now[name] is not value:
                return True
    except KeyError:
        return True
    if len(now) == len(before):
        return False
    # What has come since may be a field that was missing, or no field, such as a cached property.
    return not type(workspace).model_fields.keys().isdisjoint(now.keys() - before.keys())


def load(model: type[W], stored: Any) -> W:
    """Return the model of a stored workspace.

    Raises ``ValidationError``, without the values that it was given: they may be secrets.
    """
    # From JSON, in which a date is text, as strict models want to know it.
    return load_text(model, to_json(stored))


def load_text(model: type[W], text: str | bytes) -> W:
    """Return what ``load`` does, of a workspace as JSON text."""
    try:
        validator = model.__pydantic_validator__
        loaded: W = validator.validate_json(text, by_alias=False, by_name=True)
        return loaded
    except ValidationError as error:
        raise without_input(error) from None


def check(model: type[BaseModel], given: Any) -> Any:
    """Return a new job's workspace as it is to be stored: a model, or the JSON for one.

    JSON may use aliases, as everywhere with pydantic, and is stored by field names. Raises
    ``ValidationError``, or ``WorkspaceError`` for what is no JSON, and for a secret whose field is
    not annotated as one: it would be stored and shown in clear, or lost as asterisks.
    """
    if isinstance(given, Checked):
        return given.stored
    if not isinstance(given, BaseModel):
        text = encode_workspace(given)
        try:
            given = model.model_validate_json(text, by_alias=True, by_name=True)
        except ValidationError as error:
            raise without_input(error) from None
    stored = dump(given)
    loaded = load(model, stored)
    if not is_flat(given) and (path := stray_secret(given, loaded)):
        raise WorkspaceError(
            f"{path} is a secret that does not come back as one, so that it would be lost or shown:"
            " annotate it as SecretStr, SecretBytes or Secret[...], and as nothing else."
        )
    # What a subclass adds is unknown to the job's model, also whether it is a secret.
    return stored if type(given) is model else dump(loaded)


def conceal(model: type[BaseModel], stored: Any) -> Any:
    """Return a stored workspace as people may see it; one that cannot be read is hidden whole."""
    if not has_secrets(model):
        return stored
    try:
        return load(model, stored).model_dump(mode="json", by_alias=False, round_trip=True)
    except Exception:  # noqa: BLE001 - a validator of the model's may raise anything
        return CONCEALED


def without_input(error: ValidationError) -> ValidationError:
    """Return the same errors without the input, which pydantic would print."""
    details: list[InitErrorDetails] = []
    for line in error.errors(include_url=False, include_input=False):
        kind: str | PydanticCustomError = line["type"]
        context = line.get("ctx", {})
        if kind not in _KNOWN_ERRORS:
            # Its message is complete: only a context of its own would fill braces in it.
            kind = PydanticCustomError(line["type"], line["msg"])  # pyright: ignore[reportArgumentType]
        details.append(InitErrorDetails(type=kind, loc=line["loc"], input=None, ctx=context))
    return ValidationError.from_exception_data(error.title, details, hide_input=True)
