"""``manage.py convert_job_ids``: MariaDB tables made under Django 4.2 for Django 5 and later."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DEFAULT_DB_ALIAS, connections

from django_dbq.upstream import char_id_columns


class Command(BaseCommand):
    """Converts job ids, and foreign keys to them, from char(32) to MariaDB's uuid."""

    help = (
        "Converts django_dbq_job.id, and the foreign keys to it, from char(32), as Django before 5.0"
        " made them on MariaDB, to uuid. Stop the workers first. Safe to run again."
    )
    # The system check that sends people here would stop this command too.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS)

    def handle(self, *, database: str, **options: Any) -> None:
        connection = connections[database]
        columns = char_id_columns(connection)
        # Each ALTER commits by itself; in between the two ends of a foreign key differ in type.
        with connection.constraint_checks_disabled(), connection.cursor() as cursor:
            for table, column, nullable in columns:
                null = "NULL" if nullable else "NOT NULL"
                quote = connection.ops.quote_name
                cursor.execute(f"ALTER TABLE {quote(table)} MODIFY {quote(column)} uuid {null}")
                self.stdout.write(f"Converted {table}.{column} to uuid.")
        if not columns:
            self.stdout.write("Nothing to convert: no job id is kept as char(32).")
