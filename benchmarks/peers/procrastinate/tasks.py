"""The application and its job, in a module of their own as Procrastinate wants them."""

import os
from functools import cache

from procrastinate import App, JobContext, PsycopgConnector
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

SCHEMA = "procrastinate"
CONNECTIONS = 4
URL = make_conninfo(os.environ["DATABASE_URL"], options=f"-c search_path={SCHEMA}")


def _pool(check, **options):
    # The connector has every connection checked each time, which is a round trip more.
    return AsyncConnectionPool(**options)


app = App(
    connector=PsycopgConnector(
        conninfo=URL, pool_factory=_pool, min_size=CONNECTIONS, max_size=CONNECTIONS
    )
)


@cache
def record_file() -> int:
    """Return the file where each job notes its start, opened once."""
    return os.open(os.environ["DBQ_BENCHMARK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.task(name="noop", pass_context=True)
async def noop(context: JobContext) -> None:
    """Note the start."""
    os.write(record_file(), b"%032x\n" % context.job.id)
