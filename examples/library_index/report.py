"""The report: jobs by state, what failed and why, and what the index found, 79 columns wide."""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from django.db.models import Count, Sum

from django_dbq.models import Job
from examples.library_index.jobs import sum_up_package
from examples.library_index.models import Definition, Import, Module

WIDTH = 79
COLUMN = 38
MAX_FAILURES = 12
MAX_RANKED = 8

Rows = Iterable[tuple[str, int]]


def report() -> str:
    """Return the whole report."""
    return "\n".join(
        [
            *_side_by_side(
                _table("Jobs by state", _states()),
                _table("Found", _totals()),
            ),
            "",
            *_side_by_side(
                _table("Most imported, by modules", _most_imported()),
                _table("Largest packages, by lines", _largest()),
            ),
            "",
            *_failures(),
        ]
    )


def _states() -> Rows:
    states = Job.objects.values_list("state").annotate(jobs=Count("*")).order_by("state")
    return [*states, ("all jobs", Job.objects.count())]


def _totals() -> Rows:
    kinds = dict(Definition.objects.values_list("kind").annotate(found=Count("*")).order_by("kind"))
    return [
        ("modules", Module.objects.count()),
        ("lines", Module.objects.aggregate(lines=Sum("lines", default=0))["lines"]),
        ("functions", kinds.get(Definition.Kind.FUNCTION, 0)),
        ("classes", kinds.get(Definition.Kind.CLASS, 0)),
    ]


def _most_imported() -> Rows:
    imports = Import.objects.values_list("name").annotate(modules=Count("*"))
    return imports.order_by("-modules", "name")[:MAX_RANKED]


def _largest() -> Rows:
    ended = Job.objects.filter(name=sum_up_package.name, state=Job.STATES.COMPLETE)
    summaries = [sum_up_package.workspace_of(job) for job in ended]
    summaries.sort(key=lambda summary: (-summary.lines, summary.package))
    return [(summary.package, summary.lines) for summary in summaries[:MAX_RANKED]]


def _failures() -> list[str]:
    """Return each file that failed, the task that it failed in and, below, the reason."""
    failed = Job.objects.filter(state=Job.STATES.FAILED).order_by("workspace__path")
    count = failed.count()
    lines = [f"Files that failed: {count:,}", "-" * WIDTH]
    for job in failed[:MAX_FAILURES]:
        task = job.next_task.rpartition(".")[2]
        lines.append(_line(job.workspace["path"], f"in {task}", WIDTH))
        lines.extend(_wrapped(_reason(job)))
    if not count:
        lines.append("None. Those that do not parse on purpose belong to Python's own tests, which")
        lines.append("some systems do not install.")
    if count > MAX_FAILURES:
        lines.append(f"and {count - MAX_FAILURES:,} more; all of them are in the admin.")
    return lines


def _reason(job: Job) -> str:
    """Return the last line of the job's traceback, which says what went wrong."""
    lines = (job.error or "").splitlines()
    return lines[-1] if lines else "no error on record"


def _wrapped(text: str) -> list[str]:
    """Return the text indented, in two lines at most."""
    indent = "  "
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        max_lines=2,
        placeholder=" ...",
    )


def _table(title: str, rows: Rows) -> list[str]:
    return [title, "-" * COLUMN, *(_line(label, f"{count:,}", COLUMN) for label, count in rows)]


def _line(left: str, right: str, width: int) -> str:
    """Return both in one line of that width, the left one shortened where they would touch."""
    room = width - len(right) - 2
    shown = left if len(left) <= room else f"{left[: room - 3]}..."
    return f"{shown}{right:>{width - len(shown)}}"


def _side_by_side(left: Sequence[str], right: Sequence[str]) -> list[str]:
    gap = " " * (WIDTH - 2 * COLUMN)
    pairs = zip_longest(left, right, fillvalue="")
    return [f"{one:<{COLUMN}}{gap}{other}".rstrip() for one, other in pairs]
