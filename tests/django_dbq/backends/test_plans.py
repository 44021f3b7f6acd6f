"""The claim reads its index, whichever Django wrote the query."""

import uuid
from typing import Any

import pytest
from django.db import connection

from django_dbq.backends import Backend, backend_for
from django_dbq.models import Job


def plan_of_claim(backend: Backend) -> str:
    """Return the plan of the statement in which a claim chooses its jobs."""
    statements: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        backend.claim(["default"], names=["noop"], limit=10, worker=uuid.uuid4())
    [(sql, params), *_] = [(sql, params) for sql, params in statements if "priority" in sql]
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # A table this small is read as a whole, if that is allowed.
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(explain + sql, params)
        return "\n".join(str(row) for row in cursor.fetchall())


@pytest.mark.django_db
def test_the_claim_reads_its_index_in_order() -> None:
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(100))
    plan = plan_of_claim(backend_for("default"))
    assert "django_dbq_job_claim" in plan
    for sorting in ("Sort", "filesort", "TEMP B-TREE"):
        assert sorting not in plan
