"""The JOBS of the tests, for tests and worker processes alike."""

JOBS: dict[str, object] = {
    "noop": ["tests.tasks.noop"],
    "hold": ["tests.tasks.hold"],
    "hold_async": ["tests.tasks.hold_async"],
    "count_jobs_async": ["tests.tasks.count_jobs_async"],
    "fail_async": ["tests.tasks.fail_async"],
    "exit_async": ["tests.tasks.exit_async"],
    "hash_for_long": ["tests.tasks.hash_for_long"],
    "stuck": {
        "tasks": ["tests.tasks.hold_the_interpreter"],
        "timeout": 0.1,
        "on_lost": "fail",
    },
    "stuck_for_ever": ["tests.tasks.hold_the_interpreter"],
    "kill_own_worker": ["tests.tasks.kill_own_worker"],
    "nap": ["tests.tasks.nap"],
    "note": ["tests.tasks.note"],
    "three": ["tests.tasks.first", "tests.tasks.second", "tests.tasks.third"],
    "sleep": ["tests.tasks.sleep", "tests.tasks.noop"],
    "wait_for_file": ["tests.tasks.wait_for_file"],
    "query": ["tests.tasks.query"],
    "use_processes": ["tests.tasks.use_processes"],
    "terminate_own_worker": ["tests.tasks.terminate_own_worker"],
    "hooked": {
        "tasks": ["tests.tasks.noop"],
        "creation_hook": "tests.tasks.creation_hook",
        "pre_task_hook": "tests.tasks.pre_task_hook",
        "post_task_hook": "tests.tasks.post_task_hook",
        "failure_hook": "tests.tasks.failure_hook",
    },
    "failing": {
        "tasks": ["tests.tasks.fail"],
        "pre_task_hook": "tests.tasks.pre_task_hook",
        "post_task_hook": "tests.tasks.post_task_hook",
        "failure_hook": "tests.tasks.failure_hook",
    },
}
