"""The app that puts faults into a worker's process, if its environment asks for one."""

from django.apps import AppConfig


class FaultsConfig(AppConfig):
    """Injects before the first claim."""

    name = "tests.faults"

    def ready(self) -> None:
        from tests.faults import injection

        injection.install()
