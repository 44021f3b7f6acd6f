"""Database routers of the tests."""


class WritesElsewhere:
    """Writes into the database "other"."""

    def db_for_write(self, model: type, **hints: object) -> str:
        return "other"


class JobsElsewhere(WritesElsewhere):
    """Keeps everything in the database "other"."""

    def db_for_read(self, model: type, **hints: object) -> str:
        return "other"
