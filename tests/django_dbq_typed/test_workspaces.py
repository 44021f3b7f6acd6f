"""Whether a workspace has changed since it was read: no change that its JSON shows goes unseen."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, field_serializer

from django_dbq_typed.workspaces import as_read, has_changed


class Flat(BaseModel):
    """Of fields that cannot change in their place."""

    number: float = 1.0
    amount: Decimal = Decimal("1.0")
    at: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)
    anything: Any = 1
    text: str | None = "a long enough text"


class Deep(BaseModel):
    items: list[int] = [1]
    inner: Flat = Flat()


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    number: int = 1


class Counting(BaseModel):
    """Its JSON depends on what is no field."""

    number: int = 1
    _count: int = PrivateAttr(default=0)

    @field_serializer("number")
    def counted(self, number: int) -> int:
        return number + self._count

    def increase(self) -> None:
        self._count += 1


class Remembering(BaseModel):
    number: int = 1

    @cached_property
    def double(self) -> int:
        return 2 * self.number


def set_to(**values: Any) -> Callable[[BaseModel], None]:
    def change(workspace: BaseModel) -> None:
        for name, value in values.items():
            setattr(workspace, name, value)

    return change


@pytest.mark.parametrize(
    "workspace", [Flat(), Deep(), Open(number=2), Open.model_validate({"more": [1]}), Counting()]
)
def test_what_is_left_alone_has_not_changed(workspace: BaseModel) -> None:
    before = as_read(workspace)

    assert not has_changed(workspace, before)


@pytest.mark.parametrize(
    ("workspace", "change"),
    [
        (Flat(), set_to(text="another text")),
        (Flat(), set_to(text=None)),
        # What is equal, and is not the same as JSON.
        (Flat(), set_to(anything=True)),
        (Flat(), set_to(anything=1.0)),
        (Flat(number=0.0), set_to(number=-0.0)),
        (Flat(), set_to(amount=Decimal("1.00"))),
        (Flat(), set_to(at=datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))))),
        (Flat(), lambda workspace: delattr(workspace, "text")),
        # What changes in its place.
        (Flat(anything=[1]), lambda workspace: workspace.anything.append(2)),
        (Deep(), lambda workspace: workspace.items.append(2)),
        (Deep(), lambda workspace: setattr(workspace.inner, "text", "other")),
        # What is no field.
        (Open(), set_to(more=1)),
        (Open.model_validate({"more": 1}), set_to(more=2)),
        (Counting(), Counting.increase),
    ],
)
def test_what_its_json_shows_is_a_change(
    workspace: BaseModel, change: Callable[[Any], None]
) -> None:
    workspace = workspace.model_copy(deep=True)
    before = as_read(workspace)

    change(workspace)

    assert has_changed(workspace, before)


def test_fields_that_trade_places_are_a_change() -> None:
    workspace = Flat(anything="a")
    before = as_read(workspace)

    anything, text = workspace.anything, workspace.text
    del workspace.anything
    workspace.text = anything
    workspace.anything = text

    assert has_changed(workspace, before)


def test_a_field_that_was_missing_is_a_change() -> None:
    workspace = Flat.model_construct(text="of old")
    del workspace.number
    before = as_read(workspace)
    assert not has_changed(workspace, before)

    workspace.number = 1.0

    assert has_changed(workspace, before)


def test_what_a_model_remembers_of_its_fields_is_no_change() -> None:
    workspace = Remembering()
    before = as_read(workspace)

    assert workspace.double == 2
    assert not has_changed(workspace, before)
