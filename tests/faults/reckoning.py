"""The accounts of a scenario: a history that the database itself writes, and their settlement.

A trigger logs each change of a job's state or token, and each write of a state to a job that has
ended: the one thing that no trick of the engine's can get past.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple

from django.db import connection

from django_dbq import registry
from django_dbq.models import Failure, Job

_COLUMNS = "job, old_state, new_state, old_token, new_token, old_worker, new_worker"
_OLD_AND_NEW = (
    "NEW.id, OLD.state, NEW.state, OLD.claim_token, NEW.claim_token, OLD.worker, NEW.worker"
)
_CHANGED = "OLD.state {differs} NEW.state OR OLD.claim_token {differs} NEW.claim_token"
_LOG = f"INSERT INTO faults_history ({_COLUMNS}) VALUES ({_OLD_AND_NEW});"
_TABLE = """
CREATE TABLE faults_history (
    id {serial}, job char(36) NOT NULL, old_state varchar(20), new_state varchar(20),
    old_token char(36), new_token char(36), old_worker char(36), new_worker char(36))
"""
_OVERWRITTEN = "OLD.state IN ('COMPLETE', 'FAILED')"

_SET_UP = {
    "postgresql": [
        _TABLE.format(serial="bigserial PRIMARY KEY"),
        f"""
        CREATE FUNCTION faults_log() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN {_LOG} RETURN NULL; END $$
        """,
        f"""
        CREATE TRIGGER faults_history AFTER UPDATE ON django_dbq_job FOR EACH ROW
        WHEN ({_CHANGED.format(differs="IS DISTINCT FROM")} OR {_OVERWRITTEN})
        EXECUTE FUNCTION faults_log()
        """,
    ],
    "sqlite": [
        _TABLE.format(serial="integer PRIMARY KEY AUTOINCREMENT"),
        f"""
        CREATE TRIGGER faults_history AFTER UPDATE ON django_dbq_job FOR EACH ROW
        WHEN {_CHANGED.format(differs="IS NOT")} OR {_OVERWRITTEN}
        BEGIN {_LOG} END
        """,
    ],
    "mysql": [
        _TABLE.format(serial="bigint AUTO_INCREMENT PRIMARY KEY"),
        f"""
        CREATE TRIGGER faults_history AFTER UPDATE ON django_dbq_job FOR EACH ROW
        IF NOT (OLD.state <=> NEW.state AND OLD.claim_token <=> NEW.claim_token) OR {_OVERWRITTEN}
        THEN {_LOG} END IF
        """,
    ],
}

_WAITING, _RUNNING, _ENDED = ("NEW", "READY"), ("PROCESSING", "STOPPING"), ("COMPLETE", "FAILED")


class Change(NamedTuple):
    """What one write did to one job."""

    job: uuid.UUID
    old_state: str
    new_state: str
    old_token: uuid.UUID | None
    new_token: uuid.UUID | None
    old_worker: uuid.UUID | None
    new_worker: uuid.UUID | None

    @property
    def goes_on(self) -> bool:
        """Whether an end and a claim were one write: nobody saw the job wait in between."""
        is_running = self.old_state == self.new_state == "PROCESSING"
        is_anew = self.old_token is not None and self.old_token != self.new_token
        # Only PostgreSQL's statements do that; and never for a job that another worker has.
        is_ours = connection.vendor == "postgresql" and self.old_worker == self.new_worker
        return is_running and is_anew and is_ours

    @property
    def is_claim(self) -> bool:
        return self.goes_on or (self.old_state in _WAITING and self.new_state == "PROCESSING")

    @property
    def is_end(self) -> bool:
        return self.goes_on or (
            self.old_state in _RUNNING and self.new_state in (*_WAITING, *_ENDED)
        )

    @property
    def is_legal(self) -> bool:
        """Whether the design has such a transition; deployments and users had no hand in this."""
        if self.goes_on:
            return self.new_token is not None and self.new_worker is not None
        if self.is_claim:
            return self.old_token is None and self.new_token is not None
        if self.is_end:
            return self.old_token is not None and self.new_token is None
        is_marked = (self.old_state, self.new_state) == ("PROCESSING", "STOPPING")
        return is_marked and self.old_token == self.new_token


class Start(NamedTuple):
    """A line of the record: a task has started, under that claim."""

    task: str
    job: uuid.UUID
    pid: int
    token: uuid.UUID


class Reckoning(NamedTuple):
    """How a scenario's accounts were settled. The first three have to be empty."""

    unaccounted: list[str]
    illegal: list[str]
    second: list[str]
    starts: int
    extra: int
    rescued: int


