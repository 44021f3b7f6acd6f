"""Secrets are found wherever a model has them, stored in clear, and shown to nobody."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypeVar

import pytest
from django.core.management import call_command
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    ValidationError,
    create_model,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType, TypedDict

from django_dbq import registry
from django_dbq.errors import WorkspaceError
from django_dbq.models import Job
from django_dbq_typed import JobContext, job
from django_dbq_typed.secrets import has_secrets
from django_dbq_typed.workspaces import check

T = TypeVar("T")


class Birthday(Secret[date]):
    def _display(self) -> str:
        return "****-**-**"


@dataclass
class InADataclass:
    password: "SecretStr"


class InATypedDict(TypedDict):
    password: NotRequired[SecretStr]


class InATuple(NamedTuple):
    password: SecretStr


class Of(BaseModel, Generic[T]):
    value: T


class Tree(BaseModel):
    branches: list["Tree"] = []
    label: str = ""


class SecretTree(BaseModel):
    branches: list["SecretTree"] = []
    label: SecretStr | None = None


Password = NewType("Password", SecretStr)
Passwords = TypeAliasType("Passwords", dict[str, SecretStr])


@pytest.mark.parametrize(
    "kind",
    [
        SecretStr,
        SecretBytes,
        Secret[int],
        Birthday,
        SecretStr | None,
        dict[str, list[Secret[int] | None]],
        SkipJsonSchema[SecretStr],
        Annotated[SecretStr, Field(json_schema_extra={"format": "token"})],
        InADataclass,
        InATypedDict,
        InATuple,
        Of[SecretStr],
        SecretTree,
        Password,
        Passwords,
        RootModel[list[SecretStr]],
    ],
    ids=str,
)
def test_are_found_wherever_they_are(kind: Any) -> None:
    assert has_secrets(create_model("Model", field=(kind, ...)))


@pytest.mark.parametrize(
    "kind",
    [
        int, str, Any, JsonValue, Path, Tree, Of[int], Literal["password"], tuple[int, ...],
        Annotated[str, Field(json_schema_extra={"format": "password"})], Callable[[], int],
    ],
    ids=str,
)  # fmt: skip
def test_are_not_found_where_there_are_none(kind: Any) -> None:
    assert not has_secrets(create_model("Model", field=(kind, ...)))


WRONG: Any = ["hunter2"]


class Vault(BaseModel):
    model_config = ConfigDict(validate_assignment=True)

    pin: Secret[int]
    birthday: Birthday
    hidden: SkipJsonSchema[SecretStr]
    keys: list[InADataclass] = []
    opened: bool = False


@job(name="open_vault")
def open_vault(context: JobContext[Vault]) -> None:
    if context.workspace.opened:
        context.workspace.hidden = WRONG
    context.workspace.opened = True


@pytest.fixture
def vault() -> Vault:
    return Vault(
        pin=Secret(4711),
        birthday=Birthday(date(1815, 12, 10)),
        hidden=SecretStr("hunter2"),
        keys=[InADataclass(SecretStr("skeleton"))],
    )


def finished(row: Job) -> Job:
    call_command("worker", burst=True, rate_limit=0, stdout=StringIO())
    row.refresh_from_db()
    return row


@pytest.mark.django_db
def test_of_every_kind_survive_and_are_concealed(vault: Vault) -> None:
    row = finished(open_vault.enqueue(workspace=vault))
    assert row.state == Job.STATES.COMPLETE, row.error
    assert row.workspace == {
        "pin": 4711,
        "birthday": "1815-12-10",
        "hidden": "hunter2",
        "keys": [{"password": "skeleton"}],
        "opened": True,
    }
    read = open_vault.workspace_of(row)
    assert (read.pin.get_secret_value(), read.hidden.get_secret_value()) == (4711, "hunter2")
    rules = registry.get("open_vault").workspace
    assert rules is not None
    assert rules.conceal(row.workspace) == {
        "pin": "**********",
        "birthday": "****-**-**",
        "hidden": "**********",
        "keys": [{"password": "**********"}],
        "opened": True,
    }


@pytest.mark.django_db
def test_are_in_no_record_of_an_error_that_a_step_meets_itself(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    vault.opened = True
    row = finished(open_vault.enqueue(workspace=vault))
    assert row.state == Job.STATES.FAILED
    assert "1 validation error for Vault\nhidden\n" in str(row.error)
    assert "context.workspace.hidden = WRONG" in str(row.error)
    assert "hunter2" not in str(row.error)
    assert "hunter2" not in caplog.text


class SecretGreeting(BaseModel):
    name: str


class SealedGreeting(SecretGreeting):
    seal: SecretStr


@job(name="seal")
def seal(context: JobContext[SecretGreeting]) -> None: ...


@pytest.mark.django_db
def test_that_a_subclass_adds_are_not_stored() -> None:
    sealed = SealedGreeting(name="Ada", seal=SecretStr("hunter2"))
    assert seal.enqueue(workspace=sealed).workspace == {"name": "Ada"}


class Picky(BaseModel):
    password: SecretStr

    @model_validator(mode="before")
    @classmethod
    def from_pair(cls, given: Any) -> Any:
        return {"password": given["password"]}


@job(name="picky")
def picky(context: JobContext[Picky]) -> None: ...


def test_are_hidden_whole_where_the_model_raises_what_it_likes() -> None:
    rules = registry.get("picky").workspace
    assert rules is not None
    assert rules.conceal({"pass": "hunter2"}) == "**********"


@pytest.mark.django_db
def test_are_refused_in_json_without_being_shown() -> None:
    with pytest.raises(ValueError, match="of type SecretStr, which is no JSON") as raised:
        Job.objects.create(name="picky", workspace={"password": SecretStr("hunter2")})
    assert not isinstance(raised.value, ValidationError)
    assert "hunter2" not in str(raised.value)


class Anything(BaseModel):
    """Annotations that do not say whether there are secrets."""

    value: Any = None
    values: list = []  # type: ignore[type-arg] # pyright: ignore[reportMissingTypeArgument]
    known: SecretStr = SecretStr("known")


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")


class Tag(BaseModel, frozen=True):
    name: str


@dataclass(frozen=True)
class Label:
    name: str


class Mixed(BaseModel):
    """What comes back as it was, in as many ways as pydantic knows."""

    tags: set[Tag] = set()
    labels: frozenset[Label] = frozenset()
    text: str = ""
    texts: list[str] = []
    several: set[int] = set()
    pair: tuple[int, str] = (1, "a")
    anything: Any = None


class Own(BaseModel):
    """Secrets that are not stored, or in a way of the model's own."""

    left_out: SecretStr | None = Field(None, exclude=True)
    written: SecretStr = SecretStr("a")
    given: InATypedDict = {}
    either: str | SecretStr = ""

    @field_serializer("written")
    def turned_round(self, written: SecretStr) -> str:
        return written.get_secret_value()[::-1]

    @field_validator("written", mode="before")
    @classmethod
    def turned_back(cls, written: Any) -> Any:
        return written[::-1] if isinstance(written, str) else written


