"""From django-db-queue's tables to ours, and back."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_dbq.upstream import UPSTREAM_MIGRATIONS
from tests.upgrade.project import COUNT_REFERENCES, SEED, Project

RECORDED = sorted([*UPSTREAM_MIGRATIONS, "0001_squashed_0006_alter_job_state", "0007_engine"])
RECORDED_BACK = RECORDED[:-1]

Jobs = dict[uuid.UUID, dict[str, Any]]


def by_former_state(jobs: Jobs) -> dict[str | None, dict[str, Any]]:
    """Return the seeded jobs by what their workspaces say; None is the one without workspace."""
    return {(job["workspace"] or {}).get("was"): job for job in jobs.values()}


def assert_went_on(project: Project, before: Jobs) -> None:
    """Assert that a worker has run those of the seeded jobs that waited, and no other."""
    after = project.jobs()
    ran = {
        id_: job["workspace"].pop("ran")
        for id_, job in after.items()
        if job["state"] == "COMPLETE" and "ran" in (job["workspace"] or {})
    }
    former = by_former_state(before)
    assert ran == {
        former["NEW"]["id"]: ["one", "two"],
        former["READY"]["id"]: ["two"],
        former[None]["id"]: ["one", "two"],
    }
    for job_id in ran:
        assert after.pop(job_id)["workspace"] == (before[job_id]["workspace"] or {})
    assert after == {job_id: job for job_id, job in before.items() if job_id not in ran}


def assert_plain_rows_run(project: Project) -> None:
    """Assert that rows which plain SQL inserts or sets back are run."""
    ids = [
        project.insert(),
        project.insert(next_task="", workspace=None),
        project.insert(state="READY", next_task="tasks.two", queue_name="mail"),
    ]
    project.work()
    assert [project.jobs()[job_id]["state"] for job_id in ids] == ["COMPLETE"] * 3
    assert project.jobs()[ids[1]]["workspace"] == {"ran": ["one", "two"]}
    assert project.jobs()[ids[2]]["workspace"] == {"ran": ["two"]}

    project.sql(
        "UPDATE django_dbq_job SET state = 'READY' WHERE state = 'COMPLETE' AND priority = 0"
    )
    project.work()
    assert project.jobs()[ids[2]]["workspace"] == {"ran": ["two", "one", "two"]}
    assert {project.jobs()[job_id]["state"] for job_id in ids} == {"COMPLETE"}


def test_migrate_alone_keeps_every_job_and_goes_on_running_them(migrated: Project) -> None:
    migrated.run_upstream(SEED)
    before = migrated.jobs()
    assert {job["state"] for job in before.values()} >= {"PROCESSING", "STOPPING", "FAILED"}

    output = migrated.manage("migrate")
    assert "Applying django_dbq.0007_engine... OK" in output
    assert "WARNINGS" not in output
    assert migrated.jobs() == before
    assert migrated.migrations() == RECORDED
    assert "No changes detected" in migrated.manage("makemigrations", "--check", "--dry-run")
    assert "no issues" in migrated.manage("check", "--database", "default")

    assert "3 job(s) complete, 0 failed" in migrated.work()
    assert_went_on(migrated, before)
    references = json.loads(migrated.run(COUNT_REFERENCES))
    assert references.keys() == {str(job_id) for job_id in before}
    assert {tuple(counts) for counts in references.values()} == {(1, 1, 1, 1, 1), (1, 1, 2, 1, 1)}
    assert_plain_rows_run(migrated)


def test_an_upgraded_database_is_as_a_fresh_one(
    migrated: Project, make_project: Callable[..., Project]
) -> None:
    upstream_schema = migrated.schema()
    migrated.manage("migrate")
    fresh = make_project()
    fresh.manage("migrate")
    assert fresh.migrations() == migrated.migrations() == RECORDED
    assert fresh.schema() == migrated.schema()
    assert_plain_rows_run(fresh)

    fresh.manage("migrate", "django_dbq", "0001")
    assert fresh.migrations() == RECORDED_BACK
    assert fresh.schema() == upstream_schema


def test_a_downgrade_gives_django_db_queue_its_tables_back(migrated: Project) -> None:
    upstream_schema = migrated.schema()
    migrated.run_upstream(SEED)
    migrated.manage("migrate")
    migrated.work()
    before = migrated.jobs()

    migrated.manage("migrate", "django_dbq", "0001_squashed_0006_alter_job_state")
    assert migrated.migrations() == RECORDED_BACK
    assert migrated.schema() == upstream_schema
    assert migrated.jobs() == before
    assert "No migrations to apply" in migrated.manage_upstream("migrate")
    created = migrated.run_upstream(
        "from django_dbq.models import Job\n"
        "job = Job.objects.create(name='two')\n"
        "assert job in Job.objects.filter(state='NEW')\n"
        "print(job.id)"
    )
    assert migrated.jobs().keys() == before.keys() | {uuid.UUID(created.strip())}

    migrated.manage("migrate")
    migrated.work()
    assert migrated.jobs()[uuid.UUID(created.strip())]["state"] == "COMPLETE"


def test_a_downgrade_that_would_cut_something_off_changes_nothing(project: Project) -> None:
    project.manage("migrate")
    schema = project.schema()
    project.insert(queue_name="q" * 21)
    output = project.manage("migrate", "django_dbq", "0001", status=1)
    assert "1 job(s) have a queue_name longer than the 20 characters" in output
    assert "Traceback" not in output
    assert project.schema() == schema
    assert project.migrations() == RECORDED


def test_a_database_migrated_part_of_the_way_is_refused_and_left_alone(project: Project) -> None:
    for position, last in enumerate(UPSTREAM_MIGRATIONS[:-1], start=1):
        project.manage_upstream("migrate", "django_dbq", last)
        schema, recorded = project.schema(), project.migrations()
        output = project.manage("migrate", status=1)
        assert "django_dbq.E005" in output
        assert f"missing are: {', '.join(UPSTREAM_MIGRATIONS[position:])}." in output
        assert "Install django-db-queue 3.3.0" in output
        assert "Traceback" not in output
        assert project.schema() == schema
        assert project.migrations() == recorded == list(UPSTREAM_MIGRATIONS[:position])
    assert "django_dbq.E005" in project.manage("worker", status=1)

    project.manage_upstream("migrate")
    project.manage("migrate")
    assert project.migrations() == RECORDED


def test_a_table_that_is_not_migrated_yet_gets_no_worker(migrated: Project) -> None:
    assert "manage.py migrate" in migrated.manage("worker", status=1)


class TestDjango42:
    """Tables that were made under the last Django before 5.0."""

    @pytest.fixture
    def older(self, make_project: Callable[..., Project], django_4_2: Path) -> Project:
        project = make_project(django=[django_4_2])
        project.manage_upstream("migrate")
        project.run_upstream(SEED)
        return project

    def test_every_job_keeps_its_id_and_goes_on(self, older: Project) -> None:
        before = older.jobs()
        if older.vendor == "mysql" and older.connection.features.has_native_uuid_field:
            for command in (["check", "--database", "default"], ["migrate"], ["worker"]):
                output = older.manage(*command, status=1)
                assert "django_dbq.E006" in output
                assert "convert_job_ids --database default" in output
            constraints = foreign_keys(older)
            assert "MODIFY `loose_id` uuid NOT NULL" in older.manage("convert_job_ids")
            assert foreign_keys(older) == constraints
            assert len(constraints) == 5
        assert "Nothing to convert" in older.manage("convert_job_ids")
        older.manage("migrate")
        assert older.jobs() == before
        assert "No changes detected" in older.manage("makemigrations", "--check", "--dry-run")
        older.work()
        assert_went_on(older, before)
        references = json.loads(older.run(COUNT_REFERENCES))
        assert references.keys() == {str(job_id) for job_id in before}
        assert {tuple(counts) for counts in references.values()} <= {
            (1, 1, 1, 1, 1),
            (1, 1, 2, 1, 1),
        }

    @pytest.mark.skipif(connection.vendor != "mysql", reason="only MariaDB's ids are converted")
    def test_an_interrupted_conversion_is_brought_to_its_end(self, older: Project) -> None:
        if not older.connection.features.has_native_uuid_field:
            pytest.skip("this server has no type uuid")
        constraints = foreign_keys(older)
        [loose] = older.sql("SELECT loose_id FROM reports_line ORDER BY id LIMIT 1")
        older.sql("UPDATE reports_line SET loose_id = 'no id' WHERE loose_id = %s", loose)
        output = older.manage("convert_job_ids", status=1)
        assert "Incorrect uuid value: 'no id'" in output
        assert "Traceback" not in output
        assert foreign_keys(older) != constraints
        assert "was interrupted" in older.manage("migrate", status=1)

        older.sql("UPDATE reports_line SET loose_id = %s WHERE loose_id = 'no id'", loose)
        older.manage("convert_job_ids")
        assert foreign_keys(older) == constraints
        older.manage("migrate")
        assert "Nothing to convert" in older.manage("convert_job_ids")


def foreign_keys(project: Project) -> set[tuple[str, ...]]:
    """Return the constraints that refer to other columns, with what they do on a DELETE."""
    return set(
        project.sql(
            "SELECT k.table_name, k.column_name, k.referenced_table_name, k.referenced_column_name,"
            " k.constraint_name, r.delete_rule"
            " FROM information_schema.key_column_usage k"
            " JOIN information_schema.referential_constraints r USING"
            " (constraint_schema, constraint_name, table_name)"
            " WHERE k.table_schema = DATABASE()"
        )
    )
