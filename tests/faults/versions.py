"""Old and new code at work at the same time, while jobs and their steps are renamed or removed."""

from django_dbq.models import Job
from tests.faults.harness import Run, expect, scenario, wait_for


@scenario(11, "old and new code at once")
def deployments(run: Run) -> None:
    count = run.scaled(1_000, 100)
    run.start(FAULTS_CODE="new")
    run.create("old_name", count)
    run.create("journey", count, next_task="tests.faults.tasks.removed")
    run.create("new_name", count)
    wait_for(lambda: run.left() == count, "the new code had done what it knows")
    run.expect_states(COMPLETE=count, FAILED=count, NEW=count)
    touched = Job.objects.filter(name="old_name").exclude(attempts=0, claim_token=None, error=None)
    expect(not touched.exists(), f"{touched.count()} jobs of an unknown name were touched")
    _expect_failed_before_user_code(run)

    run.start(FAULTS_CODE="old")
    for name in ("new_name", "journey", "old_name"):
        run.create(name, count)
    run.wait_until_done()
    named = Job.objects.filter(name__in=["old_name", "new_name"]).exclude(state="COMPLETE")
    expect(not named.exists(), f"{named.count()} jobs that somebody knows did not complete")
    failed = Job.objects.filter(state="FAILED")
    strange = failed.exclude(error__contains="UnknownTask")
    expect(not strange.exists(), f"a job failed of something else: {strange.values_list('error')}")
    run.expect_all_alive()
    run.figures |= {"jobs at a removed step": failed.count()}


def _expect_failed_before_user_code(run: Run) -> None:
    removed = [start for start in run.starts() if start.task == "removed"]
    expect(not removed, f"{len(removed)} removed steps were run")
