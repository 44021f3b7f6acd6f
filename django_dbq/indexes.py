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

    def __init__(self, *, fields: list[str], name: str) -> None:
        super().__init__(fields=fields, name=name, condition=models.Q(**{self.leading: True}))

    def deconstruct(self) -> Any:
        path, expressions, kwargs = super().deconstruct()
        del kwargs["condition"]
        return path, expressions, kwargs

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Statement:
        if schema_editor.connection.vendor == "postgresql":
            return super().create_sql(model, schema_editor, using, **kwargs)
        plain = models.Index(fields=[self.leading, *self.fields], name=self.name)
        return plain.create_sql(model, schema_editor, using, **kwargs)
