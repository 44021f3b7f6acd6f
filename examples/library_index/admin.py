"""The index in the admin, to look at: it is written by jobs only."""

from django.contrib import admin
from django.http import HttpRequest

from examples.library_index.models import Definition, Module


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic when it runs
    """A page that changes nothing."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Module)
class ModuleAdmin(ReadOnlyAdmin):
    """The source files."""

    list_display = ("name", "path", "lines", "size", "encoding")
    list_filter = ("encoding",)
    search_fields = ("name", "path", "imports__name")


@admin.register(Definition)
class DefinitionAdmin(ReadOnlyAdmin):
    """The functions and classes."""

    list_display = ("name", "kind", "module", "line")
    list_filter = ("kind",)
    list_select_related = ("module",)
    search_fields = ("name",)
