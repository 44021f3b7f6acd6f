"""The indexes that a claim reads, in the form that each database uses them in."""

from typing import Any, ClassVar

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement


class _ConditionalIndex(models.Index):
    """An index that is partial on PostgreSQL, and whole elsewhere.

    MariaDB and MySQL have no partial indexes, and SQLite uses one only if the query repeats its
    condition to the letter, which Django's versions write differently.
    """

    condition_on_postgresql: ClassVar[models.Q]
    leading_elsewhere: ClassVar[list[str]]

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Statement:
        # Not a condition of its own: Django would warn of it on MariaDB, in each `migrate`.
        if schema_editor.connection.vendor == "postgresql":
            index = models.Index(
                fields=self.fields, name=self.name, condition=self.condition_on_postgresql
            )
        else:
            index = models.Index(fields=[*self.leading_elsewhere, *self.fields], name=self.name)
        return index.create_sql(model, schema_editor, using, **kwargs)


class ClaimIndex(_ConditionalIndex):
    """An index over the rows that can be claimed."""

    condition_on_postgresql = models.Q(claimable=True)
    leading_elsewhere: ClassVar = ["claimable"]


class ParkedIndex(_ConditionalIndex):
    """An index over the rows that are parked."""

    condition_on_postgresql = models.Q(parked__isnull=False)
    leading_elsewhere: ClassVar = []


class HeldIndex(_ConditionalIndex):
    """An index over the rows that some worker has, or last had."""

    condition_on_postgresql = models.Q(worker__isnull=False)
    leading_elsewhere: ClassVar = []
