"""``manage.py jobs``: every job that this code knows."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from pydantic import PydanticInvalidForJsonSchema

from django_dbq import registry
from django_dbq.errors import UnknownJob
from django_dbq.registry import JobSpec


class Command(BaseCommand):
    """Lists the jobs, plain and typed, or prints the JSON Schema of a typed one's workspace."""

    help = "Lists every job: its steps, queue, priority and, if it is typed, its workspace's model."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--schema",
            metavar="NAME",
            help="Print the JSON Schema of this job's workspace instead.",
        )

    def handle(self, *, schema: str | None, **options: Any) -> None:
        if schema is not None:
            self.stdout.write(json.dumps(self._schema(schema), indent=2))
            return
        for name in sorted(registry.names()):
            self.stdout.write(_described(registry.get(name)))

    def _schema(self, name: str) -> Any:
        try:
            rules = registry.get(name).workspace
        except UnknownJob as error:
            raise CommandError(str(error)) from None
        if rules is None:
            raise CommandError(f"The job {name!r} is a plain one: its workspace has no schema.")
        try:
            return rules.schema()
        except PydanticInvalidForJsonSchema as error:
            raise CommandError(f"The workspace of {name!r} has no JSON Schema: {error}") from None


def _described(spec: JobSpec) -> str:
    model = spec.workspace.model if spec.workspace else "-"
    head = f"{spec.name}  queue={spec.queue} priority={spec.priority} model={model}"
    return "\n".join([head, *(f"    {task}" for task in spec.tasks)])
