"""A job queue for Django that needs no broker: jobs are rows of the database you already have."""

__all__ = ["__version__"]

__version__ = "0.1.0"
