"""What is left to know of django-db-queue's tables once they are ours."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from django.apps import apps
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import ForeignKey

#: Replaced by our first migration, which takes their tables over as they are.
UPSTREAM_MIGRATIONS = (
    "0001_initial",
    "0002_auto_20151016_1027",
    "0003_auto_20180713_1000",
    "0004_auto_20210818_0247",
    "0005_job_run_after",
    "0006_alter_job_state",
)

# Which columns of this schema are as Django before 5.0 made every UUID?
_CHAR_COLUMNS = """
SELECT table_name, column_name, is_nullable = 'YES', QUOTE(column_comment)
  FROM information_schema.columns
 WHERE table_schema = DATABASE() AND column_type = 'char(32)'
"""

# Which column refers to which, by which constraint?
_REFERENCES = """
SELECT table_name, column_name, referenced_table_name, referenced_column_name, constraint_name
  FROM information_schema.key_column_usage
 WHERE table_schema = DATABASE() AND referenced_table_schema = DATABASE()
"""

# What a conversion has to do, in a table that exists from its beginning to its end.
_PLAN = "django_dbq_conversion"
_BEGIN_PLAN = """
CREATE TABLE IF NOT EXISTS django_dbq_conversion (position int PRIMARY KEY, statement text)
"""
_WRITE_PLAN = "INSERT INTO django_dbq_conversion (position, statement) VALUES (%s, %s)"
_READ_PLAN = "SELECT statement FROM django_dbq_conversion ORDER BY position"
_END_PLAN = "DROP TABLE django_dbq_conversion"


class CharColumn(NamedTuple):
    """A column of type char(32), and what an ALTER of its type has to say again."""

    table: str
    column: str
    nullable: bool
    comment: str  # quoted


class Reference(NamedTuple):
    """A foreign key's column and its target; ``constraint`` is None where no database knows it."""

    table: str
    column: str
    target_table: str
    target_column: str
    constraint: str | None = None


def has_native_ids(connection: BaseDatabaseWrapper) -> bool:
    """Return whether this is MariaDB 10.7 or later, where Django from 5.0 on expects ``uuid``.

    It compares in a form that never equals the char(32) that Django before 5.0 made.
    """
    return connection.vendor == "mysql" and connection.features.has_native_uuid_field


def char_id_columns(connection: BaseDatabaseWrapper) -> list[CharColumn]:
    """Return the columns that hold ids of jobs as char(32) where ``uuid`` is expected.

    These are the job's own id, the foreign keys to it, and the foreign keys to those of them that
    are a primary key themselves.
    """
    if not has_native_ids(connection):
        return []
    with connection.cursor() as cursor:
        cursor.execute(_CHAR_COLUMNS)
        columns = [CharColumn(*row) for row in cursor.fetchall()]
    if not columns:
        return []
    ids = _id_columns(_references(connection))
    return [column for column in columns if (column.table, column.column) in ids]


def conversion_was_interrupted(connection: BaseDatabaseWrapper) -> bool:
    """Return whether ``convert_ids`` has begun and not ended."""
    return has_native_ids(connection) and _PLAN in connection.introspection.table_names()


def convert_ids(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """Convert what ``char_id_columns`` returns to ``uuid``; yield each statement before it is sent.

    MariaDB neither changes the type of a column that a foreign key uses nor rolls back an ALTER.
    So the constraints are dropped and made again, and all statements are written down first: each
    may be executed twice, and an interrupted conversion is begun anew with the same ones. Raises
    what the database raises, for a column that holds something else than ids.
    """
    columns = char_id_columns(connection)
    if not columns and not conversion_was_interrupted(connection):
        return
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:
        cursor.execute(_BEGIN_PLAN)
        cursor.execute(_READ_PLAN)
        plan = [statement for (statement,) in cursor.fetchall()]
        if not plan:
            plan = _plan(connection, columns)
            with transaction.atomic(using=connection.alias):
                cursor.executemany(_WRITE_PLAN, list(enumerate(plan)))
        for statement in plan:
            yield statement
            cursor.execute(statement)
        cursor.execute(_END_PLAN)


def _plan(connection: BaseDatabaseWrapper, columns: list[CharColumn]) -> list[str]:
    """Return the statements of a conversion, in order, each of which may be executed twice."""
    references = _references(connection)
    ids = _id_columns(references)
    tables: dict[str, set[str]] = {}
    for reference in references:
        if reference.constraint and reference[:2] in ids:
            tables.setdefault(reference.table, set()).add(reference.constraint)
    drop: list[str] = []
    change: list[str] = []
    add: list[str] = []
    for table, column, nullable, comment in columns:
        null = "NULL" if nullable else "NOT NULL"
        change.append(f"ALTER TABLE `{table}` MODIFY `{column}` uuid {null} COMMENT {comment}")
    for table, constraints in tables.items():
        for name, definition in _definitions(connection, table):
            if name in constraints:
                alter = f"ALTER TABLE `{table}`"
                drop.append(f"{alter} DROP FOREIGN KEY IF EXISTS `{name}`")
                add.append(
                    f"{alter} ADD CONSTRAINT `{name}` FOREIGN KEY IF NOT EXISTS {definition}"
                )
    return drop + change + add


def _definitions(connection: BaseDatabaseWrapper, table: str) -> list[tuple[str, str]]:
    """Return the name of each foreign key of a table, and the rest of it, as MariaDB writes it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW CREATE TABLE `{table}`")
        [(_, text)] = cursor.fetchall()
    return re.findall(r"^ *CONSTRAINT `(.+?)` FOREIGN KEY (.+?),?$", text, flags=re.MULTILINE)


def _references(connection: BaseDatabaseWrapper) -> set[Reference]:
    """Return the foreign keys of the database, and those that only the models know."""
    with connection.cursor() as cursor:
        cursor.execute(_REFERENCES)
        references = {Reference(*row) for row in cursor.fetchall()}
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.local_fields:
            if isinstance(field, ForeignKey) and (target := field.target_field).column:
                column = (model._meta.db_table, field.column)
                references.add(Reference(*column, target.model._meta.db_table, target.column))
    return references


def _id_columns(references: set[Reference]) -> set[tuple[str, str]]:
    """Return table and column of the job's id and of all that refers to it, at any distance."""
    ids = {("django_dbq_job", "id")}
    while found := {ref[:2] for ref in references if ref[2:4] in ids} - ids:
        ids |= found
    return ids
