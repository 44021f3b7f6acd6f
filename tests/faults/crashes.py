"""Workers that die: at random, at a chosen instant, or of the job that they run."""

import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from django.db import connection, connections

from django_dbq.models import Failure, Job
from tests.faults.harness import Run, expect, scenario, wait_for
from tests.faults.injection import CRASHED, POINTS

#: For a job whose first worker crashes there: how often its task may start, and how often the job
#: may be lost.
TABLE = {
    "before the claim's commit": {(1, 0)},
    "after the claim's commit": {(1, 1)},
    "in the step": {(2, 1)},
    "before the finish's commit": {(2, 1)},
    # Nobody can say which: the commit may have reached the database.
    "in the finish's commit": {(1, 0), (2, 1)},
    "after the finish's commit": {(1, 0)},
}


@scenario(2, "SIGKILL of random workers under load")
def random_kills(run: Run) -> None:
    run.heartbeat = 1
    count, kills = run.scaled(20_000, 2_000), run.scaled(30, 8)
    workers = run.start_many(4)
    run.create("work", count)
    in_flight = 0
    for _ in range(kills):
        time.sleep(run.random.uniform(0.5, 1.5))
        victim = workers.pop(run.random.randrange(len(workers)))
        identity = run.wait_until_known(victim)
        victim.kill()
        in_flight += Job.objects.filter(worker=identity, state__in=Job.RUNNING).count()
        workers.append(run.start())
    for worker in workers:
        run.wait_until_known(worker)
    run.wait_until_done(seconds=90 + count / 50)
    run.expect_states(COMPLETE=count)
    starts = len(run.starts())
    expect(
        starts - count <= in_flight,
        f"{starts - count} extra starts, but {in_flight} jobs were in flight",
    )
    run.figures |= {"kills": kills, "in flight": in_flight}
    run.expect_all_alive(workers)


@scenario(3, "a crash at each point of a job's life")
def crash_points(run: Run) -> None:
    run.heartbeat = 1
    each = run.scaled(100, 5 if run.vendor == "postgresql" else 3)
    run.start_many(2, "healthy")
    with ThreadPoolExecutor(3) as pool:
        plain = [pool.submit(_crash, run, "effect", point, each) for point in POINTS]
        atomic = [pool.submit(_crash, run, "atomic_effect", point, each) for point in POINTS]
    run.wait_until_done()
    run.expect_states(COMPLETE=2 * each * len(POINTS))
    starts = Counter(start.job for start in run.starts())
    effects = _effects()
    for point, future in zip(POINTS, plain, strict=True):
        for job in future.result():
            seen = starts[job], _losses(job)
            expect(seen in TABLE[point], f"crash {point}: {seen[0]} starts, {seen[1]} losses")
            expect(effects[job] == starts[job], f"crash {point}: {effects[job]} effects")
    for point, future in zip(POINTS, atomic, strict=True):
        for job in future.result():
            seen = starts[job], _losses(job)
            expect(seen in TABLE[point], f"atomic, crash {point}: {seen[0]} starts, {seen[1]} lost")
            expect(effects[job] == 1, f"atomic, crash {point}: {effects[job]} effects")
    run.figures |= {"crashes": 2 * each * len(POINTS)}


def _crash(run: Run, name: str, point: str, times: int) -> list[uuid.UUID]:
    """Let so many workers crash there with a job each; healthy ones have the jobs afterwards."""
    jobs: list[uuid.UUID] = []
    queue = f"{name} {POINTS.index(point)}"
    for _ in range(times):
        [job] = run.create(name, queue_name=queue)
        worker = run.start(queue, FAULTS_CRASH=point)
        status = worker.wait()
        expect(status == CRASHED, f"no crash {point}, but {status}:\n{worker.output}")
        unfinished = Job.objects.filter(pk=job.pk).exclude(state__in=Job.FINISHED)
        unfinished.update(queue_name="healthy")
        jobs.append(job.pk)
    connections.close_all()
    return jobs


def _losses(job: uuid.UUID) -> int:
    return Failure.objects.filter(job=job, exception__startswith="JobLost").count()


def _effects() -> Counter[uuid.UUID]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT job, count(*) FROM faults_effect GROUP BY job")
        return Counter({uuid.UUID(job): count for job, count in cursor.fetchall()})


@scenario(9, "poison pills among good jobs")
def poison_pills(run: Run) -> None:
    run.heartbeat = 2
    good, pills = run.scaled(1_000, 300), run.scaled(4, 2)
    for _ in range(pills):
        run.create("quick", good // pills // 2)
        run.create("killer")
        run.create("quick", good // pills // 2)
        run.create("segfault")
    # Many, since each waits longer and longer to replace children that die young.
    supervised = [run.start(options=["--processes", "2"]) for _ in range(4)]
    run.wait_until_done()
    run.expect_states(COMPLETE=good, FAILED=2 * pills)
    starts = Counter(start.job for start in run.starts())
    for job in Job.objects.all():
        times = starts[job.pk]
        if job.name == "quick":
            lost = _losses(job.pk)
            expect(lost <= 1, f"a good job was lost {lost} times")
            expect(times <= 1 + lost, f"a good job started {times} times, and was lost {lost}")
        else:
            expect(times <= 4, f"a pill started {times} times")
            expect("JobLost" in (job.error or ""), f"a pill's error is {job.error}")
    told = len(run.events("-failed-JobLost"))
    expect(told == 2 * pills, f"{told} failure hooks ran for {2 * pills} pills")
    wait_for(lambda: not Job.objects.filter(state__in=Job.RUNNING).exists(), "nothing ran")
    run.expect_all_alive(supervised)
