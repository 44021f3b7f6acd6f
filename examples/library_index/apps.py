"""The application ``library_index``."""

from django.apps import AppConfig


class LibraryIndexConfig(AppConfig):
    """An index of a tree of Python files, made by jobs."""

    name = "examples.library_index"
    label = "library_index"
    verbose_name = "Library index"
    default_auto_field = "django.db.models.BigAutoField"
