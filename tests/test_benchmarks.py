"""The page and the README say what was measured, and what they conclude follows from it."""

from __future__ import annotations

import html
from dataclasses import replace

import pytest

from benchmarks import report
from benchmarks.__main__ import PARTS, Failed, judged, merged, read
from benchmarks.figures import (
    ALLOW_ANY,
    BESIDE,
    OURS,
    SIMPLEJWT,
    STATELESS,
    Figure,
    typical,
)
from benchmarks.report import Part, Requirement
from benchmarks.servers import BadRun, requests_per_second

TIME = ("a table", "a case", OURS)
OTHER = ("a table", "a case", SIMPLEJWT)
RUN = """Running 2s test @ http://127.0.0.1:8000/view/jwt_auth/
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.68ms    1.03ms  15.74ms   84.31%
    Req/Sec     1.72k   106.91     1.93k    70.00%
  3423 requests in 2.00s, 0.98MB read
Requests/sec:   1709.45
Transfer/sec:    499.20KB
"""


def part(name: str, *figures: Figure, **more: object) -> Part:
    return replace(Part(name, "2026-01-02", {"Python": "3.13"}, "two cores", figures), **more)


def times(**values: float) -> dict[report.Key, Figure]:
    """Return figures of one case: contender → value."""
    return report.by_key(
        [part("x", *(Figure("a table", "a case", name, one, "µs") for name, one in values.items()))]
    )


# What is committed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "written"), [(report.PAGE, report.page), (report.README, report.block)]
)
def test_what_is_committed_is_what_the_command_writes_of_the_figures(path, written):
    text = path.read_text("utf-8")
    assert report.inserted(text, written(report.load(report.FIGURES))) == text


def test_the_plot_is_that_of_the_figures():
    shown = report.description(report.by_key(report.load(report.FIGURES)))
    assert shown
    assert shown in html.unescape(report.PLOT.read_text("utf-8"))


def test_figures_are_read_as_they_were_written(tmp_path):
    parts = [
        part("one", Figure("a table", "a case", OURS, 1.5, "µs")),
        part("two", not_measured="the part failed"),
    ]
    report.save(parts, tmp_path / "figures.json")
    assert [(one.name, list(one.figures)) for one in report.load(tmp_path / "figures.json")] == [
        ("one", [Figure("a table", "a case", OURS, 1.5, "µs")]),
        ("two", []),
    ]


# What is typical -----------------------------------------------------------------------


def test_what_a_round_does_to_all_of_them_is_taken_out():
    even = {"ours": [10.0, 10.0, 10.0], "floor": [4.0, 4.0, 4.0]}
    # The machine was twice as slow in the first round, and three times in the last.
    uneven = {"ours": [20.0, 10.0, 30.0], "floor": [8.0, 4.0, 12.0]}
    assert typical(even) == {"ours": 10, "floor": 4}
    found = typical(uneven)
    assert found["ours"] / found["floor"] == 2.5


def test_what_one_of_them_does_in_a_round_is_not_typical():
    found = typical({"ours": [10.0, 90.0, 10.0], "floor": [4.0] * 3, "other": [7.0] * 3})
    assert found == {"ours": 10, "floor": 4, "other": 7}


# Whether it is what it has to be -------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "is_floor", "holds"),
    [
        (3.99, False, True),
        (4, False, True),
        (4.01, False, False),
        (3.99, True, False),
        (4, True, True),
        (4.01, True, True),
    ],
)
def test_a_ratio_holds_up_to_its_bound_and_at_it(value, is_floor, holds):
    one = Requirement("", "", TIME, OTHER, "1/25", is_floor)
    measured = one.measured(times(jwt_auth=value, simplejwt=100))
    assert measured == pytest.approx(value / 100)
    assert one.holds(measured) is holds


def test_a_figure_by_itself_is_compared_as_it_is():
    one = Requirement("", "", TIME, None, "0")
    assert one.measured(times(jwt_auth=0)) == 0
    assert one.holds(0)
    assert not one.holds(1)


@pytest.mark.parametrize(
    "found", [{}, times(jwt_auth=1), times(simplejwt=1), times(jwt_auth=1, simplejwt=0)]
)
def test_without_both_figures_nothing_is_measured(found):
    assert Requirement("", "", TIME, OTHER, "1").measured(found) is None


def test_the_command_names_what_does_not_hold():
    figures = [Figure(report.WARM, "HS256", name, 10, "µs") for name in (OURS, STATELESS)]
    [wrong] = judged([part("tokens on SQLite", *figures)])
    assert f"beside {STATELESS}: 1, has to be at most 1/25" in wrong


def test_what_was_left_out_is_no_reason_to_fail_and_a_lost_figure_is():
    parts = [part(job.name) for job in PARTS]
    assert len(judged(parts)) == len(report.REQUIREMENTS)
    assert judged([*parts[:-1], replace(parts[-1], not_measured="no wrk")]) == []


def test_every_requirement_is_in_the_table():
    lines = "\n".join(report.requirements({}))
    assert lines.count(report.NOT_MEASURED) == len(report.REQUIREMENTS)


def test_no_figure_stands_for_another():
    twice = Figure("a table", "a case", OURS, 1, "µs")
    with pytest.raises(ValueError, match="measured twice"):
        report.by_key([part("one", twice), part("two", twice)])


