"""``python -m benchmarks.enqueue ROUNDS COUNT``: what it costs to create jobs.

Side by side with the INSERT alone: the same columns and values by Django's cursor, and a plain
Django model on the same table.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import django
from django.core.management import call_command
from django.db import connection, models

BATCH = 1000
#: What is compared to, of those in the same measurement.
BASELINE = "INSERT by cursor"
BULK_BASELINE = "a plain model's bulk_create"
_Enqueue = Callable[[int], object]


def one_by_one() -> dict[str, _Enqueue]:
    """Return the ways to create one job at a time, each with a commit of its own."""
    from benchmarks.jobs import Nothing, noop
    from django_dbq.models import Job

    statement, values = _insert()
    model = _plain_model()

    def insert() -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, values())

    return {
        BASELINE: _repeat(insert),
        "a plain model's create": _repeat(lambda: model.objects.create(name="plain")),
        "Job.objects.create": _repeat(lambda: Job.objects.create(name="plain")),
        "typed, enqueue": _repeat(lambda: noop.enqueue(workspace=Nothing())),
    }


def in_bulk() -> dict[str, _Enqueue]:
    """Return the ways to create many jobs, a thousand in one statement."""
    from django_dbq.models import Job

    model = _plain_model()
    return {
        BULK_BASELINE: lambda count: model.objects.bulk_create(
            [model(name="plain") for _ in range(count)], batch_size=BATCH
        ),
        "Job.objects.bulk_enqueue": lambda count: Job.objects.bulk_enqueue(
            [Job(name="plain") for _ in range(count)]
        ),
    }


def _repeat(create: Callable[[], object]) -> _Enqueue:
    def enqueue(count: int) -> None:
        for _ in range(count):
            create()

    return enqueue


def _insert() -> tuple[str, Callable[[], list[Any]]]:
    """Return the INSERT that ``create`` makes, and a function that returns values for it."""
    from django_dbq.ids import uuid7
    from django_dbq.models import Job

    fields = [field for field in Job._meta.concrete_fields if field.name != "claimable"]
    job = Job(name="plain").prepare()
    values = [field.get_db_prep_save(field.pre_save(job, add=True), connection) for field in fields]
    identity = fields[0]
    columns = ", ".join(field.attname for field in fields)
    places = ", ".join(["%s"] * len(fields))
    return (
        f"INSERT INTO django_dbq_job ({columns}) VALUES ({places})",
        lambda: [identity.get_db_prep_save(uuid7(), connection), *values[1:]],
    )


@cache
def _plain_model() -> Any:
    """Return a model that does nothing of its own, on the table of the jobs."""
    from django_dbq.ids import uuid7

    class PlainJob(models.Model):  # noqa: DJ008
        id = models.UUIDField(primary_key=True, default=uuid7)
        created = models.DateTimeField(auto_now_add=True)
        modified = models.DateTimeField(auto_now=True)
        name = models.CharField(max_length=255)
        state = models.CharField(max_length=20, default="NEW")
        next_task = models.CharField(max_length=255, default="benchmarks.plain.noop")
        workspace = models.JSONField(default=dict)
        queue_name = models.CharField(max_length=255, default="default")
        priority = models.SmallIntegerField(default=0)
        run_after = models.DateTimeField(null=True)

        class Meta:
            app_label = "benchmarks"
            db_table = "django_dbq_job"
            managed = False

    return PlainJob


def take_turns(ways: dict[str, _Enqueue], *, rounds: int, count: int) -> dict[str, list[float]]:
    """Return the jobs per second, by way and round."""
    for way in ways.values():
        way(min(count, BATCH))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    names: Sequence[str] = list(ways)
    for number in range(rounds):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            begin = time.perf_counter()
            ways[name](count)
            rates[name].append(round(count / (time.perf_counter() - begin)))
    return rates


def main(rounds: int, count: int) -> None:
    """Print the jobs per second as JSON, by measurement, way and round."""
    from benchmarks.ours import empty

    call_command("migrate", verbosity=0)
    empty()
    single = take_turns(one_by_one(), rounds=rounds, count=count)
    bulk = take_turns(in_bulk(), rounds=rounds, count=20 * count)
    empty()
    print(json.dumps({"enqueue, one by one": single, "enqueue, in bulk": bulk}))


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    main(*map(int, sys.argv[1:]))
