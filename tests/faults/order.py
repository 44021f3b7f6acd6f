"""Without faults: each task starts once, and those of a job in order."""

from django_dbq.models import Job
from tests.faults.harness import Run, expect, scenario


@scenario(1, "many workers, no faults")
def many_workers(run: Run) -> None:
    is_sqlite = run.vendor == "sqlite"
    single = run.scaled(5_000 if is_sqlite else 20_000, 2_000)
    triple = run.scaled(5_000, 500)
    run.start_many(4 if is_sqlite else 8)
    for _ in range(10):  # so that all are there when there is something to compete for
        run.create("quick", single // 10)
        run.create("three", triple // 10)
    run.wait_until_done(seconds=600)
    run.expect_states(COMPLETE=single + triple)
    starts = len(run.starts())
    expect(starts == single + 3 * triple, f"{starts} starts instead of {single + 3 * triple}")
    expect(_orders(run) == {("first", "second", "third")}, f"orders of tasks: {_orders(run)}")
    wrong = Job.objects.filter(name="three").exclude(
        workspace={"steps": ["first", "second", "third"]}
    )
    expect(not wrong.exists(), f"{wrong.count()} workspaces did not pass from task to task")


def _orders(run: Run) -> set[tuple[str, ...]]:
    """Return in which orders the tasks of the longer jobs started."""
    orders: dict[object, list[str]] = {}
    for start in run.starts():
        if start.task != "quick":
            orders.setdefault(start.job, []).append(start.task)
    return {tuple(order) for order in orders.values()}
