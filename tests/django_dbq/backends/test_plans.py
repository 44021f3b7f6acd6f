"""The claim reads its index, whichever Django wrote the query."""

import uuid
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from django_dbq.backends import Wanted, backend_for, mysql, sql, sqlite, statements
from django_dbq.backends.postgresql import _SESSION
from django_dbq.clock import mysql_now
from django_dbq.execution import Execution
from django_dbq.models import Job


def plan_of_claim() -> str:
    """Return the plan of the statement in which a claim chooses its jobs."""
    worker = uuid.uuid4()
    if connection.vendor == "sqlite":
        now = connection.ops.adapt_datetimefield_value(timezone.now())
        given = [worker.hex, worker.hex, now, now, "default", now, '["noop"]', 10]
        explain = f"EXPLAIN QUERY PLAN {sqlite.CLAIM}"
        return "\n".join(map(str, connection.connection.execute(explain, given).fetchall()))
    wanted = Wanted(["default"], ["noop"], 10, worker)
    statement: str
    params: Any
    statement, params, _ = statements.claim("default", wanted, worker)
    if connection.vendor == "mysql":
        statement = mysql.CLAIM.format(now=mysql_now(connection), skip_locked="SKIP LOCKED")
        params = ["default", [b"noop"], 10]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # A table this small is read as a whole, if that is allowed.
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {statement}", params)
        return "\n".join(str(row) for row in cursor.fetchall())


@pytest.mark.django_db
def test_the_claim_reads_its_index_in_order() -> None:
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(100))
    plan = plan_of_claim()
    assert "django_dbq_job_claim" in plan
    for sorting in ("Sort", "filesort", "TEMP B-TREE"):
        assert sorting not in plan


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL's pages")
def test_a_claim_finds_room_beside_what_it_replaces() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE 'fillfactor=50' = ANY(reloptions)"
            " AND relname LIKE 'django\\_dbq\\_job%' ORDER BY relname"
        )
        roomy = [name for (name,) in cursor.fetchall()]
        constraints = connection.introspection.get_constraints(cursor, "django_dbq_job")
    [created] = [
        name
        for name, each in constraints.items()
        if each["columns"] == ["created"] and each["index"]
    ]
    assert roomy == sorted(["django_dbq_job", created, "django_dbq_job_pkey"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL's prepared plans")
def test_a_plan_made_for_an_empty_table_reads_indexes_when_it_has_grown() -> None:
    backend = backend_for("default")
    backend.open()
    wanted = Wanted(["default"], ["noop"], 10, uuid.uuid4())
    for _ in range(2):
        assert backend.claim(wanted) == []
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(5000))
    before = rows_read_in_sequence()
    for _ in range(10):
        late, _ = backend.exchange(
            [Execution(claim).run() for claim in backend.claim(wanted)], wanted
        )
        assert late == []
    assert rows_read_in_sequence() == before
    connection.close()


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's plans")
def test_outcomes_that_differ_in_their_workspaces_are_looked_up_by_id() -> None:
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(100))
    for statistics in ("ANALYZE", "DELETE FROM sqlite_stat1"):
        connection.connection.execute(statistics)
        explain = f"EXPLAIN QUERY PLAN {sqlite.FINISH_EDITED_ALIKE}"
        rows = connection.connection.execute(explain, [*11 * [None], "[]", None]).fetchall()
        plan = "\n".join(str(row) for row in rows)
        assert "SCAN json_each" in plan
        assert "SEARCH django_dbq_job USING INDEX sqlite_autoindex_django_dbq_job_1 (id=?)" in plan
        assert "SCAN django_dbq_job" not in plan


def rows_read_in_sequence() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'django_dbq_job'"
        )
        [read] = cursor.fetchone()
        assert isinstance(read, int)
        return read


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL's prepared plans")
@pytest.mark.parametrize("analyzed", [False, True])
def test_plans_are_right_whatever_is_known_of_the_table(analyzed: bool) -> None:
    """A table that is new, or was emptied, tells the planner nothing, or that all jobs wait."""
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(3000))
    with connection.cursor() as cursor:
        if analyzed:
            cursor.execute("ANALYZE django_dbq_job")
        else:
            forget_what_is_known()
    backend_for("default").open()
    claim = explained_by_name(sql.CLAIM)
    assert "Index Scan using django_dbq_job_claim" in claim
    assert "Sort" not in claim
    assert "Bitmap" not in claim
    edited = "text text text text int int bool smallint timestamptz timestamptz text smallint uuid"
    for finish in (
        explained(sql.FINISH, ["text", "text"]),
        explained(sql.FINISH_EDITED, edited.split()),
    ):
        assert "Index Scan using django_dbq_job_pkey" in finish
        assert "Nested Loop" not in finish
        assert "Seq Scan" not in finish
    for go_on in (explained_by_name(sql.GO_ON), explained_by_name(sql.GO_ON_EDITED)):
        assert "Index Scan using django_dbq_job_claim" in go_on
        assert "Index Scan using django_dbq_job_pkey" in go_on
        for wrong in ("Nested Loop", "Seq Scan on django_dbq_job", "Sort", "Bitmap"):
            assert wrong not in go_on
    connection.close()


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL's plans")
def test_a_plan_for_the_values_of_the_moment_is_right_while_nothing_is_known() -> None:
    """As with psycopg 2, which has no other."""
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(3000))
    forget_what_is_known()
    with connection.cursor() as cursor:
        for setting in _SESSION:
            cursor.execute(f"SET LOCAL {setting}")
    plan = plan_of_claim()
    assert "Index Scan using django_dbq_job_claim" in plan
    assert "Sort" not in plan
    assert "Bitmap" not in plan


def forget_what_is_known() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM pg_statistic WHERE starelid = 'django_dbq_job'::regclass")
        cursor.execute(
            "UPDATE pg_class SET relpages = 0, reltuples = -1"
            " WHERE oid = 'django_dbq_job'::regclass"
        )


def explained_by_name(statement: str) -> str:
    types = {
        "queue": "text", "names": "text[]", "token": "uuid", "worker": "uuid", "limit": "int",
        "next_task": "text", "ids": "text", "held": "uuid", "workspaces": "text",
        "priority": "smallint", "run_after": "timestamptz",
        "version": "smallint",
    }  # fmt: skip
    used = [name for name in types if f"%({name})s" in statement]
    for number, name in enumerate(used):
        statement = statement.replace(f"%({name})s", f"${number + 1}")
    return explained(statement, [types[name] for name in used])


def explained(statement: str, types: list[str]) -> str:
    """Return the plan of a statement as a worker's session prepares it, for any values."""
    for number in range(len(types)):
        statement = statement.replace("%s", f"${number + 1}", 1)
    with connection.cursor() as cursor:
        cursor.execute(f"PREPARE explained ({', '.join(types)}) AS {statement}")
        cursor.execute(f"EXPLAIN EXECUTE explained ({', '.join(['NULL'] * len(types))})")
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("DEALLOCATE explained")
        return plan
