"""``manage.py convert_job_ids``: MariaDB tables made under Django 4.2 for Django 5 and later."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, Error, connections

from django_dbq.upstream import convert_ids


class Command(BaseCommand):
    """Converts job ids, and foreign keys to them, from char(32) to MariaDB's uuid."""

    help = (
        "Converts django_dbq_job.id, and the foreign keys to it, from char(32), as Django before"
        " 5.0 made them on MariaDB, to uuid. Stop the workers first. Safe to run again."
    )
    # The system check that sends people here would stop this command too.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS)

    def handle(self, *, database: str, **options: Any) -> None:
        converted = False
        try:
            for statement in convert_ids(connections[database]):
                converted = True
                self.stdout.write(f"{statement};")
        except Error as error:
            raise CommandError(
                f"{error}\nMend what it complains about, then run this command again: until it has"
                " come to its end, foreign keys to jobs may miss their constraint."
            ) from error
        if not converted:
            self.stdout.write("Nothing to convert: no job id is kept as char(32).")
