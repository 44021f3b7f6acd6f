"""``python -m benchmarks.bare create|left|work|attend``: the bare loop, a measure for the rest.

It is the least that a batched worker does on each database. It claims 500 rows, notes the start of
each, and finishes the 500, in turn, with the driver alone: no hooks, no errors, no fencing, no
Django. Its table has the specification's columns and one index.
"""

import os
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.attendant import attend
from benchmarks.gate import wait_for_gate
from benchmarks.recording import record
from tests.databases import name_of, settings_for

BATCH = 500
#: What MariaDB says of a transaction that it has undone for another one's sake.
DEADLOCK = 1213
_COLUMNS = "name, state, next_task, queue_name, priority, workspace, created, modified"
_VALUES = "'bare', 'NEW', 'benchmarks.plain.noop', 'default', 0, '{}'"


class BareLoop(ABC):
    """The loop; the statements are the databases'."""

    connection: Any

    def __init__(self, url: str) -> None:
        self.options = settings_for(url)

    def run(self) -> int:
        """Work until nothing is left; return how many jobs were run."""
        count = 0
        while rows := self.claim():
            for row in rows:
                record(self.hexadecimal(row[0]))
            self.finish([row[0] for row in rows])
            count += len(rows)
        return count

    @abstractmethod
    def create(self, count: int) -> None:
        """Make the table anew, with that many jobs."""

    @abstractmethod
    def claim(self) -> Sequence[Sequence[Any]]:
        """Claim up to ``BATCH`` jobs; the first column is the id."""

    @abstractmethod
    def finish(self, ids: list[Any]) -> None:
        """Make the jobs COMPLETE."""

    @abstractmethod
    def left(self) -> int:
        """Return how many jobs are not COMPLETE."""

    def hexadecimal(self, job_id: Any) -> str:
        """Return an id as the record has it."""
        return str(job_id)


class OnPostgreSQL(BareLoop):
    """With psycopg, tuples: a CTE joined to the table, and unnest."""

    def __init__(self, url: str) -> None:
        import psycopg

        self.connection = psycopg.connect(url, autocommit=True)

    def create(self, count: int) -> None:
        for statement in (
            "DROP TABLE IF EXISTS bare_job",
            "CREATE TABLE bare_job (id uuid PRIMARY KEY, created timestamptz NOT NULL,"
            " modified timestamptz NOT NULL, name varchar(100) NOT NULL, state varchar(20) NOT"
            " NULL, next_task varchar(100) NOT NULL, workspace jsonb, queue_name varchar(20) NOT"
            " NULL, priority smallint NOT NULL, run_after timestamptz)",
            "CREATE INDEX bare_claim ON bare_job (queue_name, priority DESC, created)"
            " WHERE state IN ('NEW', 'READY')",
            f"INSERT INTO bare_job (id, {_COLUMNS}) SELECT gen_random_uuid(), {_VALUES},"
            f" clock_timestamp(), clock_timestamp() FROM generate_series(1, {count})",
            "ANALYZE bare_job",
        ):
            self.connection.execute(statement)

    def claim(self) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = self.connection.execute(
            "WITH chosen AS (SELECT id FROM bare_job WHERE queue_name = %s"
            " AND state IN ('NEW', 'READY') AND (run_after IS NULL OR run_after <= now())"
            " ORDER BY priority DESC, created LIMIT %s FOR UPDATE SKIP LOCKED)"
            " UPDATE bare_job AS job SET state = 'PROCESSING', modified = now() FROM chosen"
            " WHERE job.id = chosen.id RETURNING job.*",
            ["default", BATCH],
        ).fetchall()
        return rows

    def finish(self, ids: list[Any]) -> None:
        self.connection.execute(
            "UPDATE bare_job AS job SET state = ended.state, next_task = ended.next_task,"
            " modified = now() FROM unnest(%s::uuid[], %s::text[], %s::text[])"
            " AS ended (id, state, next_task) WHERE job.id = ended.id",
            [ids, ["COMPLETE"] * len(ids), [""] * len(ids)],
        )

    def left(self) -> int:
        query = "SELECT count(*) FROM bare_job WHERE state <> 'COMPLETE'"
        row = self.connection.execute(query).fetchone()
        assert row
        return int(row[0])

    def hexadecimal(self, job_id: Any) -> str:
        return str(job_id.hex)


