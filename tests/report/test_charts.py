import json
import xml.etree.ElementTree as ET

import pytest

from stgrpo.report.charts import Series, line_chart, nice_ticks, running_mean, thin, tick_label
from stgrpo.report.curves import training_view
from stgrpo.report.rendering import render


@pytest.mark.parametrize(
    "low, high, ticks",
    [
        (0, 1, [0, 0.5, 1]),
        (0.1, 3.9, [0, 1, 2, 3, 4]),
        (0, 0, [0, 0.5, 1]),
        (-3, 5, [-4, -2, 0, 2, 4, 6]),
        (0, 30000, [0, 10000, 20000, 30000]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    "low, high", [(0.9996, 1.0002), (0, 1e-9), (5, 5), (-2e-7, 3e7), (1171, 1172), (0, 5e-4), (1.5e6, 2.5e6)]
)
def test_tick_labels_tell_neighbours_apart(low, high):
    ticks = nice_ticks(low, high)
    step = ticks[1] - ticks[0]
    labels = [tick_label(tick, step) for tick in ticks]
    assert len(set(labels)) == len(labels) >= 2
    assert ticks[0] <= low + 1e-6 * step and ticks[-1] >= high - 1e-6 * step


def test_thinning_keeps_the_mean_and_the_last_step():
    points = [(float(i), float(i % 7)) for i in range(1000)]
    few = thin(points, 240)
    assert len(few) == 200 and few[-1][0] == 999
    assert sum(y for _, y in few) / len(few) == pytest.approx(sum(y for _, y in points) / len(points))
    assert thin(points[:100], 240) == points[:100]


def test_the_running_mean_of_a_line_is_the_line():
    line = [(float(i), 2.0 * i) for i in range(100)]
    assert [y for _, y in running_mean(line)[10:90]] == pytest.approx([y for _, y in line[10:90]])


def drawn(title: str, series: list[Series], note: str = "") -> str:
    return render("chart.html", chart=line_chart(title, series, note=note))


def svg_of(chart: str) -> ET.Element:
    start = chart.index("<svg")
    return ET.fromstring(chart[start : chart.index("</svg>") + 6])


def test_a_chart_is_within_its_frame_and_carries_its_values():
    svg = svg_of(drawn("Loss", [Series("last", tuple((i, 1 / i) for i in range(1, 30)))]))
    numbers = [float(n) for n in svg.find("path[@class='s0 line']").get("d")[1:].replace("L", " ").split()]
    assert all(0 <= x <= 340 for x in numbers[::2]) and all(0 <= y <= 190 for y in numbers[1::2])
    assert numbers[1] < numbers[-1], "a falling loss falls on the screen, where y grows downwards"
    points = json.loads(svg.get("data-points"))[0]["p"]
    assert points[0][:2] == [1, 1.0] and points[-1][:2] == [29, 0.03448]
    assert "1 at step 1, 0.0345 at step 29, lowest 0.0345, highest 1" in svg.get("aria-label")


def test_one_point_is_a_dot_and_no_point_is_no_chart():
    assert "<circle" in drawn("x", [Series("last", ((3, 0.5),))])
    assert line_chart("x", [Series("last", ())]) is None


def test_titles_and_labels_are_escaped():
    chart = drawn("<b>", [Series('"><script>', ((1, 2), (2, 3)))], note="<i>")
    assert "<b>" not in chart.replace("<b>2", "").replace("<b>3", "") and "<script>" not in chart and "<i>" not in chart
    svg_of(chart)


def test_known_curves_come_first_and_unknown_ones_are_not_lost():
    rows = [{"step": i, "novelty": i * 2, "reward": 0.5, "kl": 0.1, "constant": 3} for i in range(5)]
    curves = {"grpo": rows, "odd_stage": [{"step": 1, "x": 2}, {"step": 2, "x": 3}]}
    page = render("training.html", training=training_view(curves))
    order = [page.index(f"<h4>{title}</h4>") for title in ("Reward", "KL to the SFT policy", "Novelty")]
    assert order == sorted(order) and "Constant" not in page and "odd_stage" in page
    assert "no step of stage “sft”" in page
