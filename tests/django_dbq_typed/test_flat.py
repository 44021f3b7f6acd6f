"""Which models are known to be flat: no workspace that can change in its place is among theirs."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    PrivateAttr,
    RootModel,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from django_dbq_typed.flat import all_are_flat, is_flat


class Plain(BaseModel):
    text: str
    number: int = 1
    share: float | None = None
    done: bool = False
    nothing: None = None
    day: date = date(2026, 1, 1)
    at: datetime
    hour: time = time(1)
    pause: timedelta = timedelta(1)
    amount: Decimal = Decimal(1)
    key: UUID


class Constrained(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, StringConstraints(strip_whitespace=True), Field(max_length=9)] = Field("a")
    count: PositiveInt = 1
    since: AwareDatetime | None = None


class Deferred(BaseModel):
    model_config = ConfigDict(defer_build=True)

    number: int = 1


class WithList(BaseModel):
    items: list[int] = [1]


class WithAnything(BaseModel):
    anything: Any = 1


class WithModel(BaseModel):
    inner: Deferred = Deferred()


class WithSecret(BaseModel):
    password: SecretStr = SecretStr("x")


class WithChoice(BaseModel):
    kind: Literal["a"] = "a"


class WithUnion(BaseModel):
    many: int | list[int] = 1


class WithUnfittingDefault(BaseModel):
    number: int = Field(default=[1])  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


class WithFactory(BaseModel):
    number: int = Field(default_factory=list)  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


class WithExtra(BaseModel):
    model_config = ConfigDict(extra="allow")

    number: int = 1


class WithPrivate(BaseModel):
    number: int = 1
    _more: list[int] = PrivateAttr(default_factory=list[int])


class Itself(BaseModel):
    parent: "Itself | None" = None


class FieldValidated(BaseModel):
    number: int = 1

    @field_validator("number")
    @classmethod
    def listed(cls, number: int) -> Any:
        return [number]


class AnnotationValidated(BaseModel):
    number: Annotated[int, AfterValidator(lambda number: [number])] = 1


class ModelValidated(BaseModel):
    number: int = 1

    @model_validator(mode="after")
    def listed(self) -> "ModelValidated":
        self.__dict__["number"] = [1]
        return self


class Initialised(BaseModel):
    number: int = 1

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.__dict__["number"] = [1]


class Completed(BaseModel):
    number: int = 1

    def model_post_init(self, context: Any, /) -> None:
        self.__dict__["number"] = [1]


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            Plain,
            '{"text": "a", "share": 1, "at": "2026-01-01T12:00:00Z",'
            ' "key": "00000000-0000-0000-0000-000000000001"}',
        ),
        (Constrained, '{"since": "2026-01-01T12:00:00+01:00"}'),
        (Deferred, "{}"),
    ],
)
def test_models_of_plain_fields_all_are_flat(model: type[BaseModel], text: str) -> None:
    assert all_are_flat(model)
    assert is_flat(model.model_validate_json(text))


@pytest.mark.parametrize(
    "model",
    [
        WithList, WithAnything, WithModel, WithSecret, WithChoice, WithUnion, WithUnfittingDefault,
        WithFactory, WithExtra, WithPrivate, Itself, RootModel[int], FieldValidated,
        AnnotationValidated, ModelValidated, Initialised, Completed,
    ],
)  # fmt: skip
def test_others_are_asked_one_by_one(model: type[BaseModel]) -> None:
    assert not all_are_flat(model)
