"""Tasks and hooks of the tests' jobs. What they do is noted in ``events``, in order."""

import asyncio
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

from django.db import Error, connection, transaction
from django.utils import timezone

from django_dbq.errors import Discard, Retry, Snooze
from django_dbq.models import Failure, Job

#: What ran in this process; the fixture ``events`` empties it for each test.
events: list[str] = []


def record(event: str) -> None:
    """Note that something ran: in this process, and in the file that all processes share."""
    events.append(event)
    if path := os.environ.get("DBQ_TEST_RECORD"):
        # One write to an O_APPEND file: lines of several processes never mix.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{event}\n".encode())
        os.close(descriptor)


def first(job: Job) -> None:
    record(f"first {job.id}")
    job.workspace["message"] = "Hello, task 2!"


def second(job: Job) -> None:
    record(f"second {job.id}")
    job.workspace["heard"] = job.workspace.get("message")


def third(job: Job) -> None:
    record(f"third {job.id}")


def noop(job: Job) -> None:
    record(f"noop {job.id}")


def read_workspace(job: Job) -> None:
    record(f"read {job.id} {job.workspace}")


def note(job: Job) -> None:
    record(f"note {job.workspace['note']}")


def sleep(job: Job) -> None:
    record(f"sleep {job.id}")
    time.sleep(job.workspace["seconds"])
    record(f"slept {job.id}")


def hold(job: Job) -> None:
    record(f"held {job.id} by {os.getpid()}")
    while not Path(job.workspace["file"]).exists():
        time.sleep(0.01)


async def hold_async(job: Job) -> None:
    record(f"held {job.id} by {os.getpid()} with {threading.active_count()} threads")
    while not Path(job.workspace["file"]).exists():
        await asyncio.sleep(0.01)
    job.workspace["done"] = True


async def fail_async(job: Job) -> None:
    await asyncio.sleep(0)
    raise ValueError("the async task failed")


def hash_for_long(job: Job) -> None:
    """Be in C, without the interpreter, for longer than any test waits."""
    record(f"hashing {job.id} by {os.getpid()}")
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def hold_the_interpreter(job: Job) -> None:
    """Be in C for ever, without a look at signals or at the other threads."""
    record(f"stuck {job.id} by {os.getpid()}")
    deque(repeat(None), maxlen=0)


def kill_own_worker(job: Job) -> None:
    record(f"killing {job.id} by {os.getpid()}")
    os.kill(os.getpid(), signal.SIGKILL)


def nap(job: Job) -> None:
    record(f"nap {job.id}")
    time.sleep(0.001)


def wait_for_file(job: Job) -> None:
    record(f"waiting {job.id}")
    while not Path(job.workspace["file"]).exists():
        time.sleep(0.01)
    record(f"waited {job.id}")


def fail(job: Job) -> None:
    record(f"fail {job.state}")
    job.workspace["reached"] = True
    raise ValueError("the task failed")


async def exit_async(job: Job) -> None:
    sys.exit("an async task's exit")


def exit_task(job: Job) -> None:
    sys.exit("a task's exit")


def recurse(job: Job) -> None:
    recurse(job)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def raise_unprintable(job: Job) -> None:
    raise Unprintable


def raise_base_exception(job: Job) -> None:
    raise BaseException("as base as can be")


def interrupt(job: Job) -> None:
    raise KeyboardInterrupt


def write_nan(job: Job) -> None:
    job.workspace["bad"] = float("nan")


def write_nul(job: Job) -> None:
    job.workspace["bad"] = "a\0b"


def write_surrogate(job: Job) -> None:
    job.workspace["bad"] = "\ud800"


def write_bytes(job: Job) -> None:
    job.workspace["bad"] = b"bytes"


def write_set(job: Job) -> None:
    job.workspace["bad"] = {1}


def write_huge(job: Job) -> None:
    job.workspace["bad"] = "x" * 5_000_000


def write_deep(job: Job) -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    job.workspace["bad"] = deep


def write_somewhat_deep(job: Job) -> None:
    deep: list[object] = []
    for _ in range(40):
        deep = [deep]
    job.workspace["bad"] = deep


def write_huge_priority(job: Job) -> None:
    job.workspace["kept"] = True
    job.priority = 1_000_000


def write_nonsense_version(job: Job) -> None:
    vars(job)["version"] = [1]


def write_long_queue_name(job: Job) -> None:
    job.queue_name = "q" * 300


def edit_everything(job: Job) -> None:
    job.workspace["edited"] = True
    job.priority = 7
    job.queue_name = "elsewhere"
    job.run_after = timezone.now() + timedelta(hours=1)


def edit_everything_at_creation(job: Job) -> None:
    edit_everything(job)
    job.next_task = "tests.tasks.third"
    job.state = Job.STATES.READY


def skip_to_third(job: Job) -> None:
    record("skip")
    job.next_task = "tests.tasks.third"


def set_ready(job: Job) -> None:
    """Run three times, as a task that polls for something does."""
    job.workspace["runs"] = job.workspace.get("runs", 0) + 1
    if job.workspace["runs"] < 3:
        job.state = Job.STATES.READY


def save_in_between(job: Job) -> None:
    job.workspace["saved"] = 1
    job.save()
    del job.workspace["saved"]


def delete_itself(job: Job) -> None:
    job.delete()


def set_back_by_update(job: Job) -> None:
    record("set back")
    Job.objects.filter(pk=job.pk, workspace={}).update(state="READY", workspace={"again": True})


def query(job: Job) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def terminate_own_worker(job: Job) -> None:
    record(f"terminating {job.id}")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    record(f"ended {job.id}")


