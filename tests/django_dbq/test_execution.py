"""What becomes of one job: the order of task and hooks, and what each of them may do to it."""

import logging
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from django_dbq.backends import Wanted, backend_for
from django_dbq.errors import ClaimLost
from django_dbq.models import Job
from django_dbq.tracebacks import ERROR_LENGTH, describe

pytestmark = pytest.mark.django_db

Work = Callable[..., str]


@pytest.fixture
def run(settings: Settings, work: Work) -> Callable[..., Job]:
    """Run a job of this entry until nothing of it is due, and return it as its row is then."""

    def run(*tasks: str, workspace: Any = None, **hooks: str) -> Job:
        settings.JOBS = {
            "job": {
                "tasks": [f"tests.tasks.{task}" for task in tasks],
                **{hook: f"tests.tasks.{path}" for hook, path in hooks.items()},
            },
            "noop": ["tests.tasks.noop"],
        }
        job = Job.objects.create(name="job", workspace=workspace)
        work()
        job.refresh_from_db()
        return job

    return run


Run = Callable[..., Job]


class TestOrder:
    def test_tasks_run_one_after_the_other_and_share_the_workspace(
        self, run: Run, events: list[str]
    ) -> None:
        job = run("first", "second", "third")
        assert [event.split()[0] for event in events] == ["first", "second", "third"]
        assert (job.state, job.next_task) == (Job.STATES.COMPLETE, "")
        assert job.workspace == {"message": "Hello, task 2!", "heard": "Hello, task 2!"}
        assert job.error is None
        assert job.finished is not None
        assert job.claim_token is None

    def test_hooks_of_a_job_that_succeeds(self, run: Run, events: list[str]) -> None:
        job = run(
            "note",
            workspace={"note": "task"},
            pre_task_hook="pre_task_hook",
            post_task_hook="post_task_hook",
            failure_hook="failure_hook",
        )
        assert events == ["pre_task_hook PROCESSING", "note task", "post_task_hook COMPLETE"]
        assert job.state == Job.STATES.COMPLETE

    def test_hooks_run_around_each_task(self, run: Run, events: list[str]) -> None:
        run("first", "second", pre_task_hook="pre_task_hook", post_task_hook="post_task_hook")
        assert [event.split()[0] for event in events] == [
            "pre_task_hook", "first", "post_task_hook", "pre_task_hook", "second", "post_task_hook",
        ]  # fmt: skip

    def test_hooks_of_a_job_that_fails(self, run: Run, events: list[str]) -> None:
        job = run(
            "fail",
            "third",
            pre_task_hook="pre_task_hook",
            post_task_hook="post_task_hook",
            failure_hook="failure_hook",
        )
        assert events == [
            "pre_task_hook PROCESSING",
            "fail PROCESSING",
            "failure_hook FAILED ValueError",
            "post_task_hook FAILED",
        ]
        assert (job.state, job.next_task) == (Job.STATES.FAILED, "tests.tasks.fail")

    def test_a_failing_pre_task_hook_fails_the_job_and_skips_the_task(
        self, run: Run, events: list[str]
    ) -> None:
        job = run(
            "noop",
            pre_task_hook="failing_pre_task_hook",
            post_task_hook="post_task_hook",
            failure_hook="failure_hook",
        )
        assert events == [
            "failing_pre_task_hook",
            "failure_hook FAILED ValueError",
            "post_task_hook FAILED",
        ]
        assert job.state == Job.STATES.FAILED

    def test_a_failing_post_task_hook_is_logged_and_fails_nothing(
        self, run: Run, events: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        job = run("noop", post_task_hook="failing_hook", failure_hook="failure_hook")
        assert [event.split()[0] for event in events] == ["noop", "failing_hook"]
        assert job.state == Job.STATES.COMPLETE
        assert job.error is None
        assert job.workspace == {"touched": True}
        assert "event=post_task_hook_failed" in caplog.text
        assert "ValueError: the hook failed" in caplog.text

    def test_a_failing_failure_hook_is_logged_and_strands_nothing(
        self, run: Run, events: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        job = run("fail", failure_hook="failing_hook", post_task_hook="post_task_hook")
        assert events == ["fail PROCESSING", "failing_hook", "post_task_hook FAILED"]
        assert job.state == Job.STATES.FAILED
        assert job.workspace == {"reached": True, "touched": True}
        assert "the task failed" in (job.error or "")
        assert "event=failure_hook_failed" in caplog.text

    @pytest.mark.parametrize("hook", ["failure_hook", "post_task_hook", "pre_task_hook"])
    def test_a_hook_s_exit_ends_no_worker(
        self, run: Run, work: Work, caplog: pytest.LogCaptureFixture, hook: str
    ) -> None:
        job = run("fail", **{hook: "exit_hook"})
        assert job.state == Job.STATES.FAILED
        assert "SystemExit: a hook's exit" in caplog.text
        following = Job.objects.create(name="noop")
        work()
        following.refresh_from_db()
        assert following.state == Job.STATES.COMPLETE

    def test_a_hook_that_cannot_be_imported_is_logged(
        self, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = run("fail", failure_hook="no_such_hook")
        assert job.state == Job.STATES.FAILED
        assert "no_such_hook" in caplog.text


class TestFailure:
    @pytest.mark.parametrize(
        ("task", "last_line"),
        [
            ("fail", "ValueError: the task failed"),
            ("exit_task", "SystemExit: a task's exit"),
            ("exit_async", "SystemExit: an async task's exit"),
            ("fail_async", "ValueError: the async task failed"),
            ("recurse", "RecursionError: maximum recursion depth exceeded"),
            ("raise_base_exception", "BaseException: as base as can be"),
            ("interrupt", "KeyboardInterrupt"),
            ("raise_unprintable", "Unprintable: <exception str() failed>"),
            ("no_such_task", "ImportError: Module"),
            ("NOT_CALLABLE", "TypeError: 'str' object is not callable"),
        ],
    )
    def test_any_exception_fails_its_job_and_the_next_job_runs(
        self, run: Run, work: Work, task: str, last_line: str
    ) -> None:
        job = run(task)
        assert job.state == Job.STATES.FAILED
        assert last_line in (job.error or "").splitlines()[-1]
        following = Job.objects.create(name="noop")
        work()
        following.refresh_from_db()
        assert following.state == Job.STATES.COMPLETE

    def test_the_record_is_a_traceback_of_the_task(self, run: Run) -> None:
        error = run("fail").error or ""
        assert error.startswith("Traceback (most recent call last):")
        assert 'raise ValueError("the task failed")' in error
        assert error.endswith("ValueError: the task failed")
        assert "execution.py" not in error

    def test_what_the_failed_task_wrote_to_the_workspace_is_kept(self, run: Run) -> None:
        assert run("fail").workspace == {"reached": True}

    @pytest.mark.parametrize(
        ("task", "problem"),
        [
            ("write_nan", "is nan"),
            ("write_nul", "a NUL character"),
            ("write_surrogate", "surrogate"),
            ("write_bytes", "of type bytes"),
            ("write_set", "of type set"),
            ("write_huge", "4,194,304 are allowed"),
            ("write_deep", "nested too deep"),
            ("write_somewhat_deep", "nested more than"),
        ],
    )
    def test_a_workspace_that_cannot_be_stored_fails_the_job_and_the_next_job_runs(
        self, run: Run, work: Work, events: list[str], task: str, problem: str
    ) -> None:
        job = run(task, workspace={"kept": 1}, failure_hook="failure_hook")
        assert (job.state, job.workspace) == (Job.STATES.FAILED, {"kept": 1})
        assert problem in (job.error or "")
        assert events == ["failure_hook FAILED WorkspaceError"]
        following = Job.objects.create(name="noop")
        work()
        following.refresh_from_db()
        assert following.state == Job.STATES.COMPLETE

    @pytest.mark.parametrize(
        "task", ["write_huge_priority", "write_long_queue_name", "write_nonsense_version"]
    )
    def test_a_column_set_to_nonsense_fails_the_job_and_keeps_the_rest(
        self, run: Run, task: str
    ) -> None:
        job = run(task)
        assert (job.state, job.priority, job.queue_name) == (Job.STATES.FAILED, 0, "default")
        assert "InvalidEdit: job." in (job.error or "")
        assert job.workspace == ({"kept": True} if task == "write_huge_priority" else {})

    def test_a_bad_workspace_of_the_post_task_hook_is_logged_and_dropped(
        self, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = run("first", post_task_hook="bad_post_task_hook")
        assert (job.state, job.workspace) == (Job.STATES.COMPLETE, {"message": "Hello, task 2!"})
        assert "of type set" in caplog.text

    def test_a_success_afterwards_clears_the_record(self, run: Run, work: Work) -> None:
        job = run("fail")
        job.name, job.next_task, job.state = "noop", "", Job.STATES.READY
        job.save()
        work()
        job.refresh_from_db()
        assert (job.state, job.error) == (Job.STATES.COMPLETE, None)


class TestEdits:
    def test_everything_that_a_task_changes_is_saved(self, run: Run) -> None:
        job = run("edit_everything", "noop")
        assert (job.state, job.next_task) == (Job.STATES.READY, "tests.tasks.noop")
        assert (job.workspace, job.priority, job.queue_name) == ({"edited": True}, 7, "elsewhere")
        assert job.attempts == 0
        assert job.run_after is not None
        assert job.run_after > timezone.now()

    def test_everything_that_a_hook_changes_is_saved(self, run: Run) -> None:
        for hook, task in (("pre_task_hook", "noop"), ("post_task_hook", "noop")):
            job = run(task, "second", **{hook: "edit_everything"})
            assert (job.state, job.next_task) == (Job.STATES.READY, "tests.tasks.second")
            assert (job.workspace, job.priority) == ({"edited": True}, 7)
            assert job.queue_name == "elsewhere"
            assert job.run_after is not None

    def test_a_failure_hook_can_retry_later(self, run: Run, work: Work, events: list[str]) -> None:
        job = run("fail", failure_hook="retry_hook")
        assert (job.state, job.next_task) == (Job.STATES.READY, "tests.tasks.fail")
        assert job.workspace == {"reached": True, "tries": 1}
        assert "the task failed" in (job.error or "")
        Job.objects.update(run_after=timezone.now() - timedelta(seconds=1))
        work()
        job.refresh_from_db()
        assert job.workspace["tries"] == 2
        assert job.attempts == 2

    def test_a_failure_hook_that_saves_the_job_itself_retries_too(self, run: Run) -> None:
        job = run("fail", failure_hook="saving_retry_hook")
        assert (job.state, job.workspace["tries"]) == (Job.STATES.READY, 1)
        assert "the task failed" in (job.error or "")

    def test_a_task_can_choose_the_next_one(self, run: Run, events: list[str]) -> None:
        job = run("skip_to_third", "second", "third")
        assert [event.split()[0] for event in events] == ["skip", "third"]
        assert job.state == Job.STATES.COMPLETE

    def test_a_task_that_sets_the_job_ready_runs_again(self, run: Run) -> None:
        job = run("set_ready", "noop")
        assert (job.state, job.workspace) == (Job.STATES.COMPLETE, {"runs": 3})

    def test_a_workspace_saved_and_changed_back_ends_as_the_task_left_it(self, run: Run) -> None:
        job = run("save_in_between")
        assert (job.state, job.workspace) == (Job.STATES.COMPLETE, {})

    def test_what_others_changed_meanwhile_stays_where_the_task_changed_nothing(
        self, run: Run
    ) -> None:
        job = run("set_back_by_update")
        assert (job.state, job.workspace) == (Job.STATES.COMPLETE, {"again": True})

    def test_a_task_may_delete_its_job(self, settings: Settings, work: Work) -> None:
        settings.JOBS = {"job": ["tests.tasks.delete_itself"], "noop": ["tests.tasks.noop"]}
        Job.objects.create(name="job")
        other = Job.objects.create(name="noop")
        work()
        assert Job.objects.get().pk == other.pk


class TestSetBack:
    @pytest.mark.parametrize("ended", [Job.STATES.FAILED, Job.STATES.COMPLETE])
    @pytest.mark.parametrize("waiting", [Job.STATES.NEW, Job.STATES.READY])
    def test_a_job_that_was_set_back_runs_again(
        self, work: Work, events: list[str], ended: str, waiting: str
    ) -> None:
        job = Job.objects.create(name="noop")
        work()
        Job.objects.update(state=ended)
        job.refresh_from_db()
        job.state = waiting
        job.save()
        work()
        Job.objects.update(state=waiting)
        work()
        assert len(events) == 3
        job.refresh_from_db()
        assert job.state == Job.STATES.COMPLETE

    def test_a_job_that_is_set_back_while_it_runs_runs_again(
        self, run: Run, events: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        job = run("set_back_by_update")
        assert events == ["set back", "set back"]
        assert job.state == Job.STATES.COMPLETE
        assert "event=outcome_too_late" in caplog.text


class TestTrust:
    def test_a_row_that_names_another_task_fails_and_imports_nothing(
        self, work: Work, events: list[str]
    ) -> None:
        job = Job.objects.create(name="hooked", next_task="tests.bomb.explode")
        events.clear()
        work()
        job.refresh_from_db()
        assert job.state == Job.STATES.FAILED
        assert "has no task 'tests.bomb.explode'; its tasks are: tests.tasks.noop" in str(job.error)
        assert events == ["failure_hook FAILED UnknownTask", "post_task_hook FAILED"]

    def test_os_system_is_not_run(self, work: Work) -> None:
        job = Job.objects.create(name="noop", next_task="os.system")
        work()
        job.refresh_from_db()
        assert job.state == Job.STATES.FAILED

    def test_a_job_of_an_unknown_name_stays_with_a_warning(
        self, settings: Settings, work: Work, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = Job.objects.create(name="three")
        settings.JOBS = {"noop": ["tests.tasks.noop"]}
        known = Job.objects.create(name="noop")
        work()
        job.refresh_from_db()
        known.refresh_from_db()
        assert (job.state, job.attempts) == (Job.STATES.NEW, 0)
        assert known.state == Job.STATES.COMPLETE
        assert "event=unknown_job name=three" in caplog.text


class TestFence:
    def test_a_save_of_a_job_that_is_no_longer_ours_writes_nothing(self, held: Job) -> None:
        Job.objects.update(claim_token=uuid.uuid4())
        held.workspace = {"late": True}
        with pytest.raises(ClaimLost, match="no longer this worker's"), transaction.atomic():
            held.save()
        assert Job.objects.get().workspace == {}

    def test_a_save_while_it_is_ours_does_not_touch_the_state(self, held: Job) -> None:
        held.workspace = {"saved": True}
        held.state = Job.STATES.READY
        held.save()
        row = Job.objects.get()
        assert (row.workspace, row.state) == ({"saved": True}, Job.STATES.PROCESSING)

    @pytest.fixture
    def held(self) -> Job:
        Job.objects.create(name="noop")
        wanted = Wanted(["default"], ["noop"], 1, uuid.uuid4())
        [claim] = backend_for("default").claim(wanted)
        job = claim.job()
        assert isinstance(job, Job)
        return job


class TestLog:
    def test_one_line_when_a_task_starts_and_one_when_it_ends(
        self, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "django_dbq"):
            job = run("first", workspace={"secret": "hush"})
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            (
                "INFO",
                f"event=task_started name=job queue=default id={job.id} state=PROCESSING"
                " next_task=tests.tasks.first",
            ),
            (
                "INFO",
                f"event=task_finished name=job queue=default id={job.id} state=COMPLETE next_task=",
            ),
        ]
        assert "hush" not in caplog.text

    def test_a_failure_is_logged_with_its_traceback(
        self, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "django_dbq"):
            run("fail")
        assert [record.levelname for record in caplog.records] == ["INFO", "ERROR", "INFO"]
        assert "event=task_failed name=job" in caplog.text
        assert "ValueError: the task failed" in caplog.text


class TestDescribe:
    def test_a_long_record_keeps_its_beginning_and_its_end(self) -> None:
        text = describe(ValueError("begin" + "x" * 100_000 + "end"))
        assert text.startswith("ValueError: begin")
        assert text.endswith("end")
        assert "characters left out" in text
        assert len(text) < ERROR_LENGTH + 100

    def test_a_record_can_be_held_by_every_database(self) -> None:
        assert describe(ValueError("a\0b\ud800")) == r"ValueError: a\x00b\ud800"
