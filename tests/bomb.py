"""A module that must never be imported: a row of the table names it."""

raise AssertionError("a task that no job lists was imported")
