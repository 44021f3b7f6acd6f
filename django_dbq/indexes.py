"""The index that the claim reads, in the form that each database uses it in."""

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement


class WaitingIndex(models.Index):
    """An index over the rows that wait: partial on PostgreSQL, led by ``waiting`` elsewhere.

    MariaDB and MySQL have no partial indexes, and SQLite uses one only if the query repeats its
    condition to the letter, which Django's versions write differently.
    """

    leading = "waiting"

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Statement:
        # Not a condition of its own: Django would warn of it on MariaDB, in each `migrate`.
        if schema_editor.connection.vendor == "postgresql":
            condition = models.Q(**{self.leading: True})
            index = models.Index(fields=self.fields, name=self.name, condition=condition)
        else:
            index = models.Index(fields=[self.leading, *self.fields], name=self.name)
        return index.create_sql(model, schema_editor, using, **kwargs)
