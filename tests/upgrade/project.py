"""A user's project on a database of its own, that runs now with one package and now with another.

Each command is a process of its own, as on a user's machine. The project has an application with
foreign keys to jobs of every kind, whose migration names django-db-queue's last one.
"""

import json
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

OURS = Path(__file__).resolve().parent.parent.parent

#: All that django-db-queue documents, and all that it has.
COLUMNS = (
    "id",
    "created",
    "modified",
    "name",
    "state",
    "next_task",
    "workspace",
    "queue_name",
    "priority",
    "run_after",
)

FILES = {
    "settings.py": """
        SECRET_KEY = "only for tests"
        USE_TZ = True
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        INSTALLED_APPS = ["django_dbq", "reports"]
        DATABASES = {{"default": {database!r}}}
        JOBS = {{"two": {{"tasks": ["tasks.one", "tasks.two"]}}}}
    """,
    "tasks.py": """
        def one(job):
            job.workspace.setdefault("ran", []).append("one")

        def two(job):
            job.workspace.setdefault("ran", []).append("two")
    """,
    "reports/__init__.py": "",
    "reports/models.py": """
        from django.db import models

        class Report(models.Model):
            job = models.OneToOneField("django_dbq.Job", models.CASCADE, primary_key=True)

        class Line(models.Model):
            report = models.ForeignKey(Report, models.CASCADE)
            job = models.ForeignKey("django_dbq.Job", models.CASCADE, null=True, related_name="+")
            loose = models.ForeignKey(
                "django_dbq.Job", models.DO_NOTHING, related_name="+", db_constraint=False
            )
            jobs = models.ManyToManyField("django_dbq.Job", related_name="+")
    """,
    "reports/migrations/__init__.py": "",
    "reports/migrations/0001_initial.py": """
        import django.db.models.deletion as deletion
        from django.db import migrations, models

        class Migration(migrations.Migration):
            initial = True
            dependencies = [("django_dbq", "0006_alter_job_state")]
            operations = [
                migrations.CreateModel("Report", [
                    ("job", models.OneToOneField(
                        to="django_dbq.job", on_delete=deletion.CASCADE, primary_key=True,
                        serialize=False,
                    )),
                ]),
                migrations.CreateModel("Line", [
                    ("id", models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    )),
                    ("report", models.ForeignKey(to="reports.report", on_delete=deletion.CASCADE)),
                    ("job", models.ForeignKey(
                        to="django_dbq.job", on_delete=deletion.CASCADE, null=True,
                        related_name="+",
                    )),
                    ("loose", models.ForeignKey(
                        to="django_dbq.job", on_delete=deletion.DO_NOTHING, related_name="+",
                        db_constraint=False,
                    )),
                    ("jobs", models.ManyToManyField(to="django_dbq.job", related_name="+")),
                ]),
            ]
    """,
}

#: Jobs in every state as django-db-queue leaves them, all referred to in each of the ways.
SEED = """
import datetime
from django.utils import timezone
from django_dbq.models import Job
from reports.models import Line, Report

later = timezone.now() + datetime.timedelta(days=1)
for state in ("NEW", "READY", "PROCESSING", "STOPPING", "FAILED", "COMPLETE"):
    job = Job.objects.create(name="two", workspace={"was": state}, queue_name="mail", priority=-3)
    task = {"NEW": "tasks.one", "COMPLETE": ""}.get(state, "tasks.two")
    Job.objects.filter(id=job.id).update(state=state, next_task=task)
job = Job.objects.create(name="two", workspace={"was": "LATER"}, run_after=later)
job = Job.objects.create(name="two")
Job.objects.filter(id=job.id).update(workspace=None)
jobs = list(Job.objects.all())
for job in jobs:
    line = Line.objects.create(report=Report.objects.create(job=job), job=job, loose=job)
    line.jobs.add(job)
Line.objects.create(report=Report.objects.get(job=job), loose=job)
"""

#: How many rows refer to each job, in each of the ways.
COUNT_REFERENCES = """
import json
from django_dbq.models import Job
from reports.models import Line, Report

print(json.dumps({
    str(job.id): [
        Report.objects.filter(job=job).count(),
        Line.objects.filter(job=job).count(),
        Line.objects.filter(loose=job).count(),
        Line.objects.filter(jobs=job).count(),
        Line.objects.filter(job=job, report__job=job).count(),
    ]
    for job in Job.objects.all()
}))
"""


