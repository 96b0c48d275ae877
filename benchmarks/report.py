"""What the figures say: the page, the README's block, the plot, and what has to hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.figures import ALLOW_ANY, BESIDE, OURS, SIMPLEJWT, STATELESS, Figure

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "explanation" / "speed.json"
PAGE = ROOT / "docs" / "explanation" / "speed.md"
PLOT = ROOT / "docs" / "explanation" / "speed.svg"
README = ROOT / "README.md"
COMMAND = "tox run -e bench"

BEGIN = "<!-- What `tox run -e bench` measured: it writes this, up to the next mark. -->"
END = "<!-- Up to here. -->"
NOT_MEASURED = "not measured"

# Colours that can be read on white and on nearly black.
WORDS, OUR_BARS, OTHER_BARS = "#7d8590", "#2f81f7", "#9aa4b2"

# Of a figure: its table, its case, its contender.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Part:
    """What one part measured, when, with what, on which machine; or why it did not."""

    name: str
    date: str
    versions: Mapping[str, str]
    machine: str
    figures: Sequence[Figure] = ()
    not_measured: str | None = None


@dataclass(frozen=True)
class Requirement:
    """A figure that has to be at most *bound*, or at least, beside another or by itself."""

    what: str
    beside: str
    figure: Key
    other: Key | None
    bound: str
    is_floor: bool = False
    # Worth telling to whoever reads the README alone.
    is_headline: bool = False

    def measured(self, found: Mapping[Key, Figure]) -> float | None:
        """Return the value, or the ratio to that of the other, if there is one."""
        if self.figure not in found:
            return None
        if self.other is None:
            return found[self.figure].value
        return ratio(found[self.figure], found.get(self.other))

    def holds(self, measured: float) -> bool:
        """Tell whether *measured* is what it has to be."""
        bound = float(Fraction(self.bound))
        return measured >= bound if self.is_floor else measured <= bound


WARM, COLD = "authenticate(), warm", "authenticate(), cold"
REQUEST = "A whole DRF request, added to AllowAny"
SERVER = "Requests per second, gunicorn"
GROWTH = "Growth: PostgreSQL"
ALGORITHMS = ["HS256", "RS256", "ES256", "EdDSA", "JWE"]
DATABASES = ["SQLite", "PostgreSQL"]


def _warm(contender: str, bound: str) -> Requirement:
    return Requirement(
        "time of `authenticate()`, called by hand, a token that was seen before",
        contender,
        (WARM, "HS256", OURS),
        (WARM, "HS256", contender),
        bound,
        is_headline=True,
    )


def _cold(algorithm: str) -> Requirement:
    return Requirement(
        f"time of `authenticate()`, a new token, {algorithm}",
        "bare `jwt.decode` with the same demands",
        (COLD, algorithm, OURS),
        (COLD, algorithm, "jwt.decode"),
        "1.25",
    )


def _refresh(database: str) -> Requirement:
    case = f"{database}, 1 client"
    return Requirement(
        f"time of a refresh, {database}",
        "simplejwt, rotation and blacklist",
        ("Refresh", case, OURS),
        ("Refresh", case, SIMPLEJWT),
        "1/3",
        is_headline=True,
    )


def _login(database: str) -> Requirement:
    table, case = "Login, without the hash", f"{database}, 1 client"
    # The same work: ours notes each login on the user's row, and counts tries by itself.
    other = f"{SIMPLEJWT}, UPDATE_LAST_LOGIN"
    return Requirement(
        f"time of a login without the password's hash and without `THROTTLE_RATES`, {database}",
        other,
        (table, case, f"{OURS}, no THROTTLE_RATES"),
        (table, case, other),
        "1.1",
    )


def _growth(case: str, what: str) -> Requirement:
    return Requirement(
        f"time of {what}, among 10,000,000 sessions",
        f"{OURS}, among 10,000",
        (GROWTH, f"{case}, 10,000,000 sessions", OURS),
        (GROWTH, f"{case}, 10,000 sessions", OURS),
        "1.5",
    )


REQUIREMENTS = [
    _warm(STATELESS, "1/25"),
    _warm(SIMPLEJWT, "1/150"),
    Requirement(
        "statements to the database, by the same", "", (WARM, "statements", OURS), None, "0"
    ),
    Requirement(
        "time added to a DRF request, with DRF's own renderers",
        STATELESS,
        (REQUEST, "DRF's own renderers", OURS),
        (REQUEST, "DRF's own renderers", STATELESS),
        "1/10",
        is_headline=True,
    ),
    *map(_cold, ALGORITHMS),
    *map(_refresh, DATABASES),
    *map(_login, DATABASES),
    Requirement(
        "requests per second, gunicorn, PostgreSQL, with DRF's own renderers",
        "a view that asks nobody (`AllowAny`)",
        (SERVER, "a DRF view", OURS),
        (SERVER, BESIDE, OURS),
        "0.93",
        is_floor=True,
        is_headline=True,
    ),
    Requirement(
        "requests per second, gunicorn, PostgreSQL, with DRF's own renderers",
        SIMPLEJWT,
        (SERVER, "a DRF view", OURS),
        (SERVER, "a DRF view", SIMPLEJWT),
        "2",
        is_floor=True,
        is_headline=True,
    ),
    _growth("refresh", "a refresh"),
    _growth("authenticate, token not seen before", "`authenticate()`"),
]

# The panels of the plot: a table, a case, and a title that says what is good.
PLOTTED = [
    (WARM, "HS256", "Time of authenticate(), a token that was seen before"),
    (REQUEST, "DRF's own renderers", "Time added to a DRF request"),
    ("Refresh", "PostgreSQL, 1 client", "Time of a refresh on PostgreSQL"),
    (SERVER, "a DRF view", "Requests per second, gunicorn on PostgreSQL"),
]


def load(path: Path) -> list[Part]:
    """Return what save() has written."""
    return [
        Part(**{**one, "figures": [Figure(**figure) for figure in one["figures"]]})
        for one in json.loads(path.read_text("utf-8"))
    ]


def save(parts: Iterable[Part], path: Path) -> None:
    """Write *parts* to a file."""
    written = json.dumps([asdict(one) for one in parts], indent=1, ensure_ascii=False)
    path.write_text(written + "\n", "utf-8")


def by_key(parts: Iterable[Part]) -> dict[Key, Figure]:
    """Return the figures of all *parts*.

    Raises:
        ValueError: two figures of one name; one of them would be shown by chance.
    """
    found: dict[Key, Figure] = {}
    for part in parts:
        for one in part.figures:
            key = (one.table, one.case, one.contender)
            if key in found:
                raise ValueError(f"measured twice: {key}")
            found[key] = one
    return found


def ratio(figure: Figure, other: Figure | None) -> float | None:
    """Return *figure* divided by *other*, unless there is nothing to divide by."""
    return figure.value / other.value if other is not None and other.value > 0 else None


def fraction(value: float | None) -> str:
    """Show a ratio, a small one as 1/n."""
    if value is None:
        return "–"
    return f"1/{number(1 / value)}" if 0 < value < 0.4 else number(value)


def number(value: float) -> str:
    """Show three digits of *value*, and all in front of the point."""
    if value == int(value):
        return f"{int(value):,}"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(0, 3 - whole)}f}" if abs(value) >= 0.01 else f"{value:.2g}"


def amount(figure: Figure) -> str:
    """Show the value and its unit."""
    return f"{number(figure.value)} {figure.unit}".strip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """Return the lines of a table, the first *left* columns of which are words."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return [f"| {' | '.join(row)} |" for row in [head, rule, *rows]]