def mutated(**values: Any) -> Mixed:
    workspace = Mixed()
    for name, value in values.items():
        setattr(workspace, name, value)
    return workspace


class Holder(BaseModel):
    inside: dict[str, Extra] = {}


@pytest.mark.parametrize(
    ("workspace", "path"),
    [
        (Anything(value=SecretStr("a")), "workspace.value"),
        (Anything(value={"deep": [1, SecretStr("a")]}), "workspace.value.deep.1"),
        (Anything(values=[Birthday(date(2000, 1, 1))]), "workspace.values.0"),
        (Anything(value={SecretStr("a")}), "workspace.value"),
        (mutated(text=SecretStr("a")), "workspace.text"),
        (mutated(texts=["a", SecretStr("a")]), "workspace.texts.1"),
        (Own(left_out=None, either=SecretStr("a")), "workspace.either"),
        (Mixed.model_construct(text=SecretStr("a")), "workspace.text"),
        (Extra.model_validate({"more": SecretBytes(b"a")}), "workspace.more"),
        (
            Holder(inside={"a": Extra.model_validate({"more": SecretStr("a")})}),
            "workspace.inside.a.more",
        ),
    ],
)
def test_a_secret_that_does_not_come_back_as_one_is_refused(
    workspace: BaseModel, path: str
) -> None:
    with pytest.raises(WorkspaceError) as raised:
        check(type(workspace), workspace)
    assert str(raised.value).startswith(f"{path} is a secret")


@pytest.mark.parametrize(
    "workspace",
    [
        Anything(value=[1, {"a": None}], values=["a"]),
        Extra.model_validate({"more": [1]}),
        Holder(inside={"a": Extra.model_validate({"more": 1})}),
        Mixed(
            tags={Tag(name="a"), Tag(name="b")},
            labels=frozenset({Label("a"), Label("b")}),
            several={1, 5},
            anything={"a": [1]},
        ),
    ],
)
def test_what_is_no_secret_may_be_anything(workspace: BaseModel) -> None:
    loaded = type(workspace).model_validate(check(type(workspace), workspace))
    assert loaded == workspace


def test_a_secret_that_only_a_subclass_has_is_not_stored() -> None:
    class Sub(Anything):
        mine: SecretStr = SecretStr("mine")

    assert "mine" not in check(Anything, Sub())


def test_what_a_model_does_with_its_secrets_is_its_own_matter() -> None:
    given = Own(left_out=SecretStr("a"), written=SecretStr("abc"))
    given.given = {"password": SecretStr("b")}
    stored = check(Own, given)
    assert stored == {"written": "cba", "given": {"password": "b"}, "either": ""}
    assert Own.model_validate(stored).written.get_secret_value() == "abc"
