"""What the index holds: the modules of the library, what they define and what they import."""

from typing import ClassVar

from django.db import models


class Module(models.Model):
    """One source file that could be read and parsed."""

    path = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=255)
    encoding = models.CharField(max_length=40)
    size = models.PositiveIntegerField("size in bytes")
    lines = models.PositiveIntegerField()

    class Meta:
        ordering: ClassVar = ["path"]

    def __str__(self) -> str:
        return self.name


class Definition(models.Model):
    """A function or a class, at whatever depth of its module."""

    class Kind(models.TextChoices):
        """What is defined; a method is a function in a class."""

        FUNCTION = "function"
        CLASS = "class"

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="definitions")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.CharField("qualified name", max_length=255)
    line = models.PositiveIntegerField()

    class Meta:
        ordering: ClassVar = ["module", "line"]

    def __str__(self) -> str:
        return self.name


class Import(models.Model):
    """A top-level module or package that a module imports, once however often it does."""

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="imports")
    name = models.CharField(max_length=255)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["module", "name"], name="library_index_import_once"),
        ]

    def __str__(self) -> str:
        return self.name
