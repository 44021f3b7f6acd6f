"""PostgreSQL: the same transitions, one statement each."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_dbq.backends import arrays, statements
from django_dbq.backends.arrays import psycopg
from django_dbq.backends.base import Backend, Wanted
from django_dbq.backends.rows import claims_of
from django_dbq.backends.statements import Statement
from django_dbq.claims import Claim, Outcome, UnreadClaims

Row = Sequence[Any]

#: From when PostgreSQL counts.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

# A plan is made once, and maybe while the table is empty, when to read all of it looks cheap: it
# has to be right for millions of rows too. The first plans, for the values of the moment, would
# cost three times as much. With psycopg 2 each statement has a plan of its own, which has to be
# right as well while little is known of the table.
_SESSION = (
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_sort = off",
    "enable_nestloop = off",
    "enable_mergejoin = off",
)


class PostgreSQLBackend(Backend):
    """Claim and finish in one round trip each, however many jobs they are about."""

    def open(self) -> None:
        super().open()
        if leads_to_server(self.connection):
            with self.connection.cursor() as cursor:
                for setting in _SESSION:
                    cursor.execute(f"SET {setting}")
            if psycopg is not None:
                self.connection.connection.prepare_threshold = 0

    def claim(self, wanted: Wanted) -> list[Claim]:
        return super().claim(self._promoted(wanted))

    def _claim_queue(self, queue: str, wanted: Wanted) -> list[Claim]:
        token = uuid.uuid4()
        found = self._execute([statements.claim(queue, wanted, token)])
        return self._claims(found, queue, token, wanted)

    def finish(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        asked = statements.finish(outcomes)
        return self._late(outcomes, asked, self._execute(asked))

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        wanted: Wanted,
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> tuple[list[Outcome], Sequence[Claim]]:
        """Finish, and claim from the first queue, in one round trip and one transaction.

        A job that the claim would find first once it is finished is written once. Where some turn
        out to come later, they are finished behind that, and the claim goes on. The claims are read
        from the driver when somebody looks at them.
        """
        token = uuid.uuid4()
        wanted = self._promoted(wanted)
        queue, *others = wanted.queues
        ended, finish, going_on, go_on = statements.exchange(outcomes, wanted, token)
        room = wanted._replace(limit=wanted.limit - len(going_on))
        asked = [*finish, *go_on, statements.claim(queue, room, token)]
        results = self._execute(asked, meanwhile=meanwhile)
        late = self._late(ended, finish, results[: len(finish)])
        found = results[len(finish) :]
        claimed: Sequence[Claim]
        if sum(each.rowcount for each in found[:-1]) == len(going_on):
            count = sum(each.rowcount for each in found)
            claimed = UnreadClaims(count, lambda: self._claims(found, queue, token, wanted))
            if psycopg is None:  # whose cursors do not outlive their connection
                claimed = list(claimed)
        else:
            rows = self._rows(found)
            gone_on = {row[0] for row in rows}
            late += self.finish([each for each in going_on if each.claim.job_id not in gone_on])
            # Under the same token: it is one claim, in one order.
            room = wanted._replace(limit=wanted.limit - len(rows))
            found = self._execute([statements.claim(queue, room, token)])
            claimed = self._claims(found, queue, token, wanted, rows)
        if others and len(claimed) < wanted.limit:
            rest = wanted._replace(queues=others, limit=wanted.limit - len(claimed))
            return late, [*claimed, *self.claim(rest)]
        return late, claimed

    def _promoted(self, wanted: Wanted) -> Wanted:
        """Promote, if it is wanted: by itself, for a transaction would take more round trips."""
        if not wanted.promoting:
            return wanted
        self.promote()
        return wanted._replace(promoting=False)

    def promote(self) -> float | None:
        promote = statements.promote(is_transaction=not self.connection.in_atomic_block)
        [(promoted, seconds, _)] = self._rows(self._execute([promote]))
        if promoted:
            return 0
        return None if seconds is None else max(0.0, float(seconds))

    def _claims(
        self,
        found: Sequence[Any],
        queue: str,
        token: uuid.UUID,
        wanted: Wanted,
        rows: Sequence[Row] = (),
    ) -> list[Claim]:
        rows = [*rows, *self._rows(found)]
        if (zone := self.connection.timezone) is not UTC:
            rows = [_in_zone(row, zone) for row in rows]
        if psycopg is None:  # whose binary values are views of memory, which cannot be pickled
            rows = [(*row[:2], bytes(row[2]), *row[3:]) for row in rows]
        return claims_of(
            rows,
            using=self.using,
            token=token,
            worker=wanted.worker,
            times=_Times(self.connection),
            queue=queue,
        )

    def _late(
        self, outcomes: Sequence[Outcome], asked: Sequence[Statement], cursors: Sequence[Any]
    ) -> list[Outcome]:
        """Return the outcomes that were too late, by the results of their statements."""
        late: set[uuid.UUID] = set()
        for statement, cursor in zip(asked, cursors, strict=True):
            if not statement.ending:
                late |= {row[0] for row in self._rows([cursor])}
            elif cursor.rowcount == 0:
                # Also if they had been written before, and the answer was lost.
                late |= {outcome.claim.job_id for outcome in statement.ending}
            elif cursor.rowcount < len(statement.ending):
                which = self._execute([statements.not_ended(statement.ending)])
                late |= {row[0] for row in self._rows(which)}
        return [outcome for outcome in outcomes if outcome.claim.job_id in late] if late else []

    def _rows(self, cursors: Sequence[Any]) -> list[Row]:
        with self.connection.wrap_database_errors:
            return list(chain.from_iterable([cursor.fetchall() for cursor in cursors]))

    def _execute(
        self, asked: Sequence[Statement], *, meanwhile: Callable[[], None] = lambda: None
    ) -> list[Any]:
        """Run statements and return their cursors; past Django's cursor, with psycopg 3.

        That one puts the values into the statement as text, so that the server would have to read
        and plan it anew each time. More than one statement are a transaction, in one round trip:
        ``meanwhile`` is called while the server works on it.
        """
        connection = self.connection
        cursors: list[Any]
        if psycopg is None:
            meanwhile()
            with transaction.atomic(using=self.using):
                cursors = [connection.cursor() for _ in asked]
                for cursor, statement in zip(cursors, asked, strict=True):
                    cursor.execute(statement.text, statement.values)
                return cursors
        connection.ensure_connection()
        raw = connection.connection
        with connection.wrap_database_errors:
            pipeline = raw.pipeline() if len(asked) > 1 else nullcontext()
            cursors = [psycopg.Cursor(raw) for _ in asked]
            with pipeline:
                for cursor, statement in zip(cursors, asked, strict=True):
                    arrays.register(cursor.adapters)
                    cursor.execute(statement.text, statement.values, prepare=True, binary=True)
                meanwhile()
            return cursors


def leads_to_server(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the session is ours alone, without a pooler such as PgBouncer between.

    A pooler invents process ids for its clients.
    """
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    return bool(connection.connection.info.backend_pid == pid)


class _Times(dict[bytes, datetime]):
    """Times as Django has them, by PostgreSQL's binary form of them; each is read once."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection

    def __missing__(self, sent: bytes) -> datetime:
        time = _EPOCH + timedelta(microseconds=int.from_bytes(sent, signed=True))
        if (zone := self.connection.timezone) is not UTC:
            time = time.astimezone(zone or timezone.get_default_timezone()).replace(tzinfo=zone)
        self[sent] = time
        return time


def _in_zone(row: Sequence[Any], zone: tzinfo | None) -> tuple[Any, ...]:
    """Return the row with its times as Django has them, where that is not UTC."""
    return tuple(
        value.replace(tzinfo=zone) if isinstance(value, datetime) else value for value in row
    )