def set_up() -> None:
    """Make the history, and the table in which tasks leave an effect."""
    with connection.cursor() as cursor:
        for statement in _SET_UP[connection.vendor]:
            cursor.execute(statement)
        cursor.execute("CREATE TABLE faults_effect (job char(36) NOT NULL)")


def clear() -> None:
    """Forget all jobs, workers and what is known of them."""
    tables = ["django_dbq_failure", "django_dbq_job", "django_dbq_worker"]
    with connection.cursor() as cursor:
        for table in (*tables, "faults_history", "faults_effect"):
            cursor.execute(f"DELETE FROM {table}")


def read_history() -> list[Change]:
    """Return all changes, in the order in which each job had them."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM faults_history ORDER BY id")
        return [
            Change(
                uuid.UUID(str(job)),
                old_state,
                new_state,
                *(uuid.UUID(str(value)) if value else None for value in identities),
            )
            for job, old_state, new_state, *identities in cursor.fetchall()
        ]


def read_record(path: Path) -> list[Start]:
    """Return the starts of tasks; a name with a dash is that of another event."""
    starts: list[Start] = []
    for line in path.read_text().splitlines():
        task, job, pid, token = line.split()
        if not task.startswith("-"):
            starts.append(Start(task, uuid.UUID(job), int(pid), uuid.UUID(token)))
    return starts


def settle(created: Iterable[uuid.UUID], record: Path) -> Reckoning:
    """Compare the jobs that were created, the starts, the history and the table."""
    created = set(created)
    history, starts = read_history(), read_record(record)
    jobs = {job.pk: job for job in Job.objects.defer("workspace")}
    claims = Counter((c.job, c.new_token) for c in history if c.is_claim)
    ends = Counter((c.job, c.old_token) for c in history if c.is_end)
    begun = Counter((s.job, s.token) for s in starts)
    done = Counter((s.job, s.task) for s in starts)
    return Reckoning(
        unaccounted=[*_unaccounted(created, jobs, starts), *_unclaimed(begun, claims)],
        illegal=[str(change) for change in history if not change.is_legal],
        second=[f"{n} claims as {what}" for what, n in claims.items() if n > 1]
        + [f"{n} outcomes of {what}" for what, n in ends.items() if n > 1]
        + [f"{n} starts under {what}" for what, n in begun.items() if n > 1],
        starts=len(starts),
        extra=sum(n - 1 for n in done.values()),
        rescued=Failure.objects.filter(exception__startswith="JobLost: The worker").count(),
    )


def _unaccounted(
    created: Iterable[uuid.UUID], jobs: dict[uuid.UUID, Job], starts: Iterable[Start]
) -> list[str]:
    """Return what became of jobs that have neither ended nor been run as often as they say."""
    tasks: defaultdict[uuid.UUID, set[str]] = defaultdict(set)
    for start in starts:
        tasks[start.job].add(start.task)
    found: list[str] = []
    for identity in created:
        job = jobs.get(identity)
        if job is None:
            found.append(f"{identity} is gone")
        elif job.state not in _ENDED:
            found.append(f"{identity} is {job.state}")
        elif job.state == "COMPLETE":
            listed = {path.rpartition(".")[2] for path in registry.get(job.name).tasks}
            if missing := listed - tasks[identity]:
                found.append(f"{identity} is COMPLETE without {missing}")
    return found


def _unclaimed(begun: Iterable[object], claims: Container[object]) -> list[str]:
    return [f"{what} was started and never claimed" for what in begun if what not in claims]