def use_processes(job: Job) -> None:
    """Start processes, and end them in both ways that multiprocessing has: by SIGTERM."""
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        job.workspace["squares"] = pool.map(_square, range(5))
    job.workspace["exits"] = []
    for seconds in (0, 0.2):
        process = context.Process(target=time.sleep, args=(60,))
        process.start()
        time.sleep(seconds)
        process.terminate()
        process.join()
        job.workspace["exits"].append(process.exitcode)


def _square(number: int) -> int:
    return number**2


def creation_hook(job: Job) -> None:
    record(f"creation_hook {job.id is not None} {Job.objects.filter(pk=job.pk).count()}")
    job.workspace["created_by"] = "hook"


def failing_creation_hook(job: Job) -> None:
    raise LookupError("the creation hook failed")


def pre_task_hook(job: Job) -> None:
    record(f"pre_task_hook {job.state}")


def post_task_hook(job: Job) -> None:
    record(f"post_task_hook {job.state}")


def failure_hook(job: Job, error: BaseException) -> None:
    record(f"failure_hook {job.state} {type(error).__name__}")


def failing_pre_task_hook(job: Job) -> None:
    record("failing_pre_task_hook")
    raise ValueError("the pre-task hook failed")


def failing_hook(job: Job, error: BaseException | None = None) -> None:
    record("failing_hook")
    job.workspace["touched"] = True
    raise ValueError("the hook failed")


def exit_hook(job: Job, error: BaseException | None = None) -> None:
    sys.exit("a hook's exit")


def retry_hook(job: Job, error: BaseException) -> None:
    """Try again later, the way django-db-queue's users do."""
    record(f"retry_hook {job.state}")
    job.state = Job.STATES.READY
    job.run_after = timezone.now() + timedelta(hours=1)
    job.workspace["tries"] = job.workspace.get("tries", 0) + 1


def saving_retry_hook(job: Job, error: BaseException) -> None:
    retry_hook(job, error)
    job.save()


def bad_post_task_hook(job: Job) -> None:
    job.workspace["bad"] = {1, 2}


NOT_CALLABLE = "a string"


def fail_until(job: Job) -> None:
    """Fail as often as the workspace says, with what it says."""
    record(f"try {job.attempts}")
    if job.attempts <= job.workspace.get("failures", 99):
        raise {"ValueError": ValueError, "LookupError": LookupError}[job.workspace["error"]]("no")


def ask(job: Job) -> None:
    """Ask for what the workspace says, once."""
    record(f"ask {job.attempts}")
    if not job.workspace.get("asked"):
        job.workspace["asked"] = True
        requests = {
            "Retry": Retry("not yet", in_=600),
            "Retry soon": Retry(),
            "Snooze": Snooze("asleep", in_=600),
            "Discard": Discard("in vain"),
        }
        raise requests[job.workspace["ask"]]


def leave_transaction_open(job: Job) -> None:
    connection.ensure_connection()
    transaction.set_autocommit(False)
    Job.objects.filter(pk=job.pk).update(priority=9)


def begin_in_sql(job: Job) -> None:
    """Leave a transaction open of which Django knows nothing, and that locks nothing."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")


def break_connection(job: Job) -> None:
    connection.ensure_connection()
    connection.connection.close()


def too_slow(job: Job) -> None:
    record("slow")
    time.sleep(60)


async def too_slow_async(job: Job) -> None:
    record("slow")
    await asyncio.sleep(60)


def write_an_effect(job: Job) -> None:
    """Leave an effect in the jobs' database: a row."""
    record(f"effect {job.attempts}")
    Failure.objects.create(
        job=job,
        failed=timezone.now(),
        worker="x",
        task="effect",
        attempt=1,
        exception="",
        traceback="",
    )
    if job.workspace.get("fail"):
        raise ValueError("after the effect")
    if job.workspace.get("lose"):
        Job.objects.using("default").filter(pk=job.pk).update(state="READY", run_after=None)
        job.workspace["lose"] = False


def cancel_itself(job: Job) -> None:
    record(f"cancelling {job.is_cancelled()}")
    Job.objects.get(pk=job.pk).cancel()
    record(f"cancelled {job.is_cancelled()}")


def look_whose(job: Job) -> None:
    record(f"mine {job.still_mine()}")
    Job.objects.filter(pk=job.pk).update(claim_token=None, state="FAILED")
    record(f"mine {job.still_mine()}")


def veto(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(priority=9)
    transaction.set_rollback(True)


def leave_block(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(priority=9)
    transaction.atomic().__enter__()


def end_block(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(priority=9)
    connection.savepoint_ids.append("never begun")


def close_connection(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(priority=9)
    connection.close()


def swallow_error(job: Job) -> None:
    with suppress(Error), connection.cursor() as cursor:
        cursor.execute("SELECT no_such_function()")


def fail_on_commit(job: Job) -> None:
    transaction.on_commit(tell_nobody)


def tell_nobody() -> None:
    raise LookupError("there is nobody")


class Evil(dict[str, object]):
    """A value whose own code raises."""

    def items(self) -> Any:
        raise RuntimeError("no items for you")


def write_evil(job: Job) -> None:
    job.workspace["bad"] = Evil(a=1)


def raise_malformed(job: Job) -> None:
    raise SyntaxError("x", ("f", 1, "not a number", "t"))  # type: ignore[arg-type]


async def count_jobs_async(job: Job) -> None:
    job.workspace["count"] = await Job.objects.acount()


def cancel_and_snooze(job: Job) -> None:
    Job.objects.get(pk=job.pk).cancel()
    raise Snooze("in an hour", in_=3600)
