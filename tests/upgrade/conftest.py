"""django-db-queue, an older Django, and projects that used them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from pytest_django.plugin import DjangoDbBlocker

from tests.upgrade.project import Project


@pytest.fixture(scope="session")
def fetch(pytestconfig: pytest.Config) -> Callable[[str], Path]:
    """Get a package into a directory of its own, which is kept for the next time."""
    cache = pytestconfig.cache
    assert cache is not None
    packages = cache.mkdir("packages")

    def fetch(requirement: str) -> Path:
        directory = packages / requirement
        if directory.exists():
            return directory
        # Renamed only when complete, so that what is there can be trusted.
        with tempfile.TemporaryDirectory(dir=packages) as unfinished:
            target = Path(unfinished, "package")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            options = ["--disable-pip-version-check", "--retries=1", f"--target={target}"]
            pip = subprocess.run(
                [*command, *options, requirement],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if pip.returncode == 0:
                return target.rename(directory)
        reason = f"pip cannot fetch {requirement}: {pip.stdout.strip().splitlines()[-1:]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return fetch


@pytest.fixture(scope="session")
def upstream(fetch: Callable[[str], Path]) -> Path:
    """Where django-db-queue's package is."""
    return fetch("django-db-queue==3.3.0")


@pytest.fixture(scope="session")
def django_4_2(fetch: Callable[[str], Path]) -> Path:
    """Where the newest Django before 5.0 is; what it needs itself is installed already."""
    return fetch("Django==4.2.*")


@pytest.fixture
def make_project(
    tmp_path: Path, upstream: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[..., Project]]:
    """Make a project with a database of its own, on the server that the tests use."""
    made: list[Project] = []

    def make(**options: Any) -> Project:
        server = deepcopy(connections["default"].settings_dict)
        if connections["default"].vendor == "sqlite":
            server["OPTIONS"] = {}  # Django 4.2 does not know them
        directory = tmp_path / f"project-{len(made)}"
        made.append(Project(directory, server=server, upstream=upstream, **options))
        return made[-1]

    with django_db_blocker.unblock():
        yield make
        for project in made:
            project.close()


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    """A project whose database is still empty."""
    return make_project()


@pytest.fixture
def migrated(project: Project) -> Project:
    """A project that django-db-queue has migrated to its end."""
    project.manage_upstream("migrate")
    return project
