"""Where every job notes its start: a file outside of the database, one ``write`` each."""

import os

_path = os.environ.get("DBQ_BENCHMARK_RECORD", os.devnull)
_file = os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

#: Bytes that a note takes: an id in hexadecimal and a newline.
NOTE = 33


def record(job_id: str) -> None:
    """Note the start of the job of that id, 32 hexadecimal digits."""
    os.write(_file, b"%s\n" % job_id.encode())


def note(text: str) -> None:
    """Note something else, in a line of its own."""
    os.write(_file, f"{text}\n".encode())
