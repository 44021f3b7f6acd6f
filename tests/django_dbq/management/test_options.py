"""What the commands have in common."""

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("worker", {"dry_run": True}),
        ("queue_depth", {}),
        ("delete_old_jobs", {}),
        ("retry_jobs", {"all": True}),
        ("check_jobs", {}),
    ],
)
def test_no_other_database_has_to_be_there(
    command: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Django 6.1 on, a command's checks look at all databases, unless they are told which."""
    asked: list[str] = []

    def refuse() -> None:
        asked.append("other")
        raise OperationalError("away")

    monkeypatch.setattr(connections["other"], "connect", refuse)
    call_command(command, skip_checks=False, **options)
    assert asked == []
