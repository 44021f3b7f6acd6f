"""MariaDB and MySQL: the portable transitions, with names compared to the letter."""

from collections.abc import Sequence
from typing import Any

from django.db.models import BinaryField, F, Func, Q
from django.db.models.lookups import In

from django_dbq.backends.base import Backend


class MySQLBackend(Backend):
    """Text is compared without regard to case there, and ``NOOP`` is not the job ``noop``."""

    def _is_one_of(self, names: Sequence[str]) -> Q:
        field: Any = BinaryField()  # pyright: ignore[reportUnknownVariableType]
        exact: Any = Func(F("name"), template="CAST(%(expressions)s AS BINARY)", output_field=field)
        return Q(In(exact, [name.encode() for name in names]))