def floor_of(figure: Figure, found: Mapping[Key, Figure]) -> Figure | None:
    """Return what asked nobody, in the same server or else in the same case."""
    if figure.case == BESIDE or figure.contender == ALLOW_ANY:
        return None
    beside = found.get((figure.table, BESIDE, figure.contender))
    return beside or found.get((figure.table, figure.case, ALLOW_ANY))


def measured_table(name: str, found: Mapping[Key, Figure]) -> list[str]:
    """Return one table of figures, each beside the floor and both of simplejwt's."""
    figures = [one for one in found.values() if one.table == name]
    cases = list(dict.fromkeys(one.case for one in figures))
    figures.sort(key=lambda one: cases.index(one.case))

    def beside(contender: str) -> list[str]:
        others = [found.get((name, one.case, contender)) for one in figures]
        # What asks nobody has nothing to do with simplejwt.
        return [
            "–" if one.case == BESIDE or one.contender == contender else fraction(ratio(one, other))
            for one, other in zip(figures, others, strict=True)
        ]

    columns = {
        "of AllowAny": [fraction(ratio(one, floor_of(one, found))) for one in figures],
        f"of {STATELESS}": beside(STATELESS),
        f"of {SIMPLEJWT}": beside(SIMPLEJWT),
    }
    columns = {head: cells for head, cells in columns.items() if set(cells) != {"–"}}
    rows = [
        [one.case, one.contender, amount(one), *(cells[place] for cells in columns.values())]
        for place, one in enumerate(figures)
    ]
    return [f"### {name}", "", *table(["", "", "value", *columns], rows, 2), ""]


def broken(found: Mapping[Key, Figure]) -> list[Requirement]:
    """Return the requirements that were measured and do not hold."""
    values = [(one, one.measured(found)) for one in REQUIREMENTS]
    return [one for one, value in values if value is not None and not one.holds(value)]


def unmeasured(found: Mapping[Key, Figure]) -> list[Requirement]:
    """Return the requirements for which there are no figures."""
    return [one for one in REQUIREMENTS if one.measured(found) is None]


