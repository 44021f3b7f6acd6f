"""The engine's own columns, indexes and tables, in place of four single-column indexes."""

from typing import Any

import django.core.validators
import django.db.models.deletion
from django.core.management.base import CommandError
from django.db import migrations, models
from django.db.models.functions import Length
from django.utils import timezone

import django_dbq.ids
import django_dbq.indexes
import django_dbq.parking
import django_dbq.workspace


def tune_postgresql(apps: Any, schema_editor: Any) -> None:
    """Leave room for updates on each page, and let autovacuum come before the bloat does."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE django_dbq_job SET (fillfactor = 50, autovacuum_vacuum_threshold = 1000,"
            " autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)"
        )
        # Each claim puts a second entry beside a row's first one: in these they are in order.
        for index in indexes_in_order(schema_editor):
            schema_editor.execute(f"ALTER INDEX {index} SET (fillfactor = 50)")


def untune_postgresql(apps: Any, schema_editor: Any) -> None:
    """Give the table the server's defaults again."""
    if schema_editor.connection.vendor == "postgresql":
        for index in indexes_in_order(schema_editor):
            schema_editor.execute(f"ALTER INDEX {index} RESET (fillfactor)")
        schema_editor.execute(
            "ALTER TABLE django_dbq_job RESET (fillfactor, autovacuum_vacuum_scale_factor,"
            " autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay)"
        )


def indexes_in_order(schema_editor: Any) -> list[str]:
    """Return the names, quoted, of the indexes on ``id`` and on ``created``."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "django_dbq_job")
    return [
        schema_editor.quote_name(name)
        for name, each in found.items()
        if each["primary_key"] or (each["index"] and each["columns"] == ["created"])
    ]


def park_what_is_for_later(apps: Any, schema_editor: Any) -> None:
    """Keep what was scheduled already out of the claims' way."""
    jobs = apps.get_model("django_dbq", "Job").objects.using(schema_editor.connection.alias)
    jobs = jobs.filter(state__in=["NEW", "READY"], run_after__gt=timezone.now())
    jobs.update(parked=models.F("run_after"))


def refuse_what_would_not_fit(apps: Any, schema_editor: Any) -> None:
    """Stop a downgrade before it has changed anything: MariaDB could not roll it back halfway."""
    jobs = apps.get_model("django_dbq", "Job").objects.using(schema_editor.connection.alias)
    for column, limit in [("name", 100), ("next_task", 100), ("queue_name", 20)]:
        too_long = jobs.annotate(length=Length(column)).filter(length__gt=limit)
        if example := too_long.values_list(column, flat=True).first():
            raise CommandError(
                f"{too_long.count()} job(s) have a {column} longer than the {limit} characters that"
                f" django-db-queue has room for, such as {example!r}: delete or change them first."
            )


class Migration(migrations.Migration):
    dependencies = [("django_dbq", "0001_squashed_0006_alter_job_state")]
    operations = [
        # Nothing that the database sees, but SQLite would copy the whole table for each.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    "job",
                    "id",
                    models.UUIDField(
                        default=django_dbq.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                migrations.AlterField(
                    "job",
                    "workspace",
                    django_dbq.workspace.WorkspaceField(blank=True, default=dict, null=True),
                ),
            ]
        ),
        # Those that lose an index come first: SQLite makes the indexes anew with each copy.
        migrations.AlterField(
            "job",
            "state",
            models.CharField(
                choices=[
                    ("NEW", "New"),
                    ("READY", "Ready"),
                    ("PROCESSING", "Processing"),
                    ("STOPPING", "Stopping"),
                    ("FAILED", "Failed"),
                    ("COMPLETE", "Complete"),
                ],
                default="NEW",
                max_length=20,
            ),
        ),
        migrations.AlterField(
            "job",
            "priority",
            models.SmallIntegerField(
                default=0,
                validators=[
                    django.core.validators.MinValueValidator(-(2**15)),
                    django.core.validators.MaxValueValidator(2**15 - 1),
                ],
            ),
        ),
        migrations.AlterField("job", "run_after", models.DateTimeField(blank=True, null=True)),
        migrations.AlterField(
            "job", "queue_name", models.CharField(default="default", max_length=255)
        ),
        migrations.AlterField("job", "name", models.CharField(max_length=255)),
        migrations.AlterField("job", "next_task", models.CharField(blank=True, max_length=255)),
        migrations.AddField("job", "claim_token", models.UUIDField(editable=False, null=True)),
        migrations.AddField("job", "worker", models.UUIDField(editable=False, null=True)),
        migrations.AddField(
            "job", "attempts", models.IntegerField(db_default=0, default=0, editable=False)
        ),
        migrations.AddField(
            "job", "losses", models.IntegerField(db_default=0, default=0, editable=False)
        ),
        migrations.AddField("job", "started", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("job", "finished", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("job", "error", models.TextField(editable=False, null=True)),
        migrations.AddField(
            "job", "version", models.SmallIntegerField(db_default=1, default=1, editable=False)
        ),
        migrations.AddField(
            "job", "cancel_requested", models.DateTimeField(editable=False, null=True)
        ),
        migrations.AddField(
            "job", "dedupe_key", models.CharField(editable=False, max_length=255, null=True)
        ),
        migrations.AddField(
            "job", "parked", django_dbq.parking.ParkedField(editable=False, null=True)
        ),
        migrations.AddField(
            "job",
            "claimable",
            models.GeneratedField(
                db_persist=True,
                expression=models.Q(  # type: ignore[arg-type]
                    ("state__in", ["NEW", "READY"]),
                    models.Q(("parked", models.F("run_after")), _negated=True),
                ),
                output_field=models.BooleanField(),
            ),
        ),
        migrations.AddIndex(
            "job",
            django_dbq.indexes.ClaimIndex(
                fields=["queue_name", "-priority", "created"], name="django_dbq_job_claim"
            ),
        ),
        migrations.AddIndex(
            "job",
            django_dbq.indexes.ParkedIndex(fields=["parked"], name="django_dbq_job_parked"),
        ),
        migrations.AddIndex(
            "job",
            django_dbq.indexes.HeldIndex(fields=["worker", "started"], name="django_dbq_job_held"),
        ),
        migrations.CreateModel(
            name="Failure",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("failed", models.DateTimeField()),
                ("worker", models.CharField(max_length=255)),
                ("task", models.CharField(max_length=255)),
                ("attempt", models.IntegerField()),
                ("exception", models.CharField(max_length=255)),
                ("traceback", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("host", models.CharField(max_length=255)),
                ("pid", models.IntegerField()),
                ("queues", models.JSONField()),
                ("version", models.CharField(max_length=255)),
                ("started", models.DateTimeField()),
                ("last_seen", models.DateTimeField()),
                ("lease", models.FloatField()),
                ("held_since", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            "failure",
            "job",
            models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="failures",
                to="django_dbq.job",
            ),
        ),
        migrations.RunPython(
            park_what_is_for_later, migrations.RunPython.noop, hints={"model_name": "job"}
        ),
        # A router that knows the model only by its name must be told it.
        migrations.RunPython(
            tune_postgresql, untune_postgresql, elidable=True, hints={"model_name": "job"}
        ),
        # The last here, so that it is the first on the way back.
        migrations.RunPython(
            migrations.RunPython.noop, refuse_what_would_not_fit, hints={"model_name": "job"}
        ),
    ]
