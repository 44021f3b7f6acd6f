"""What the commands are given, on the command line or by ``call_command()``."""

import math
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import router

from django_dbq.models import Job


class JobsCommand(BaseCommand):
    """A command about the jobs of one database, which no other has to be there for.

    From Django 6.1 on, checks would connect to all of them.
    """

    def get_check_kwargs(self, options: Any) -> Any:
        database = options["database"] or router.db_for_write(Job)
        return {**super().get_check_kwargs(options), "databases": [database]}


class NotANumber(CommandError, ArgumentTypeError):
    """An option that must be a number of 0 or more is something else.

    The parser of the command line understands the one base, and ``call_command()`` the other.
    """


def at_least_zero(value: object) -> float:
    """Return the value as a number. Raises ``NotANumber``, also for NaN and Infinity."""
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise NotANumber(f"must be a number of 0 or more, not {value!r}")
    return number


def at_least_one(value: object) -> int:
    """Return the value as a whole number. Raises ``NotANumber`` for one below 1."""
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise NotANumber(f"must be a whole number of 1 or more, not {value!r}")
    return number
