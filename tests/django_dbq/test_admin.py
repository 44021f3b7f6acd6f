"""The admin: what is shown, and that nothing can be changed."""

import shutil
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.test import Client
from django.urls import include, path, reverse
from django.utils import timezone
from pydantic import SecretStr
from pytest_django import DjangoAssertNumQueries, Settings
from pytest_django.live_server_helper import LiveServer

from django_dbq.models import Job
from tests.django_dbq.factories import JobFactory
from tests.typed_app import jobs

pytestmark = pytest.mark.django_db

SCRIPT = "<script>document.title = 'run'</script>"
LIST = "admin:django_dbq_job_changelist"
CHROMIUM = shutil.which("chromium")


def page_of(client: Client, job: Job) -> str:
    response = client.get(reverse("admin:django_dbq_job_change", args=[job.pk]))
    assert response.status_code == 200
    return response.content.decode()


def listed(client: Client, **query: str) -> set[Job]:
    response = client.get(reverse(LIST), query)
    assert response.status_code == 200
    return set(response.context["cl"].queryset)


class TestList:
    def test_can_be_narrowed_by_state_queue_and_name(self, admin_client: Client) -> None:
        done = JobFactory.create(state=Job.STATES.COMPLETE)
        mail = JobFactory.create(queue_name="mail")
        three = JobFactory.create(name="three")
        assert listed(admin_client) == {done, mail, three}
        assert listed(admin_client, state__exact="COMPLETE") == {done}
        assert listed(admin_client, queue_name="mail") == {mail}
        assert listed(admin_client, name="three") == {three}

    def test_offers_these_filters_and_shows_where_each_job_stands(
        self, admin_client: Client
    ) -> None:
        JobFactory.create(
            name="three", state=Job.STATES.READY, queue_name="mail", priority=777,
            next_task="tests.tasks.second",
        )  # fmt: skip
        response = admin_client.get(reverse(LIST))
        offered = [filter_.title for filter_ in response.context["cl"].filter_specs]
        assert offered == ["state", "queue name", "name"]
        row = response.content.decode().split("<tbody>")[1].split("</tbody>")[0]
        for shown in ("three", "Ready", "mail", "777", ">second<"):
            assert shown in row

    def test_can_be_searched(self, admin_client: Client) -> None:
        three = JobFactory.create(name="three")
        failed = JobFactory.create(error="ValueError: no such cat")
        assert listed(admin_client, q="three") == {three}
        assert listed(admin_client, q="no such cat") == {failed}
        assert listed(admin_client, q=str(failed.pk)) == {failed}
        assert listed(admin_client, q=f" {failed.pk.hex} ") == {failed}
        assert listed(admin_client, q="nothing like it") == set()
        mail = JobFactory.create(queue_name="mail", next_task="tests.tasks.send")
        assert listed(admin_client, q="mail") == listed(admin_client, q="tasks.send") == {mail}

    def test_takes_the_same_queries_however_many_jobs_there_are(
        self, admin_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        JobFactory.create_batch(30, workspace={"large": "x" * 100_000})
        with django_assert_max_num_queries(8) as captured:
            admin_client.get(reverse(LIST))
        assert not any('"workspace"' in query["sql"] for query in captured.captured_queries)

    def test_shows_the_newest_first(self, admin_client: Client) -> None:
        old, new = JobFactory.create(), JobFactory.create()
        Job.objects.filter(pk=old.pk).update(created=timezone.now() - timedelta(days=1))
        response = admin_client.get(reverse(LIST))
        assert list(response.context["cl"].result_list) == [new, old]


class TestPage:
    def test_shows_workspace_and_error_escaped_and_indented(self, admin_client: Client) -> None:
        job = JobFactory.create(
            workspace={"a": SCRIPT, "list": ["é"]}, error=f"Traceback\n  {SCRIPT}"
        )
        page = page_of(admin_client, job)
        assert SCRIPT not in page
        escaped = "&lt;script&gt;document.title = &#x27;run&#x27;&lt;/script&gt;"
        quoted = f"&quot;{escaped}&quot;"
        assert f"{{\n  &quot;a&quot;: {quoted},\n  &quot;list&quot;: [\n    &quot;é&quot;" in page
        assert f"Traceback\n  {escaped}</pre>" in page

    def test_shows_all_there_is_to_know(self, admin_client: Client) -> None:
        job = JobFactory.create(
            queue_name="mail", priority=777, next_task="tests.tasks.second",
            run_after=datetime(2031, 5, 6, 7, 8, tzinfo=UTC),
        )  # fmt: skip
        worker = uuid.uuid4()
        Job.objects.update(worker=worker, attempts=555, losses=444, version=333)
        page = page_of(admin_client, job)
        shown = (job.pk, "mail", 777, "tests.tasks.second", "May 6, 2031", worker, 555, 444, 333)
        for each in shown:
            assert str(each) in page

    def test_escapes_every_column(self, admin_client: Client) -> None:
        columns = ("name", "queue_name", "next_task", "error")
        job = JobFactory.create()
        Job.objects.update(**dict.fromkeys(columns, SCRIPT))
        for page in (page_of(admin_client, job), admin_client.get(reverse(LIST)).content.decode()):
            assert SCRIPT not in page
            assert "&lt;script&gt;" in page

    def test_of_a_job_that_nobody_knows_any_more(self, admin_client: Client) -> None:
        job = JobFactory.create(workspace={"a": 1})
        Job.objects.update(name="gone")
        assert "&quot;a&quot;: 1" in page_of(admin_client, job)

    def test_shows_no_secrets(self, admin_client: Client) -> None:
        job = jobs.login.enqueue(workspace=jobs.Login(name="ada", password=SecretStr("hunter2")))
        page = page_of(admin_client, job)
        assert "hunter2" not in page
        assert "&quot;password&quot;: &quot;**********&quot;" in page
        Job.objects.update(workspace={"password": "hunter2"})
        assert "hunter2" not in page_of(admin_client, job)

    def test_with_a_large_workspace(self, admin_client: Client) -> None:
        assert "xxx" in page_of(admin_client, JobFactory.create(workspace={"a": "x" * 2_000_000}))


class TestReadOnly:
    def test_nothing_can_be_added_changed_or_deleted(self, admin_client: Client) -> None:
        job = JobFactory.create()
        change = reverse("admin:django_dbq_job_change", args=[job.pk])
        delete = reverse("admin:django_dbq_job_delete", args=[job.pk])
        assert admin_client.get(reverse("admin:django_dbq_job_add")).status_code == 403
        assert admin_client.post(change, {"name": "three"}).status_code == 403
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403
        chosen = {"action": "delete_selected", "_selected_action": str(job.pk), "post": "yes"}
        admin_client.post(reverse(LIST), chosen)
        assert Job.objects.get().name == "noop"

    def test_nobody_sees_it_without_the_permission(self, client: Client) -> None:
        client.force_login(User.objects.create_user("ada", is_staff=True))
        assert client.get(reverse(LIST)).status_code == 403


def log_in(request: HttpRequest, pk: str) -> HttpResponse:
    """Let a browser in, which has no password to type."""
    from django.contrib.auth import login

    login(request, User.objects.get(is_superuser=True))
    return redirect("admin:django_dbq_job_change", pk)


urlpatterns = [path("log-in/<str:pk>/", log_in), path("", include("tests.urls"))]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.django_db(transaction=True)
def test_a_browser_runs_nothing_of_what_a_job_holds(
    live_server: LiveServer, settings: Settings, tmp_path: Path
) -> None:
    settings.ROOT_URLCONF = __name__
    User.objects.create_superuser("ada")
    job = JobFactory.create(workspace={"text": SCRIPT}, error=SCRIPT)
    shown = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000",
            "--dump-dom", f"{live_server.url}/log-in/{job.pk}/",
        ],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    assert "<title>noop (NEW) | View job" in shown.replace("\n", "")
    assert "&lt;script&gt;document.title = 'run'&lt;/script&gt;" in shown
