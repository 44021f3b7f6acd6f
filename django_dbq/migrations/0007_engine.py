"""The engine's own columns and the claim's index, in place of four single-column indexes."""

from typing import Any

import django.core.validators
from django.db import migrations, models

import django_dbq.ids
import django_dbq.indexes
import django_dbq.workspace


def tune_postgresql(apps: Any, schema_editor: Any) -> None:
    """Leave room for updates on each page, and let autovacuum come before the bloat does."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE django_dbq_job SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,"
            " autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)"
        )


def untune_postgresql(apps: Any, schema_editor: Any) -> None:
    """Give the table the server's defaults again."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE django_dbq_job RESET (fillfactor, autovacuum_vacuum_scale_factor,"
            " autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay)"
        )


class Migration(migrations.Migration):
    dependencies = [("django_dbq", "0001_squashed_0006_alter_job_state")]
    operations = [
        migrations.AlterField(
            "job",
            "id",
            models.UUIDField(
                default=django_dbq.ids.uuid7, editable=False, primary_key=True, serialize=False
            ),
        ),
        migrations.AlterField("job", "name", models.CharField(max_length=255)),
        migrations.AlterField("job", "next_task", models.CharField(blank=True, max_length=255)),
        migrations.AlterField(
            "job", "queue_name", models.CharField(default="default", max_length=255)
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
            "workspace",
            django_dbq.workspace.WorkspaceField(blank=True, default=dict, null=True),
        ),
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
            "job", "dedupe_key", models.CharField(editable=False, max_length=255, null=True)
        ),
        migrations.AddField(
            "job",
            "waiting",
            models.GeneratedField(
                db_persist=True,
                expression=models.Q(("state__in", ["NEW", "READY"])),  # type: ignore[arg-type]
                output_field=models.BooleanField(),
            ),
        ),
        migrations.AddIndex(
            "job",
            django_dbq.indexes.WaitingIndex(
                fields=["queue_name", "-priority", "created"], name="django_dbq_job_claim"
            ),
        ),
        migrations.RunPython(tune_postgresql, untune_postgresql, elidable=True),
    ]
