"""``manage.py index_library``: one job per source file."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from django_dbq.models import Job
from examples.library_index.jobs import PackageSummary, sum_up_package
from examples.library_index.sources import find_sources, sample


class Command(BaseCommand):
    """Enqueues the jobs; a worker runs them."""

    help = "Enqueues a job for each source file of the library, and one for each package."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--limit", type=int, help="Take no more than that many files, from all over."
        )

    def handle(self, *, limit: int | None, **options: Any) -> None:
        paths = find_sources(settings.LIBRARY)
        if limit is not None and limit < len(paths):
            paths = sample(paths, limit)
        jobs = [Job(name="index_file", workspace={"path": path}) for path in paths]
        Job.objects.bulk_enqueue(jobs)
        packages = sorted({path.partition("/")[0] for path in paths if "/" in path})
        sum_up_package.bulk_enqueue(PackageSummary(package=name) for name in packages)
        self.stdout.write(
            f"Enqueued {len(jobs):,} jobs, one per source file, and {len(packages):,} that sum up a"
            " package each."
        )
