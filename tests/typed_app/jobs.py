"""The typed jobs of the tests, some of them twins of plain entries in ``tests.jobs``."""

from pydantic import BaseModel, ConfigDict, SecretStr

from django_dbq_typed import JobContext, job, step
from tests import tasks


class Welcome(BaseModel):
    user_id: int
    sent: bool = False


@job(name="welcome", queue="mail", priority=1)
def welcome(context: JobContext[Welcome]) -> None:
    tasks.record(f"welcome {context.workspace.user_id}")
    context.workspace.sent = True


class Talk(BaseModel):
    message: str | None = None
    heard: str | None = None


@step
def first(context: JobContext[Talk]) -> None:
    tasks.record(f"first {context.id}")
    context.workspace.message = "Hello, task 2!"


@step
def second(context: JobContext[Talk]) -> None:
    tasks.record(f"second {context.id}")
    context.workspace.heard = context.workspace.message


@step
async def third(context: JobContext[Talk]) -> None:
    tasks.record(f"third {context.id}")


talk = job(name="talk", steps=[first, second, third])


class Hooked(BaseModel):
    fail: bool = False
    reached: bool = False


@job(name="typed_hooked")
def hooked(context: JobContext[Hooked]) -> None:
    tasks.record(f"task {context.job.state}")
    context.workspace.reached = True
    if context.workspace.fail:
        raise ValueError("the task failed")


@hooked.creation_hook
def on_creation(context: JobContext[Hooked]) -> None:
    tasks.record(f"creation_hook {context.job.state}")


@hooked.pre_task_hook
def before(context: JobContext[Hooked]) -> None:
    tasks.record(f"pre_task_hook {context.job.state}")


@hooked.post_task_hook
def after(context: JobContext[Hooked]) -> None:
    tasks.record(f"post_task_hook {context.job.state}")


@hooked.failure_hook
def failed(context: JobContext[Hooked], error: Exception) -> None:
    tasks.record(f"failure_hook {context.job.state} {type(error).__name__}")


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    password: SecretStr
    checked: bool = False


@job(name="login")
def login(context: JobContext[Login]) -> None:
    tasks.record(f"login {context.workspace.password.get_secret_value()}")
    context.workspace.checked = True


class Count(BaseModel):
    number: int


@job(name="spoil")
def spoil(context: JobContext[Count]) -> None:
    tasks.record("spoil")
    context.workspace.number = "many"  # type: ignore[assignment]


class Address(BaseModel):
    """Version 3: it was one line of text once, and then had no country."""

    street: str
    city: str
    country: str


@job(name="post", version=3)
def post(context: JobContext[Address]) -> None:
    tasks.record(f"post {context.workspace.street}, {context.workspace.city}")


@post.upgrade(from_version=1)
def from_one_line(stored: dict[str, object]) -> dict[str, object]:
    street, city = str(stored["address"]).split(", ")
    return {"street": street, "city": city}


@post.upgrade(from_version=2)
def from_no_country(stored: dict[str, object]) -> dict[str, object]:
    return {**stored, "country": "IT"}
