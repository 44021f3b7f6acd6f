import pytest

from django_dbq.logs import logfmt


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        (7, "7"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('a "quote"', r'"a \"quote\""'),
        ("a\nevent=forged", r'"a\nevent=forged"'),
        ("tab\t", r'"tab\t"'),
    ],
)
def test_a_value_is_one_value_on_one_line(value: object, written: str) -> None:
    assert logfmt(event="done", value=value, id=1) == f"event=done value={written} id=1"
