"""Whatever pydantic can put into JSON survives: created, through three steps, read back."""

import enum
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from io import StringIO
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    SecretBytes,
    SecretStr,
    ValidationError,
    computed_field,
)
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from django_dbq.models import Job
from django_dbq_typed import JobContext, job, step

T = TypeVar("T")

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


class Colour(enum.Enum):
    RED = "red"
    BLUE = 7


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    good: bool


class Nested(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    token: SecretStr | None = None


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")

    day: date
    moment: datetime
    hour: time
    span: timedelta
    identifier: uuid.UUID
    amount: Decimal
    colour: Colour
    number: float
    big: int
    path: Path
    address: IPv4Address
    password: SecretStr
    key: SecretBytes
    nested: Nested
    by_name: dict[str, Nested]
    pair: tuple[int, str]
    tags: frozenset[str]
    data: bytes
    anything: Any
    one_alias: str = Field(alias="oneAlias")
    two_aliases: int = Field(validation_alias="read_as", serialization_alias="written_as")
    maybe: int | None = None
    step: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> float:
        return self.number * 2


json_values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text | st.lists(text)
pets = st.lists(
    st.builds(Cat, lives=st.integers(0, 9)) | st.builds(Dog, good=st.booleans()), max_size=3
)
nested = st.builds(Nested, pets=pets, token=st.none() | st.builds(SecretStr, text))
everything = st.builds(
    Everything,
    day=st.dates(),
    moment=st.datetimes(timezones=st.just(UTC)),
    hour=st.times(),
    span=st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    identifier=st.uuids(),
    amount=st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9)),
    colour=st.sampled_from(Colour),
    number=st.floats(allow_nan=False, allow_infinity=False, width=32),
    big=st.integers(-(2**53), 2**53),
    path=text.filter(bool).map(Path),
    address=st.ip_addresses(v=4),
    password=st.builds(SecretStr, text),
    key=st.builds(SecretBytes, text.map(str.encode)),
    nested=nested,
    by_name=st.dictionaries(text, nested, max_size=2),
    pair=st.tuples(st.integers(-9, 9), text),
    tags=st.frozensets(text, max_size=3),
    data=text.map(str.encode),
    anything=json_values,
    oneAlias=text,
    read_as=st.integers(-9, 9),
    maybe=st.none() | st.integers(-9, 9),
)


@step
def one(context: JobContext[Everything]) -> None:
    context.workspace.step += 1


@step
def two(context: JobContext[Everything]) -> None:
    context.workspace.step += 1


@step
def three(context: JobContext[Everything]) -> None:
    context.workspace.step += 1


everything_job = job(name="everything", steps=[one, two, three])


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    day: date
    identifier: uuid.UUID
    tags: set[str]


@job(name="strict")
def strict(context: JobContext[Strict]) -> None: ...


def finished(job: Job) -> Job:
    call_command("worker", burst=True, rate_limit=0, stdout=StringIO())
    job.refresh_from_db()
    assert job.state == Job.STATES.COMPLETE, job.error
    return job


@pytest.mark.django_db
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(workspace=everything)
def test_everything_survives_three_steps(workspace: Everything) -> None:
    row = finished(everything_job.enqueue(workspace=workspace.model_copy(deep=True)))
    assert everything_job.workspace_of(row) == workspace.model_copy(update={"step": 3})


@pytest.mark.django_db
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(workspace=st.builds(Strict, day=st.dates(), identifier=st.uuids(), tags=st.sets(text)))
def test_a_strict_and_frozen_model_survives(workspace: Strict) -> None:
    assert strict.workspace_of(finished(strict.enqueue(workspace=workspace))) == workspace


class Numbers(RootModel[list[int]]):
    """A workspace that is no dict."""


@job(name="numbers")
def double(context: JobContext[Numbers]) -> None:
    context.workspace.root.append(sum(context.workspace.root))


@pytest.mark.django_db
def test_a_root_model_survives() -> None:
    row = finished(double.enqueue(workspace=Numbers([1, 2])))
    assert row.workspace == [1, 2, 3]
    assert double.workspace_of(row) == Numbers([1, 2, 3])


class Renamed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user_name: str = Field(alias="userName")
    age: int = Field(validation_alias="years", serialization_alias="AGE")


@job(name="renamed")
def renamed(context: JobContext[Renamed]) -> None:
    context.workspace.age += 1


@pytest.mark.django_db
@pytest.mark.parametrize("given", [{"userName": "ada", "years": 1}, {"user_name": "ada", "age": 1}])
def test_json_by_alias_or_name_is_stored_by_name(given: dict[str, object]) -> None:
    row = Job.objects.create(name="renamed", workspace=given)
    assert row.workspace == {"user_name": "ada", "age": 1}
    assert finished(row).workspace == {"user_name": "ada", "age": 2}


class Owl(BaseModel):
    kind: Literal["owl"] = Field("owl", alias="petKind")
    age: int = Field(alias="petAge")


class Toad(BaseModel):
    kind: Literal["toad"] = Field("toad", alias="petKind")


class Bag(TypedDict):
    size: Annotated[int, Field(alias="bagSize")]


@dataclass
class Wand:
    wood: Annotated[str, Field(alias="madeOf")]


class Pupil(BaseModel):
    pet: Annotated[Owl | Toad, Field(discriminator="kind", alias="thePet")]
    bag: Bag
    wand: Wand
    marks: Json[list[int]]


@job(name="pupil")
def teach(context: JobContext[Pupil]) -> None:
    context.workspace.marks.append(1)


@pytest.mark.django_db
def test_aliases_survive_however_deep_and_as_what_discriminates() -> None:
    given = {
        "thePet": {"petKind": "owl", "petAge": 3},
        "bag": {"bagSize": 2},
        "wand": {"madeOf": "oak"},
        "marks": "[6]",
    }
    pupil = Pupil.model_validate(given)
    for row in (teach.enqueue(workspace=pupil), Job.objects.create(name="pupil", workspace=given)):
        read = teach.workspace_of(finished(row))
        assert read == pupil.model_copy(update={"marks": [6, 1]})
        assert row.workspace["pet"] == {"kind": "owl", "age": 3}


class Page(BaseModel, Generic[T]):
    items: list[T]


@job(name="page")
def turn(context: JobContext[Page[date]]) -> None:
    context.workspace.items.reverse()


@pytest.mark.django_db
def test_a_generic_model_survives() -> None:
    first, second = date(2026, 1, 1), date(2026, 1, 2)
    row = finished(turn.enqueue(workspace=Page[date](items=[first, second])))
    assert turn.workspace_of(row).items == [second, first]


@pytest.mark.django_db
def test_extra_fields_are_refused_where_the_model_forbids_them() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Job.objects.create(name="renamed", workspace={"userName": "ada", "years": 1, "more": 2})
    assert not Job.objects.exists()
