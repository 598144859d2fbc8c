"""Figures in the words of the report."""

import math


def number(value: object, digits: int = 3) -> str:
    """A number for people: three significant digits, a dash for nothing, thousands kept whole."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == 0 or isinstance(value, int) or abs(value) >= 10**digits:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.{digits}g}"
    return f"{value:.{digits}g}"


def percent(value: object) -> str:
    """A rate as a percentage, a dash for nothing."""
    return f"{100 * value:.{0 if value in (0, 1) else 1}f} %" if isinstance(value, int | float) else "–"


def interval(bounds: tuple[float, float]) -> str:
    """The interval of a rate in whole per cent."""
    return f"{100 * bounds[0]:.0f}–{100 * bounds[1]:.0f} %"


def steps(value: object) -> str:
    """A mean number of steps, as the paper prints it."""
    return f"{value:.1f}" if isinstance(value, int | float) else "–"


def decimals(value: object, sign: str = "") -> str:
    """Three digits after the point, a dash for nothing; what rounds to zero has no sign of its own."""
    return f"{round(value, 3) + 0.0:{sign}.3f}" if isinstance(value, int | float) else "–"


def money(value: float | None) -> str:
    """A sum with cents, a dash for nothing."""
    return "–" if value is None else f"{value:,.2f}"


def p_value(p: float) -> str:
    """A p-value with its sign, as it stands in a sentence."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def task_title(task: str) -> str:
    """The name of a task as it begins a heading."""
    return task.replace("_", " ").capitalize()
