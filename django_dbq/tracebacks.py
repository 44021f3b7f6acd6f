"""What an exception leaves behind on a record: text that every database can hold."""

import traceback

from django_dbq.conf import NAME_LENGTH

#: A longer record of an error keeps its beginning and its end, in characters.
ERROR_LENGTH = 32_000


def describe(error: BaseException, *, leaving_out: str = "") -> str:
    """Return the error with its traceback; the last line says what went wrong.

    ``leaving_out``: a file whose own calls, at the beginning, tell the reader nothing. A text over
    ``ERROR_LENGTH`` loses its middle.
    """
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename == leaving_out:
        frames = frames.tb_next
    try:
        lines = traceback.format_exception(type(error), error, frames)
    except Exception:  # noqa: BLE001 - an exception may hold anything
        lines = [summarise(error)]
    text = _storable("".join(lines).strip())
    if len(text) > ERROR_LENGTH:
        half = ERROR_LENGTH // 2
        text = (
            f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"
        )
    return text


def summarise(error: BaseException) -> str:
    """Return in one line what went wrong."""
    try:
        message = str(error)
    except BaseException as unprintable:  # noqa: BLE001 - an exception's code may raise anything
        message = f"({type(unprintable).__name__} while it was printed)"
    name, message = type(error).__qualname__, message.strip()
    line = f"{name}: {message.splitlines()[0]}" if message else name
    return _storable(line[:NAME_LENGTH])[:NAME_LENGTH]


def _storable(text: str) -> str:
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
