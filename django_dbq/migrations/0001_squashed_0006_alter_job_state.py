"""The table as django-db-queue 3.3.0 left it, taken over as it is."""

import uuid

from django.db import migrations, models

from django_dbq.upstream import UPSTREAM_MIGRATIONS


class Migration(migrations.Migration):
    initial = True
    replaces = [("django_dbq", name) for name in UPSTREAM_MIGRATIONS]
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created", models.DateTimeField(auto_now_add=True, db_index=True)),
                ("modified", models.DateTimeField(auto_now=True)),
                ("name", models.CharField(max_length=100)),
                (
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
                        db_index=True,
                        default="NEW",
                        max_length=20,
                    ),
                ),
                ("next_task", models.CharField(blank=True, max_length=100)),
                ("workspace", models.JSONField(null=True)),
                ("queue_name", models.CharField(db_index=True, default="default", max_length=20)),
                ("priority", models.SmallIntegerField(db_index=True, default=0)),
                ("run_after", models.DateTimeField(db_index=True, null=True)),
            ],
        ),
    ]
