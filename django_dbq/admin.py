"""Jobs and workers in Django's admin: to see, and not to change."""

import json
import uuid
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_dbq import registry
from django_dbq.errors import DBQError
from django_dbq.models import Job, Worker

if TYPE_CHECKING:
    JobModelAdmin = admin.ModelAdmin[Job]
    WorkerModelAdmin = admin.ModelAdmin[Worker]
else:  # which knows no type arguments at run time
    JobModelAdmin = WorkerModelAdmin = admin.ModelAdmin

#: How many of a job's failed attempts its page shows: the last ones.
SHOWN_FAILURES = 20

_PRE = '<pre style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0">{}</pre>'


@admin.register(Job)
class JobAdmin(JobModelAdmin):
    """The list of jobs, and a page for each."""

    list_display = ("name", "state", "queue_name", "priority", "task", "created", "run_after")
    list_filter = ("state", "queue_name", "name")
    search_fields = ("name", "queue_name", "next_task", "error")
    search_help_text = "A job's id; or text in its name, queue, next task or error."
    ordering = ("-created",)
    list_per_page = 50
    # Counting a large table takes longer than reading the page of it that is shown.
    show_full_result_count = False
    # Without permission to change anything, the others are read-only anyway.
    readonly_fields = ("shown_workspace", "shown_error", "shown_failures")
    fieldsets = (
        (None, {"fields": ("id", "name", "state", "next_task", "shown_workspace", "shown_error")}),
        ("When and where", {"fields": ("queue_name", "priority", "created", "run_after")}),
        (
            "What the engine did",
            {
                "fields": (
                    "attempts", "losses", "started", "finished", "modified", "worker", "version",
                    "cancel_requested", "shown_failures",
                ),
            },
        ),
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        jobs = super().get_queryset(request)
        match = request.resolver_match
        # The list shows neither of the two, and both may be large.
        is_list = match is not None and match.url_name == "django_dbq_job_changelist"
        return jobs.defer("workspace", "error") if is_list else jobs

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        try:
            identifier = uuid.UUID(search_term.strip())
        except ValueError:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(pk=identifier), False

    @admin.display(description="next task", ordering="next_task")
    def task(self, job: Job) -> str:
        """Return the last part of the next task's path, which is what tells tasks apart."""
        return job.next_task.rpartition(".")[2] or "-"

    @admin.display(description="workspace")
    def shown_workspace(self, job: Job) -> SafeString:
        """Return the workspace as indented JSON, without what its job's rules conceal."""
        workspace: Any = job.workspace
        try:
            rules = registry.get(job.name).workspace
        except DBQError:
            rules = None
        if rules is not None:
            workspace = rules.conceal(workspace)
        return format_html(_PRE, json.dumps(workspace, indent=2, ensure_ascii=False))

    @admin.display(description="error")
    def shown_error(self, job: Job) -> SafeString | str:
        """Return the record of the last failure."""
        return format_html(_PRE, job.error) if job.error else "-"

    @admin.display(description="failed attempts")
    def shown_failures(self, job: Job) -> SafeString | str:
        """Return the last failed attempts, a line each."""
        lines = [
            f"{failure.failed:%Y-%m-%d %H:%M:%S}  {failure}  ({failure.worker})"
            for failure in job.failures.order_by("-pk")[:SHOWN_FAILURES]
        ]
        return format_html(_PRE, "\n".join(lines)) if lines else "-"


@admin.register(Worker)
class WorkerAdmin(WorkerModelAdmin):
    """The list of workers: those that live, and those that were lost within the last hour."""

    list_display = ("host", "pid", "queues", "version", "started", "last_seen")
    ordering = ("-last_seen",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:
        return False
