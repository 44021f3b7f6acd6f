"""The application ``django_dbq``."""

from django.apps import AppConfig


class DjangoDBQConfig(AppConfig):
    """The queue, its table and its checks."""

    name = "django_dbq"
    verbose_name = "Job queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_dbq import checks  # noqa: F401, PLC0415 - registers them
