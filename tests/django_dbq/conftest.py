"""What the engine's tests share."""

from collections.abc import Callable, Iterator
from io import StringIO

import pytest
from django.core.management import call_command

from tests import tasks


@pytest.fixture
def events() -> Iterator[list[str]]:
    """What tasks and hooks noted in this process, in order."""
    tasks.events.clear()
    yield tasks.events
    tasks.events.clear()


@pytest.fixture
def work() -> Callable[..., str]:
    """Run everything that is due, in this process; return what the worker printed."""

    def run(*queues: str, **options: object) -> str:
        out = StringIO()
        call_command(
            "worker", *queues, **{"rate_limit": 0, "burst": True, "stdout": out, **options}
        )
        return out.getvalue()

    return run