class OnSQLite(BareLoop):
    """With sqlite3, as Django's tables have it: ids are 32 digits; each turn one transaction."""

    def __init__(self, url: str) -> None:
        import sqlite3

        self.connection = sqlite3.connect(
            settings_for(url)["NAME"], timeout=20, isolation_level=None
        )
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")

    def create(self, count: int) -> None:
        for statement in (
            "DROP TABLE IF EXISTS bare_job",
            "CREATE TABLE bare_job (id char(32) PRIMARY KEY, created datetime NOT NULL, modified"
            " datetime NOT NULL, name varchar(100) NOT NULL, state varchar(20) NOT NULL, next_task"
            " varchar(100) NOT NULL, workspace text, queue_name varchar(20) NOT NULL, priority"
            " smallint NOT NULL, run_after datetime)",
            "CREATE INDEX bare_claim ON bare_job (queue_name, priority DESC, created)"
            " WHERE state IN ('NEW', 'READY')",
        ):
            self.connection.execute(statement)
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            f"INSERT INTO bare_job (id, {_COLUMNS}) VALUES (?, {_VALUES}, datetime(), datetime())",
            ([uuid.uuid4().hex] for _ in range(count)),
        )
        self.connection.execute("COMMIT")

    def claim(self) -> Sequence[Sequence[Any]]:
        self.connection.execute("BEGIN IMMEDIATE")
        rows: Sequence[Sequence[Any]] = self.connection.execute(
            "UPDATE bare_job SET state = 'PROCESSING', modified = datetime() WHERE id IN"
            " (SELECT id FROM bare_job WHERE queue_name = ? AND state IN ('NEW', 'READY')"
            " AND (run_after IS NULL OR run_after <= datetime())"
            " ORDER BY priority DESC, created LIMIT ?) RETURNING *",
            ["default", BATCH],
        ).fetchall()
        self.connection.execute("COMMIT")
        return rows

    def finish(self, ids: list[Any]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            "UPDATE bare_job SET state = 'COMPLETE', next_task = '', modified = datetime()"
            " WHERE id = ?",
            ([job_id] for job_id in ids),
        )
        self.connection.execute("COMMIT")

    def left(self) -> int:
        query = "SELECT count(*) FROM bare_job WHERE state <> 'COMPLETE'"
        return int(self.connection.execute(query).fetchone()[0])


class OnMariaDB(BareLoop):
    """With mysqlclient: SKIP LOCKED, and one UPDATE by a list of ids each."""

    def __init__(self, url: str) -> None:
        import MySQLdb

        options = settings_for(url)
        self.connection = MySQLdb.connect(
            user=options["USER"],
            password=options["PASSWORD"],
            database=options["NAME"],
            **({"host": options["HOST"]} if options["HOST"] else {}),
            **options["OPTIONS"],
        )
        self.connection.autocommit(True)
        self.error: type[Exception] = MySQLdb.OperationalError

    def _execute(self, statement: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
            return rows

    def _until_done(self, step: Callable[[], Sequence[Sequence[Any]]]) -> Sequence[Sequence[Any]]:
        """Take the step again for as long as another loop's transaction is in the way of it."""
        while True:
            try:
                return step()
            except self.error as error:
                if error.args[0] != DEADLOCK:
                    raise

    def create(self, count: int) -> None:
        self._execute("DROP TABLE IF EXISTS bare_job")
        self._execute(
            "CREATE TABLE bare_job (id uuid PRIMARY KEY, created datetime(6) NOT NULL, modified"
            " datetime(6) NOT NULL, name varchar(100) NOT NULL, state varchar(20) NOT NULL,"
            " next_task varchar(100) NOT NULL, workspace json, queue_name varchar(20) NOT NULL,"
            " priority smallint NOT NULL, run_after datetime(6),"
            " KEY bare_claim (queue_name, priority DESC, created))"
        )
        self._execute(
            f"INSERT INTO bare_job (id, {_COLUMNS}) SELECT uuid(), {_VALUES}, utc_timestamp(6),"
            f" utc_timestamp(6) FROM seq_1_to_{count}"
        )

    def claim(self) -> Sequence[Sequence[Any]]:
        return self._until_done(self._claim)

    def _claim(self) -> Sequence[Sequence[Any]]:
        self._execute("START TRANSACTION")
        rows = self._execute(
            "SELECT * FROM bare_job WHERE queue_name = %s AND state IN ('NEW', 'READY')"
            " AND (run_after IS NULL OR run_after <= utc_timestamp(6))"
            " ORDER BY priority DESC, created LIMIT %s FOR UPDATE SKIP LOCKED",
            ["default", BATCH],
        )
        if rows:
            self._execute(
                "UPDATE bare_job SET state = 'PROCESSING', modified = utc_timestamp(6)"
                " WHERE id IN %s",
                [[row[0] for row in rows]],
            )
        self._execute("COMMIT")
        return rows

    def finish(self, ids: list[Any]) -> None:
        statement = (
            "UPDATE bare_job SET state = 'COMPLETE', next_task = '', modified = utc_timestamp(6)"
            " WHERE id IN %s"
        )
        self._until_done(lambda: self._execute(statement, [ids]))

    def left(self) -> int:
        return int(self._execute("SELECT count(*) FROM bare_job WHERE state <> 'COMPLETE'")[0][0])

    def hexadecimal(self, job_id: Any) -> str:
        return str(job_id).replace("-", "")


_LOOPS: dict[str, type[BareLoop]] = {
    "postgresql": OnPostgreSQL,
    "sqlite": OnSQLite,
    "mariadb": OnMariaDB,
}


def bare_loop(url: str) -> BareLoop:
    """Return the bare loop for the database at that URL."""
    return _LOOPS[name_of(url)](url)


def run(words: list[str]) -> int | None:
    """Run the command of these words, and return what it gave."""
    if words == ["attend"]:
        attend(run)
        return None
    loop = bare_loop(os.environ["DATABASE_URL"])
    try:
        match words:
            case ["create", _, count]:
                loop.create(int(count))
            case ["left", _]:
                return loop.left()
            case ["work", _]:
                wait_for_gate()
                loop.run()
            case _:
                raise SystemExit(__doc__)
        return None
    finally:
        loop.connection.close()


if __name__ == "__main__":
    if (answer := run(sys.argv[1:])) is not None:
        print(answer)
