"""The scenarios on one database: a server, the tables, one scenario after the other."""

import importlib
import os
import tempfile
import time
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

from tests.databases import Unavailable

if TYPE_CHECKING:
    from tests.faults.harness import Scenario
    from tests.faults.servers import Server

#: The modules that have scenarios.
KINDS = ("order", "crashes", "lateness", "stopping", "database", "clocks", "versions", "endurance")


def play(
    database: str, *, only: Collection[int] | None, long: bool, seed: int
) -> list[dict[str, Any]]:
    """Play the scenarios on one database, and return what is to be reported."""
    from tests.faults import servers

    results: list[dict[str, Any]] = []
    try:
        # The record first, which has to have room when the server's disk is full.
        with tempfile.TemporaryDirectory("-faults") as directory, servers.run(database) as server:
            for scenario in _set_up(server):
                if only and scenario.number not in only:
                    continue
                place = Path(directory, str(len(results)))
                place.mkdir()
                result = _play(scenario, server, place, long=long, seed=seed)
                print("{database:11} {number:2} {outcome:7} {name}: {text}".format_map(result))
                results.append(result)
    except Unavailable as error:
        text = f"{database} was not tested: {error}"
        results.append(result_of(database, 0, "the suite itself", "skipped", text))
    return results


def _set_up(server: "Server") -> "list[Scenario]":
    """Make the tables; return the scenarios that apply to this database."""
    os.environ["DATABASE_URL"] = server.url
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.faults.settings"
    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from tests.faults import reckoning
    from tests.faults.harness import SCENARIOS

    server.prepare()
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
    call_command("migrate", verbosity=0)
    reckoning.set_up()
    for kind in KINDS:
        importlib.import_module(f"tests.faults.{kind}")
    applying = [scenario for scenario in SCENARIOS if server.name in scenario.on]
    return sorted(applying, key=lambda scenario: scenario.number)


def _play(
    scenario: "Scenario", server: "Server", directory: Path, *, long: bool, seed: int
) -> dict[str, Any]:
    """Play a scenario and settle its accounts; return its line of the report."""
    from tests.faults.harness import Failed, Skipped, prepared

    begin = time.monotonic()
    outcome, text = "ok", ""
    with prepared(server, directory, long=long, seed=seed, number=scenario.number) as run:
        try:
            scenario.play(run)
            run.stop_all()
            accounts = run.settle()
        except Skipped as error:
            outcome, text = "skipped", str(error)
        except Failed as error:
            outcome, text = "FAILED", str(error)
        except Exception as error:
            outcome, text = "FAILED", f"{error!r}\n{traceback.format_exc()}"
        else:
            text = f"{accounts.starts} starts, {accounts.extra} extra, {accounts.rescued} rescued"
        for what, figure in run.figures.items():
            text += f", {figure} {what}"
        for what in run.omitted:
            text += f"; NOT PLAYED: {what}"
    text += f", {time.monotonic() - begin:.0f} s"
    return result_of(server.name, scenario.number, scenario.name, outcome, text)


def result_of(database: str, number: int, name: str, outcome: str, text: str) -> dict[str, Any]:
    """Return what the report says of a scenario; the outcome is ok, skipped or FAILED."""
    return {
        "database": database,
        "number": number,
        "name": name,
        "outcome": outcome,
        "text": text,
    }