def requirements(found: Mapping[Key, Figure]) -> list[str]:
    """Return the table of what has to hold, and whether it does."""
    rows = []
    for one in REQUIREMENTS:
        value = one.measured(found)
        bound = f"{'≥' if one.is_floor else '≤'} {one.bound}"
        holds = NOT_MEASURED if value is None else ("yes" if one.holds(value) else "**no**")
        rows.append([one.what, one.beside, fraction(value), bound, holds])
    return table(["", "beside", "measured", "has to be", "holds"], rows, 2)


def origin(parts: Sequence[Part]) -> list[str]:
    """Say when, where and with what each part was measured."""
    lines = []
    groups: dict[tuple[str, str, str], list[str]] = {}
    for part in parts:
        if part.not_measured is None:
            versions = ", ".join(f"{name} {value}" for name, value in part.versions.items())
            groups.setdefault((part.date, part.machine, versions), []).append(part.name)
    for (date, machine, versions), names in groups.items():
        lines.append(f"- {date}, {machine}; {versions}: {'; '.join(names)}.")
    missing = [one for one in parts if one.not_measured is not None]
    return lines + [f"- {one.name}: {NOT_MEASURED}: {one.not_measured}." for one in missing]


def page(parts: Sequence[Part]) -> str:
    """Return what the page says between its marks."""
    found = by_key(parts)
    lines = ["## What it has to show", "", *requirements(found), ""]
    lines += ["## What was measured", "", *origin(parts), ""]
    for name in dict.fromkeys(one.table for one in found.values()):
        lines += measured_table(name, found)
    return "\n".join(lines)


def block(parts: Sequence[Part]) -> str:
    """Return what the README says between its marks."""
    found = by_key(parts)
    rows = []
    for one in REQUIREMENTS:
        value = one.measured(found)
        if one.is_headline:
            rows.append([one.what, one.beside, NOT_MEASURED if value is None else fraction(value)])
    lines = table(["", "beside", f"{OURS}, as a ratio"], rows, 2)
    runs = sorted({(part.date, part.machine) for part in parts if part.not_measured is None})
    where = "; ".join(f"{date}, {machine}" for date, machine in runs)
    return "\n".join([*lines, "", f"`{COMMAND}`, {where}.", ""])


def inserted(text: str, written: str) -> str:
    """Return *text* with *written* between its marks.

    Raises:
        ValueError: *text* does not have each mark once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError("the marks are not there, or not once")
    return f"{before}{BEGIN}\n\n{written}\n{END}{after}"


def plotted(found: Mapping[Key, Figure]) -> dict[str, list[Figure]]:
    """Return the panels of the plot that there are figures for: title → figures."""
    panels = {
        title: [
            # There is no place for a zero on its scale.
            one
            for one in found.values()
            if (one.table, one.case) == (name, case) and one.value > 0
        ]
        for name, case, title in PLOTTED
    }
    return {title: figures for title, figures in panels.items() if figures}


def description(found: Mapping[Key, Figure]) -> str:
    """Say what the plot shows, for whoever does not see it; the file carries it."""
    return "; ".join(
        f"{title}: " + ", ".join(f"{one.contender} {amount(one)}" for one in figures)
        for title, figures in plotted(found).items()
    )


def draw(parts: Sequence[Part], path: Path) -> None:
    """Write the plot: a panel of bars for each of PLOTTED, on logarithmic scales."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    found = by_key(parts)
    panels = plotted(found)
    if not panels:
        path.unlink(missing_ok=True)
        return
    heights = [len(figures) + 1.5 for figures in panels.values()]
    with pyplot.rc_context({"svg.hashsalt": "jwt_auth", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(
            len(panels),
            figsize=(7.5, 0.27 * sum(heights)),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        for (title, figures), axis in zip(panels.items(), axes[:, 0], strict=True):
            _panel(axis, title, figures)
        figure.savefig(
            path,
            transparent=True,
            metadata={"Date": None, "Creator": None, "Description": description(found)},
        )
        pyplot.close(figure)


def _panel(axis: Any, title: str, figures: list[Figure]) -> None:
    values = [one.value for one in figures]
    bars = axis.barh(
        [one.contender for one in figures],
        values,
        color=[OUR_BARS if one.contender == OURS else OTHER_BARS for one in figures],
        height=0.7,
    )
    axis.bar_label(bars, [amount(one) for one in figures], padding=4, color=WORDS)
    axis.set_xscale("log")
    # Bars have to begin somewhere, and the longest needs room for its value.
    axis.set_xlim(min(values) / 4, max(values) * (max(values) / min(values) * 4) ** 0.18)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", color=WORDS, fontsize=9, fontweight="bold")
    axis.tick_params(axis="y", length=0, colors=WORDS)
    axis.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    axis.spines[:].set_visible(False)


def write(parts: Sequence[Part]) -> None:
    """Write the figures, the page, the README's block and the plot."""
    save(parts, FIGURES)
    draw(parts, PLOT)
    for path, written in [(PAGE, page(parts)), (README, block(parts))]:
        path.write_text(inserted(path.read_text("utf-8"), written), "utf-8")
