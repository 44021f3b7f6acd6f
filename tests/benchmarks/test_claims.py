"""The tables of the claim's benchmark take turns, as all that is compared does."""

from types import SimpleNamespace

import pytest

from benchmarks import claims


class NoConnections(dict[str, SimpleNamespace]):
    def __missing__(self, alias: str) -> SimpleNamespace:
        return SimpleNamespace(close=lambda: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(claims, "connections", NoConnections())
    monkeypatch.setattr("django_dbq.backends.backend_for", lambda _: SimpleNamespace(open=list))
    return asked


def test_each_round_has_all_tables_and_another_first(asked: list[str]) -> None:
    def measure(using: str) -> float:
        asked.append(using)
        return float(len(asked))

    times = claims.take_turns({"small": "a", "large": "b", "largest": "c"}, measure)
    rounds = [asked[begin : begin + 3] for begin in range(0, len(asked), 3)]
    assert rounds == [list("abc"), list("bca"), list("cab"), list("abc"), list("bca")]
    assert {name: len(values) for name, values in times.items()} == {
        "small": 5,
        "large": 5,
        "largest": 5,
    }
    assert times["large"] == [2.0, 4.0, 9.0, 11.0, 13.0]
