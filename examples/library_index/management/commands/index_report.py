"""``manage.py index_report``: what became of the jobs, and what the index found."""

from typing import Any

from django.core.management.base import BaseCommand

from examples.library_index.report import report


class Command(BaseCommand):
    """Prints the report."""

    help = "Prints the jobs by state, the files that failed and why, and what the index holds."

    def handle(self, **options: Any) -> None:
        self.stdout.write(report())
