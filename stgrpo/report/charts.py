"""Line charts, measured out for chart.html: axis, ticks, faint measurements under their running mean."""

import dataclasses
import math
from collections.abc import Sequence

from stgrpo.files import to_json
from stgrpo.report.text import number

Point = tuple[float, float]

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26
MAX_POINTS = 240
SMOOTH_FROM = 40  # with fewer points the line is drawn as it is


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: its label, its points in the order of x, and where it has a band the least and the greatest at each."""

    label: str
    points: tuple[Point, ...]
    band: tuple[tuple[float, float, float], ...] = ()


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover [low, high]; two or more."""
    if not high > low:
        pad = abs(low) * 0.1
        low, high = (low - pad, high + pad) if pad else (0.0, 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points: means of equal runs of neighbours."""
    size = math.ceil(len(points) / most)
    runs = [points[i : i + size] for i in range(0, len(points), size)] if size > 1 else [[p] for p in points]
    return [(run[-1][0], sum(y for _, y in run) / len(run)) for run in runs]


def running_mean(points: Sequence[Point]) -> list[Point]:
    """The mean over a twentieth of the points around each, fewer at the ends, so that it lags nowhere."""
    half = max(1, len(points) // 40)
    windows = [points[max(0, i - half) : i + half + 1] for i in range(len(points))]
    return [(x, sum(y for _, y in window) / len(window)) for (x, _), window in zip(points, windows, strict=True)]


def tick_label(value: float, step: float) -> str:
    """A tick's number in as few characters as tell it from a neighbour `step` away."""
    if abs(value) < step / 2:
        return "0"
    if step < 1e-5:
        return f"{value:.1e}".replace("e-0", "e-")
    if step >= 1000:
        power, suffix = (1e6, "M") if step >= 1e6 else (1e3, "k")
        return f"{value / power:g}{suffix}"
    return f"{value:.{max(0, math.ceil(-math.log10(step) - 1e-9))}f}"


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Maps the data's rectangle to the chart's."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return round(LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{self.x(x):g} {self.y(y):g}" for x, y in points)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line as it is drawn.

    Attributes:
        index: of its colour.
        path: of the line; "" for a single point.
        raw: path of the measurements that `path` is the mean of; "" where it is they.
        dots: its points, where they are few.
        band: outline of the area around it; "" where it has none.
    """

    index: int
    path: str
    raw: str
    dots: tuple[Point, ...]
    band: str = ""


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart in the coordinates of its picture.

    Attributes:
        title: heading of the chart.
        summary: the same and its values in a sentence.
        legend: label and last value of each line.
        x_ticks, y_ticks: where on the axis, and the number there.
        points: for the script, the values under the pointer as JSON.
        note: one sentence on how to read it.
        x_name: what the horizontal axis counts.
    """

    title: str
    summary: str
    legend: tuple[tuple[str, float], ...]
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    points: str
    note: str
    x_name: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def _line(series: Series, scale: _Scale, index: int) -> Line:
    points, band = thin(series.points), _band(series, scale)
    if len(points) >= SMOOTH_FROM:
        return Line(index, scale.path(running_mean(points)), "" if band else scale.path(points), (), band)
    dots = tuple((scale.x(x), scale.y(y)) for x, y in points)
    return Line(index, scale.path(points) if len(points) > 1 else "", "", dots, band)


def _band(series: Series, scale: _Scale) -> str:
    """The outline of a band: along its lower edge and back along the upper one, each smoothed as the line is."""
    if len(series.band) < 2:
        return ""
    edges = [thin([(x, ends[side]) for x, *ends in series.band]) for side in (0, 1)]
    low, high = (running_mean(edge) if len(edge) >= SMOOTH_FROM else edge for edge in edges)
    return f"{scale.path([*low, *reversed(high)])}Z"


def _summary(title: str, series: Sequence[Series], x_name: str) -> str:
    parts = []
    for one in series:
        (x0, y0), (x1, y1) = one.points[0], one.points[-1]
        ys = [y for _, y in one.points]
        start = f"{one.label}: {number(y0)} at {x_name} {number(x0, 9)}, {number(y1)} at {x_name} {number(x1, 9)}"
        parts.append(f"{start}, lowest {number(min(ys))}, highest {number(max(ys))}")
    return f"{title}. {'; '.join(parts)}."


def _scale(series: Sequence[Series]) -> tuple[_Scale, list[float], list[float]]:
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points] + [y for one in series for _, *ends in one.band for y in ends]
    y_ticks = nice_ticks(min(ys), max(ys))
    x0, x1 = min(xs), max(xs)
    x1 = x1 if x1 > x0 else x0 + 1
    return _Scale(x0, x1, y_ticks[0], y_ticks[-1]), nice_ticks(x0, x1, 5), y_ticks


def line_chart(title: str, series: Sequence[Series], *, note: str = "", x_name: str = "step") -> Chart | None:
    """A chart with its title, its last values and, under the pointer, the values there.

    Args:
        title: heading of the chart.
        series: at least one line; empty lines are left out.
        note: one sentence on how to read it.
        x_name: what the horizontal axis counts.

    Returns:
        The chart; None where there is nothing to draw.
    """
    series = [one for one in series if one.points]
    if not series:
        return None
    scale, x_ticks, y_ticks = _scale(series)
    x_step, y_step = x_ticks[1] - x_ticks[0], y_ticks[1] - y_ticks[0]
    data = [{"l": one.label, "p": [[x, float(f"{y:.4g}"), scale.x(x)] for x, y in thin(one.points)]} for one in series]
    return Chart(
        title=title,
        summary=_summary(title, series, x_name),
        legend=tuple((one.label, one.points[-1][1]) for one in series),
        lines=tuple(_line(one, scale, index) for index, one in enumerate(series)),
        x_ticks=tuple((scale.x(t), tick_label(t, x_step)) for t in x_ticks if scale.x0 <= t <= scale.x1),
        y_ticks=tuple((scale.y(t), tick_label(t, y_step)) for t in y_ticks),
        points=to_json(data),
        note=note,
        x_name=x_name,
    )
