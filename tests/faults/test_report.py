"""What the fault suite says at its end."""

from io import StringIO

import pytest

from tests.faults.__main__ import _report
from tests.faults.suite import result_of


def test_ends_with_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long log often no more than the end is kept."""
    monkeypatch.delenv("DBQ_REQUIRED_DATABASES", raising=False)
    results = [
        result_of("sqlite", 1, "first", "FAILED", "ValueError('why')\nTraceback ..."),
        result_of("sqlite", 2, "second", "ok", "2 starts"),
    ]
    out = StringIO()

    assert _report(results, 3.0, out) == 1

    _, passed, failed, total = out.getvalue().splitlines()
    assert passed.endswith("second: 2 starts")
    assert failed.endswith("first: ValueError('why')")
    assert total == "2 scenarios in 3 s, 1 of them FAILED"
