"""The application ``django_dbq_typed``."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class DjangoDBQTypedConfig(AppConfig):
    """Typed jobs, found in the module ``jobs`` of each installed application."""

    name = "django_dbq_typed"
    verbose_name = "Typed jobs"

    def ready(self) -> None:
        autodiscover_modules("jobs")
