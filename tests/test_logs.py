"""Records about one subject are bounded."""

from __future__ import annotations

import pytest

from jwt_auth.logs import MAX_RECORDS, MAX_SUBJECTS, PERIOD_SECONDS, RecordLimit


class Monotonic:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Monotonic:
    return Monotonic()


@pytest.fixture
def records(clock: Monotonic) -> RecordLimit:
    return RecordLimit(clock)


def test_records_about_one_subject_are_bounded(records: RecordLimit) -> None:
    allowed = [records.allows("reuse", 1) for _ in range(50)]
    assert allowed == [True] * MAX_RECORDS + [False] * (50 - MAX_RECORDS)


def test_other_subjects_and_kinds_have_records_of_their_own(records: RecordLimit) -> None:
    for _ in range(50):
        records.allows("reuse", 1)
    assert records.allows("reuse", 2)
    assert records.allows("no access token", 1)


def test_limit_begins_anew_after_its_period(records: RecordLimit, clock: Monotonic) -> None:
    for _ in range(50):
        records.allows("reuse", 1)
    clock.now += PERIOD_SECONDS - 1
    assert not records.allows("reuse", 1)
    clock.now += 1
    assert records.allows("reuse", 1)


def test_reached_limit_is_logged_once(
    records: RecordLimit, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        records.allows("reuse", "a\n" * 100)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("More than 10 records within an hour: reuse, 'a\\na\\n")
    assert len(line) < 200


def test_subjects_take_bounded_memory(records: RecordLimit) -> None:
    for subject in range(3 * MAX_SUBJECTS):
        assert records.allows("reuse", subject)
    assert len(records._counts) <= MAX_SUBJECTS
