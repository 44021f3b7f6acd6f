"""The application ``django_dbq``."""

from importlib import import_module

from django.apps import AppConfig


class DjangoDBQConfig(AppConfig):
    """The queue, its table and its checks."""

    name = "django_dbq"
    verbose_name = "Job queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import_module("django_dbq.checks")  # which registers them, and needs the models
