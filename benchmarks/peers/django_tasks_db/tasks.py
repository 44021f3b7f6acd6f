"""The job, in a module of its own because its row names it by path."""

import os
import uuid

from django.tasks import task

_file = os.open(os.environ["DBQ_BENCHMARK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@task
def noop() -> None:
    """Note the start."""
    os.write(_file, b"%s\n" % uuid.uuid4().hex.encode())
