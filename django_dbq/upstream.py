"""What is left to know of django-db-queue's tables once they are ours."""

from django.db.backends.base.base import BaseDatabaseWrapper

#: Replaced by our first migration, which takes their tables over as they are.
UPSTREAM_MIGRATIONS = (
    "0001_initial",
    "0002_auto_20151016_1027",
    "0003_auto_20180713_1000",
    "0004_auto_20210818_0247",
    "0005_job_run_after",
    "0006_alter_job_state",
)

# Which columns of this schema hold ids of jobs: the job's own, and foreign keys to it?
_ID_COLUMNS = """
SELECT c.table_name, c.column_name, c.column_type, c.is_nullable
  FROM information_schema.columns c
 WHERE c.table_schema = DATABASE()
   AND (c.table_name = 'django_dbq_job' AND c.column_name = 'id'
    OR (c.table_name, c.column_name) IN (
       SELECT k.table_name, k.column_name
         FROM information_schema.key_column_usage k
        WHERE k.table_schema = DATABASE() AND k.referenced_table_schema = DATABASE()
          AND k.referenced_table_name = 'django_dbq_job' AND k.referenced_column_name = 'id'))
"""


def char_id_columns(connection: BaseDatabaseWrapper) -> list[tuple[str, str, bool]]:
    """Return table, column and whether NULL is allowed, of job ids kept as char(32) on MariaDB.

    Django 4.2 and before made them so; from 5.0 on it expects ``uuid`` on MariaDB 10.7 and later,
    and compares in a form that never equals the old one. Empty on every other database.
    """
    if connection.vendor != "mysql" or not connection.features.has_native_uuid_field:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_ID_COLUMNS)
        return [
            (table, column, nullable == "YES")
            for table, column, kind, nullable in cursor.fetchall()
            if kind == "char(32)"
        ]
