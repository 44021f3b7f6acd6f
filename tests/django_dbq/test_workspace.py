"""Workspaces that no database could hold are refused, whichever way they are written."""

import json
import math
import uuid
from datetime import date
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_dbq import workspace as workspaces
from django_dbq.errors import WorkspaceError
from django_dbq.models import Job
from django_dbq.workspace import MAX_DEPTH, encode_workspace


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def containing_itself(**values: object) -> object:
    value: dict[str, object] = {"a": "x" * 1_000_000, **values}
    value["me"] = [value]
    return value


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc\"'\\é", max_size=4), inner)
    ),
    max_leaves=10,
)

REFUSED = [
    ({"a": math.nan}, r"workspace\['a'\] is nan"),
    ({"a": [1, math.inf]}, r"workspace\['a'\]\[1\] is inf"),
    ({"a": "x\0y"}, r"workspace\['a'\] holds a NUL"),
    ({"x\0y": 1}, "a key of workspace holds a NUL"),
    ({"a": "\ud800"}, "half of a surrogate pair"),
    ({"a": b"x"}, r"workspace\['a'\] is of type bytes"),
    ({"a": {1, 2}}, r"workspace\['a'\] is of type set"),
    ({"a": date(2026, 1, 1)}, r"workspace\['a'\] is of type date"),
    ({"a": "x" * 5_000_000}, "5,000,009 bytes as JSON, and 4,194,304 are allowed"),
    (nested(MAX_DEPTH + 1), "nested more than 30 levels"),
    (nested(100_000), "nested too deep"),
    (containing_itself(), "Circular reference"),
    (containing_itself(b={1}), r"workspace\['b'\] is of type set"),
    (containing_itself(a=math.nan), r"workspace\['a'\] is nan"),
    ({(1, 2): 3}, "no JSON"),
    ({"a": 10**5000}, "no JSON"),
]
each_refused = pytest.mark.parametrize(
    ("workspace", "problem"), REFUSED, ids=[problem[:40] for _, problem in REFUSED]
)


@each_refused
def test_what_no_database_can_hold_is_refused_with_its_place(workspace: Any, problem: str) -> None:
    with pytest.raises(WorkspaceError, match=problem):
        encode_workspace(workspace)


@pytest.mark.django_db
@each_refused
def test_a_refused_workspace_leaves_no_row(workspace: Any, problem: str) -> None:
    with pytest.raises(WorkspaceError, match=problem):
        Job.objects.create(name="noop", workspace=workspace)
    with pytest.raises(WorkspaceError, match=problem):
        Job.objects.bulk_enqueue([Job(name="noop"), Job(name="noop", workspace=workspace)])
    # Only here does the error come out of a query, which breaks the block that it is in.
    with pytest.raises(WorkspaceError, match=problem), transaction.atomic():
        Job.objects.bulk_create([Job(name="noop", workspace=workspace)])
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_update_refuses_it_too() -> None:
    job = Job.objects.create(name="noop", workspace={"a": 1})
    with pytest.raises(WorkspaceError), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(workspace={"a": math.nan})
    job.refresh_from_db()
    assert job.workspace == {"a": 1}


@pytest.mark.django_db
def test_the_deepest_workspace_that_is_accepted_is_stored() -> None:
    job = Job.objects.create(name="noop", workspace=nested(MAX_DEPTH))
    job.refresh_from_db()
    assert job.workspace == nested(MAX_DEPTH)


def test_brackets_in_strings_are_no_nesting() -> None:
    assert json.loads(encode_workspace(["[" * 100, r"\u0000 written out"]))[0] == "[" * 100


def test_what_is_stored_already_passes() -> None:
    with override_settings(DBQ={"MAX_WORKSPACE_BYTES": 10}):
        assert encode_workspace({"a": "x" * 20}, stored=json.dumps({"a": "x" * 20}))