class Project:
    """The project in a directory, and its database, which is made with it.

    ``server``: an entry of ``DATABASES``, of which only the name is not used. ``django``: paths in
    front of all others, for another Django than this one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        server: dict[str, Any],
        upstream: Path,
        django: Sequence[Path] = (),
    ) -> None:
        self.directory = directory
        self.upstream = upstream
        self.older_django = django
        self.server = server
        name = f"test_dbq_upgrade_{uuid.uuid4().hex[:12]}"
        if server["ENGINE"] == "django.db.backends.sqlite3":
            name = str(directory / "db.sqlite3")
        self.database = {**server, "NAME": name}
        for path, text in FILES.items():
            file = directory / path
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(textwrap.dedent(text).format_map({"database": self.database}))
        self._on_server(f"CREATE DATABASE {name}{self._creation_suffix()}")
        self.connection = connect(self.database)

    @property
    def vendor(self) -> str:
        return self.connection.vendor

    def close(self) -> None:
        """Remove the database."""
        self.connection.close()
        force = " WITH (FORCE)" if self.vendor == "postgresql" else ""
        self._on_server(f"DROP DATABASE {self.database['NAME']}{force}")

    def _creation_suffix(self) -> str:
        return " CHARACTER SET utf8mb4" if self.server["ENGINE"].endswith("mysql") else ""

    def _on_server(self, sql: str) -> None:
        if self.server["ENGINE"] == "django.db.backends.sqlite3":
            return
        with closing(connect({**self.server, "NAME": None})) as connection:
            connection.cursor().execute(sql)

    # Processes

    def manage(self, *arguments: str, status: int = 0) -> str:
        """Run a command with our package, see that it ends so, and return what it printed."""
        return self._run([OURS], ["-m", "django", *arguments], status)

    def manage_upstream(self, *arguments: str) -> str:
        """Run a command with django-db-queue, and with the older Django if there is one."""
        return self._run([*self.older_django, self.upstream], ["-m", "django", *arguments])

    def run(self, code: str) -> str:
        """Run Python code with our package."""
        return self._run([OURS], ["-c", f"import django; django.setup()\n{code}"])

    def run_upstream(self, code: str) -> str:
        """Run Python code with django-db-queue."""
        paths = [*self.older_django, self.upstream]
        return self._run(paths, ["-c", f"import django; django.setup()\n{code}"])

    def work(self) -> str:
        """Let a worker of ours run all that is due."""
        return self.manage("worker", "default", "mail", "--burst", "--rate_limit", "0")

    def _run(self, paths: Sequence[Path], arguments: Sequence[str], status: int = 0) -> str:
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(map(str, paths)),
                "DJANGO_SETTINGS_MODULE": "settings",
                "PYTHONWARNINGS": "ignore",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert process.returncode == status, process.stdout
        return process.stdout

    # What the database has, as SQL sees it

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Execute one statement, and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def jobs(self) -> dict[uuid.UUID, dict[str, Any]]:
        """Return the documented columns of all jobs, by id."""
        rows = self.sql(f"SELECT {', '.join(COLUMNS)} FROM django_dbq_job")
        jobs = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        for job in jobs:
            job["id"] = uuid.UUID(str(job["id"]))
            job["workspace"] = json.loads(job["workspace"] or "null")
        return {job["id"]: job for job in jobs}

    def insert(self, **values: object) -> uuid.UUID:
        """INSERT a job that says no more than the documented columns; return its id."""
        job_id = uuid.uuid4()
        adapt = self.connection.ops.adapt_datetimefield_value
        past = adapt(datetime.now(UTC) - timedelta(hours=1))
        row = {
            "id": job_id.hex if self.vendor == "sqlite" else str(job_id),
            "created": past,
            "modified": past,
            "name": "two",
            "state": "NEW",
            "next_task": "tasks.one",
            "workspace": "{}",
            "queue_name": "default",
            "priority": 0,
            "run_after": None,
            **values,
        }
        marks = ", ".join(["%s"] * len(COLUMNS))
        statement = f"INSERT INTO django_dbq_job ({', '.join(COLUMNS)}) VALUES ({marks})"
        self.sql(statement, [row[column] for column in COLUMNS])
        return job_id

    def migrations(self) -> list[str]:
        """Return what is recorded of this application, in alphabetical order."""
        rows = self.sql("SELECT name FROM django_migrations WHERE app = 'django_dbq'")
        return sorted(name for (name,) in rows)

    def schema(self) -> dict[str, Any]:
        """Return the columns, indexes and constraints of the job table, in a form to compare."""
        table = "django_dbq_job"
        introspection = self.connection.introspection
        with self.connection.cursor() as cursor:
            columns = introspection.get_table_description(cursor, table)
            constraints = introspection.get_constraints(cursor, table)
            options = []
            if self.vendor == "postgresql":
                cursor.execute(
                    "SELECT relname, reloptions FROM pg_class"
                    " LEFT JOIN pg_index ON indexrelid = pg_class.oid"
                    " WHERE %s::regclass IN (pg_class.oid, indrelid) ORDER BY relname",
                    [table],
                )
                options = cursor.fetchall()
        return {
            # The display size is that of the longest value on MariaDB, and no part of the type.
            "columns": {column.name: column._replace(display_size=None) for column in columns},
            "constraints": constraints,
            "options": options,
        }


def connect(database: dict[str, Any]) -> BaseDatabaseWrapper:
    """Return a connection with this entry of ``DATABASES``, beside those of the tests' settings."""
    return ConnectionHandler({"default": database})["default"]
