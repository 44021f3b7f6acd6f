"""Workspaces as JSON that every supported database can hold, or a clear error."""

# What a workspace holds may be anything, until it is encoded.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, cast

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query_utils import DeferredAttribute

from django_dbq.conf import conf
from django_dbq.errors import WorkspaceError

# Made once, since json.dumps() makes one for each call that has options.
_encoder = json.JSONEncoder(allow_nan=False)
_decoder = json.JSONDecoder()

#: MariaDB reads no JSON that is nested deeper; and no workspace has a use for it.
MAX_DEPTH = 30


class _Encoding(threading.local):
    """What ``json`` makes for each call, where it has it in C: made once for each thread."""

    parts_of: Callable[[object, int], Iterable[str]]

    def __init__(self) -> None:
        self.make()

    def make(self) -> None:
        """Make it, with an empty list of the containers that it is within."""
        json_encoder: Any = json.encoder
        try:
            self.parts_of = json_encoder.c_make_encoder(
                {}, _encoder.default, json_encoder.encode_basestring_ascii, None,
                _encoder.key_separator, _encoder.item_separator, False, False, False,
            )  # fmt: skip
        except (AttributeError, TypeError):  # of another Python
            self.parts_of = lambda value, _: [_encoder.encode(value)]


_encoding = _Encoding()


def _encode(value: object) -> str:
    try:
        return "".join(_encoding.parts_of(value, 0))
    except BaseException:
        # The one that has failed may be in use still, where a value's own code has called this.
        _encoding.make()
        raise


def encode_workspace(workspace: object, *, stored: str | None = None) -> str:
    """Return the workspace as JSON text, in ASCII.

    ``stored``: the text that the row has already; a workspace that is still the same passes,
    whatever it holds. Raises ``WorkspaceError``, saying where and what, for values that are no
    JSON (bytes, sets, dates), that JSON does not know (NaN, Infinity), that PostgreSQL cannot hold
    (NUL, half of a surrogate pair), for nesting too deep to be read back, and above
    ``DBQ["MAX_WORKSPACE_BYTES"]``. One rule for all databases, so that a job that works on one
    works on the others.
    """
    if stored == "{}" and type(workspace) is dict and not workspace:
        return stored  # as it is most often, and so worth a look
    try:
        text = _encode(workspace)
    except Exception as error:  # a value's own code may raise anything
        raise WorkspaceError(_explained(workspace, error)) from error
    if stored is not None and (text == stored or text == _as_we_write_it(stored)):
        return stored
    if len(text) > conf().MAX_WORKSPACE_BYTES:
        raise WorkspaceError(
            f"The workspace takes {len(text):,} bytes as JSON, and"
            f" {conf().MAX_WORKSPACE_BYTES:,} are allowed: store the bulk elsewhere and keep its"
            " key, or raise DBQ['MAX_WORKSPACE_BYTES']."
        )
    # Never deeper than it has brackets, which are quicker to count.
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(workspace) > MAX_DEPTH:
        raise WorkspaceError(
            f"The workspace is nested more than {MAX_DEPTH} levels deep, which MariaDB cannot read."
        )
    # The text is ASCII: a NUL or a surrogate can only be there as an escape.
    if "\\u0000" in text or "\\ud" in text:
        for path, value in _walk(workspace):
            if isinstance(value, str) and (problem := unstorable(value)):
                raise WorkspaceError(
                    f"{path} holds {problem}, which no JSON column can be sure to keep."
                )
    return text


def _as_we_write_it(stored: str) -> str:
    """Return the text of a row, which the database may have written in its own way, in ours."""
    return stored if stored == "{}" else _encode(decode_workspace(stored))


def text_of_row(column: str | None) -> str:
    """Return a row's workspace; a NULL, which a plain INSERT can write, is an empty one."""
    return "{}" if column is None or column.strip() == "null" else column


def decode_workspace(text: str) -> Any:
    """Return the workspace of that JSON text."""
    if text == "{}":
        return {}
    with suppress(json.JSONDecodeError):
        workspace, end = _decoder.raw_decode(text)
        if end == len(text):
            return workspace
    # This looks for space around it, which takes longer than the rest.
    return json.loads(text)


class WorkspaceAttribute(DeferredAttribute):
    """Decodes the workspace of a claimed job when it is asked for, which many a task never does."""

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        # Migrations and other models have the field too, and no claims.
        text = getattr(instance, "unread_workspace", None)
        if instance is None or text is None:
            return super().__get__(instance, cls)
        # One for all threads that ask at the same time: what each changes is to be kept.
        values = cast("dict[str, Any]", vars(instance))
        return values.setdefault(self.field.attname, decode_workspace(text))


class WorkspaceField(models.JSONField):
    """A JSON column that refuses what ``encode_workspace`` refuses, before any SQL is sent.

    It stands in the field so that every way to write it is covered: ``create``, ``save``,
    ``bulk_create`` and ``update``. A NULL, which only a plain INSERT can write, reads as ``{}``.
    """

    descriptor_class = WorkspaceAttribute

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        if not hasattr(value, "as_sql"):
            encode_workspace(value)
        return super().get_db_prep_save(value, connection)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        decoded = super().from_db_value(value, expression, connection)
        return {} if decoded is None and expression == self.cached_col else decoded


def unstorable(text: str) -> str | None:
    """Return what PostgreSQL would refuse in that text, or None."""
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None


def _explained(workspace: object, error: Exception) -> str:
    try:
        return _explain(workspace, error)
    except Exception:  # noqa: BLE001 - as above
        return f"The workspace is no JSON: {type(error).__name__}."


def _explain(workspace: object, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "The workspace is nested too deep, or contains itself."
    for path, value in _walk(workspace):
        if isinstance(value, float) and value - value != 0:
            return f"{path} is {value!r}, which JSON does not know: write None or a string instead."
        if not isinstance(value, str | int | float | bool | dict | list | tuple | None):
            kind = type(value).__name__
            return f"{path} is of type {kind}, which is no JSON: convert it before you store it."
    return f"The workspace is no JSON: {error}."


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while containers := [item for item in level if isinstance(item, dict | list | tuple)]:
        depth += 1
        level = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
        ]
    return depth


def _walk(workspace: object) -> Iterator[tuple[str, object]]:
    """Yield each value with its path as Python would write it; a key is a value of its own.

    What one of them contains comes once, for it may be itself.
    """
    entered: set[int] = set()
    pending: list[tuple[str, object]] = [("workspace", workspace)]
    while pending:
        path, value = pending.pop()
        yield path, value
        if id(value) in entered:
            continue
        entered.add(id(value))
        if isinstance(value, dict):
            for key, item in value.items():
                yield f"a key of {path}", key
                pending.append((f"{path}[{key!r}]", item))
        elif isinstance(value, list | tuple):
            pending.extend((f"{path}[{index}]", item) for index, item in enumerate(value))