# How it is shown -----------------------------------------------------------------------


def test_a_row_has_the_ratios_to_the_floor_and_to_both_classes_of_simplejwt():
    values = {ALLOW_ANY: 200, OURS: 50, STATELESS: 100, SIMPLEJWT: 500}
    assert report.measured_table("a table", times(**values))[2:-1] == [
        "|  |  | value | of AllowAny | of simplejwt, stateless | of simplejwt |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| a case | AllowAny | 200 µs | – | 2 | 0.400 |",
        "| a case | jwt_auth | 50 µs | 1/4 | 0.500 | 1/10 |",
        "| a case | simplejwt, stateless | 100 µs | 0.500 | – | 1/5 |",
        "| a case | simplejwt | 500 µs | 2.50 | 5 | – |",
    ]


def test_a_server_is_compared_with_its_own_floor():
    figures = [
        Figure("Requests", "a view", ALLOW_ANY, 900, "/s"),
        Figure("Requests", BESIDE, OURS, 1000, "/s"),
        Figure("Requests", "a view", OURS, 950, "/s"),
    ]
    lines = report.measured_table("Requests", report.by_key([part("servers", *figures)]))
    assert "| a view | jwt_auth | 950 /s | 0.950 |" in lines
    assert f"| {BESIDE} | jwt_auth | 1,000 /s | – |" in lines


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1 / 30, "1/30"),
        (0.04, "1/25"),
        (0.0402, "1/24.9"),
        (0.932, "0.932"),
        (1, "1"),
        (1.25, "1.25"),
        (-0.02, "-0.020"),
        (1234.5, "1,234"),
        (None, "–"),
    ],
)
def test_small_ratios_are_shown_as_one_to_so_many(value, shown):
    assert report.fraction(value) == shown


def test_each_part_has_its_own_date_and_says_why_it_is_missing():
    parts = [
        part("one"),
        part("two", date="2026-03-04"),
        part("three"),
        part("four", not_measured="wrk is not installed"),
    ]
    assert report.origin(parts) == [
        "- 2026-01-02, two cores; Python 3.13: one; three.",
        "- 2026-03-04, two cores; Python 3.13: two.",
        "- four: not measured: wrk is not installed.",
    ]


@pytest.mark.parametrize(
    "text",
    ["", report.BEGIN, report.END + report.BEGIN, f"{report.BEGIN}{report.END}" * 2],
)
def test_a_page_without_its_marks_is_not_written(text):
    with pytest.raises(ValueError, match="marks"):
        report.inserted(text, "anything")


def test_writing_twice_is_writing_once():
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.inserted(page, "new\n")
    assert once == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.inserted(once, "new\n") == once


# What the parts say --------------------------------------------------------------------


def test_parts_that_were_not_asked_for_keep_what_they_have():
    old = [part(PARTS[2].name), part(PARTS[0].name), part("of a module that is gone")]
    new = {PARTS[2].name: part(PARTS[2].name, not_measured="the part failed")}
    assert merged(new, old) == [old[1], new[PARTS[2].name]]


@pytest.mark.parametrize("reason", ["PostgreSQL does not answer", "the part failed"])
def test_part_that_is_not_measured_keeps_its_old_figures(reason):
    name, figure = PARTS[0].name, Figure("a table", "a case", OURS, 1, "µs")
    old, failed = part(name, figure), part(name, date="2026-03-04", not_measured=reason)
    assert merged({name: failed}, [old]) == [old]
    assert merged({name: failed}, []) == [failed]
    assert merged({name: old}, [failed]) == [old]
    newer = part(name, figure, date="2026-05-06")
    assert merged({name: newer}, [old]) == [newer]


def test_a_part_says_figures_or_why_it_has_none():
    line = '{"table": "t", "case": "c", "contender": "x", "value": 1.0, "unit": ""}\n'
    assert read(line) == ([Figure("t", "c", "x", 1.0, "")], None)
    assert read('{"not_measured": "no wrk"}\n') == ([], "no wrk")


@pytest.mark.parametrize(
    "said",
    ["", "hello\n", "[]\n", "1\n", '{"table": "t"}\n', '{"not_measured": ""}\n'],
)
def test_anything_else_is_a_failure(said):
    with pytest.raises(Failed):
        read(said)


def test_wrk_s_rate_is_read():
    assert requests_per_second(RUN) == 1709.45


@pytest.mark.parametrize(
    "said",
    [
        "",
        "unable to connect to 127.0.0.1:8000 Connection refused\n",
        RUN.replace("1709.45", "0.00"),
        RUN.replace("1709.45", "nan"),
        RUN + RUN,
        RUN.replace("Requests/sec", "  Non-2xx or 3xx responses: 1\nRequests/sec"),
        RUN.replace(
            "Requests/sec", "  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec"
        ),
    ],
)
def test_a_run_with_a_wrong_answer_has_no_rate(said):
    with pytest.raises(BadRun):
        requests_per_second(said)


def test_figures_can_be_handed_over(capsys):
    one = Figure("a table", "a case", OURS, 1.5, "µs")
    one.tell()
    assert read(capsys.readouterr().out) == ([one], None)
