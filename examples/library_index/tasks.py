"""The job ``index_file``, as ``settings.JOBS`` lists it: three tasks and two hooks.

Each task is a step that lasts: when it ends, the workspace is saved, and what follows may run in
another process. The workspace holds what was learnt about the file, never the file itself. A task
whose worker dies is run again, so that each may be run twice and leave behind the same as once.
"""

import io
import tokenize
from pathlib import Path, PurePosixPath

from django.conf import settings
from django.db import transaction

from django_dbq.models import Job
from examples.library_index.models import Definition, Import, Module
from examples.library_index.outline import outline


def name_module(job: Job) -> None:
    """Note the name of the module, and refuse a path that leads out of the library.

    The creation hook: it runs where the job is created, and what it raises is raised there.
    """
    path = PurePosixPath(job.workspace["path"])
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{path} is not a path inside the library.")
    parts = path.with_suffix("").parts
    package = parts[:-1] if parts[-1] == "__init__" else parts
    job.workspace["module"] = ".".join(package or parts)


def read(job: Job) -> None:
    """Find out the file's encoding, and that it can be decoded; note size and number of lines."""
    content = _file(job).read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    lines = sum(1 for _ in io.TextIOWrapper(io.BytesIO(content), encoding))
    job.workspace |= {"encoding": encoding, "size": len(content), "lines": lines}


def parse(job: Job) -> None:
    """Parse the file, and note what it defines and imports."""
    source = _file(job).read_text(encoding=job.workspace["encoding"])
    found = outline(source, filename=job.workspace["path"])
    job.workspace |= {"definitions": found.definitions, "imports": found.imports}


def store(job: Job) -> None:
    """Put what was found into the index, in place of what an earlier run may have put there."""
    found = job.workspace
    with transaction.atomic():
        Module.objects.filter(path=found["path"]).delete()
        module = Module.objects.create(
            path=found["path"],
            name=found["module"],
            encoding=found["encoding"],
            size=found["size"],
            lines=found["lines"],
        )
        Definition.objects.bulk_create(
            Definition(module=module, kind=kind, name=name, line=line)
            for kind, name, line in found["definitions"]
        )
        Import.objects.bulk_create(Import(module=module, name=name) for name in found["imports"])
    # The index has them now. Had it refused them, they would still be here for another try.
    del found["definitions"], found["imports"]


def forget(job: Job, error: Exception) -> None:
    """Take a file that can no longer be indexed out of the index.

    The failure hook: the job is FAILED, and the error is on its record.
    """
    Module.objects.filter(path=job.workspace["path"]).delete()


def _file(job: Job) -> Path:
    return Path(settings.LIBRARY, job.workspace["path"])