@pytest.mark.parametrize(
    ("value", "is_stored"), [(1, True), (True, False), (1.0, False), (2, False)]
)
def test_what_the_database_wrote_in_its_own_way_is_still_stored(
    value: object, is_stored: bool
) -> None:
    stored = '{"a":1, "b": "é"}'
    text = encode_workspace({"a": value, "b": "é"}, stored=stored)
    assert (text is stored) == is_stored
    assert json.loads(text)["a"] == value


@pytest.mark.parametrize("workspace", [{"é": ("x",)}, {"é": [1], 1: 2}])
def test_what_is_the_same_json_is_no_change(workspace: Any) -> None:
    stored = json.dumps(workspace, ensure_ascii=False)
    assert encode_workspace(workspace, stored=stored) is stored


def test_a_value_may_encode_another_one() -> None:
    class Odd(dict[str, object]):
        def items(self) -> Any:
            with pytest.raises(WorkspaceError):
                encode_workspace({"a": {1}})
            return super().items()

    assert encode_workspace({"a": [Odd(b=1)]}) == '{"a": [{"b": 1}]}'


def test_what_was_refused_can_be_mended() -> None:
    workspace: dict[str, Any] = {"a": {"b": {1}}}
    with pytest.raises(WorkspaceError):
        encode_workspace(workspace)
    workspace["a"]["b"] = 1
    assert encode_workspace(workspace) == '{"a": {"b": 1}}'


@given(json_values)
@pytest.mark.parametrize("maker", ["in C", "as json has it"])
def test_a_workspace_is_written_as_json_writes_it(maker: str, value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if maker != "in C":
            patch.setattr(json.encoder, "c_make_encoder", None)
        patch.setattr(workspaces, "_encoding", workspaces._Encoding())
        assert encode_workspace(value) == json.dumps(value)


@pytest.mark.parametrize("text", ['{"a": [1]}', ' {"a":[1]}', '{"a": [1]} \n', "{}", "[]", '"a"'])
def test_a_workspace_is_read_as_json_reads_it(text: str) -> None:
    assert workspaces.decode_workspace(text) == json.loads(text)


@pytest.mark.parametrize("text", ["", " ", "{", '{"a": 1} 2', "nothing"])
def test_what_is_no_json_is_not_read(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        workspaces.decode_workspace(text)


def test_the_limit_is_a_setting() -> None:
    with override_settings(DBQ={"MAX_WORKSPACE_BYTES": 10}), pytest.raises(WorkspaceError):
        encode_workspace({"a": "x" * 20})


@given(json_values)
def test_any_json_encodes_and_decodes_to_itself(value: object) -> None:
    assert json.loads(encode_workspace(value)) == value


@pytest.mark.django_db
def test_json_survives_the_database() -> None:
    workspace = {
        "text": "é \u2028 \U0001f600 \\u0000 \"'",
        "n": [1, 1.5, None, True],
        "o": {"": {}},
    }
    job = Job.objects.create(name="noop", workspace=workspace)
    assert Job.objects.get(pk=job.pk).workspace == workspace


@pytest.mark.django_db
def test_a_workspace_can_be_queried() -> None:
    mine = Job.objects.create(name="noop", workspace={"user_id": 7})
    Job.objects.create(name="noop", workspace={"user_id": 8})
    assert list(Job.objects.filter(workspace__user_id=7)) == [mine]
    assert Job.objects.values_list("workspace__user_id", flat=True).get(pk=mine.pk) == 7


@pytest.mark.django_db
def test_a_null_reads_as_an_empty_workspace() -> None:
    job = Job.objects.create(name="noop")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_dbq_job SET workspace = NULL")
    assert Job.objects.get(pk=job.pk).workspace == {}


@pytest.mark.django_db
def test_a_missing_workspace_becomes_an_empty_one() -> None:
    assert Job.objects.create(name="noop").workspace == {}
    assert Job.objects.create(name="noop", workspace=None).workspace == {}


def test_uuids_are_named_as_what_they_are() -> None:
    with pytest.raises(WorkspaceError, match="of type UUID"):
        encode_workspace({"id": uuid.uuid4()})
