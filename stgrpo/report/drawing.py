"""Kitchens as SVG: stations in rows, food stacked on them, the robot in front of its station.

The shapes stand once in the page (`SYMBOLS`); every picture only places them, so hundreds of pictures stay small.
"""

import dataclasses
import html
import math
import re
from collections.abc import Collection, Sequence

from stgrpo.report.kitchen import Kitchen, Robot, Thing

CELL = 92  # width of a station's column
FOOD_W, FOOD_H = 74, 17
COUNTER_H = 30
LANE = 62  # the robot's floor below a row of stations
COLUMNS = 4
MARGIN = 6

# kind -> (path of the shape in a box of 74 x 17, fill, colour of the label)
_SHAPES = {
    "topbun": ("M2 17V13C2 3 20 0 37 0S72 3 72 13V17Z", "#d99a4e", "#3b2208"),
    "bottombun": ("M2 1H72V7C72 14 66 17 58 17H16C8 17 2 14 2 7Z", "#d99a4e", "#3b2208"),
    "bread": ("M5 1H69C75 5 73 11 71 17H3C1 11 -1 5 5 1Z", "#e6bd82", "#3b2208"),
    "patty": ("M9 1H65C75 1 75 17 65 17H9C-1 17 -1 1 9 1Z", "#b5564d", "#fff"),
    "chicken": ("M9 1H60C72 0 76 10 68 16C50 18 20 17 9 17C-1 16 -1 2 9 1Z", "#ebc9a0", "#3b2208"),
    "cheese": ("M1 3H73L70 10L58 9L48 16L38 9L14 10L4 11Z", "#f6c945", "#3b2a00"),
    "lettuce": ("M1 8C5 0 10 6 14 3S24 1 29 4S40 0 46 3S58 0 62 4S72 3 73 8C74 15 66 13 62 16S50 14 44 17S32 14 26 16"
                "S14 15 11 15S-1 16 1 8Z", "#7dbb4f", "#12300a"),
    "tomato": ("M9 2H65C75 3 75 16 65 17H9C-1 16 -1 3 9 2Z", "#dd4a3c", "#fff"),
    "onion": ("M9 2H65C75 3 75 16 65 17H9C-1 16 -1 3 9 2Z", "#c9a2d6", "#33143f"),
    "potato": ("M14 2C26 -1 44 3 58 1C74 1 76 16 62 17C46 16 30 18 14 17C-2 16 -2 4 14 2Z", "#b98b56", "#2d1a05"),
    "pot": ("M0 3H74V6H67V13C67 16 65 17 62 17H12C9 17 7 16 7 13V6H0Z", "#7b8794", "#fff"),
    "bowl": ("M2 3H72C70 12 58 17 37 17S4 12 2 3Z", "#e8edf2", "#26313c"),
    "other": ("M4 1H70V17H4Z", "#9aa5b1", "#16202a"),
}  # fmt: skip
_COOKED = {"patty": ("#6b3f2a", "#fff"), "chicken": ("#c98a3f", "#2d1a05")}
# kind -> (fill of the counter, what is drawn on its front)
_COUNTERS = {
    "table": ("#a9754a", '<path d="M6 14H82M6 22H60" stroke="#0003" fill="none"/>'),
    "stove": ("#4a5058", '<circle cx="14" cy="19" r="6" fill="none" stroke="#ff7a45" stroke-width="2.5"/>'),
    "board": ("#4f8a68", '<rect x="7" y="13" width="14" height="11" rx="2" fill="#e9d3a8"/>'),
    "fryer": ("#6d6f9c", '<path d="M7 13H21L19 25H9ZM10 13V25M14 13V25M18 13V25" stroke="#dfe3ff" fill="none"/>'),
    "sink": ("#3f7fa6", '<path d="M7 16H21C21 22 18 25 14 25S7 22 7 16Z" fill="#cdeaff"/>'),
    "other": ("#6b7280", ""),
}
_ROBOT = (
    '<symbol id="robot" viewBox="0 0 40 50"><path d="M20 8V2" stroke="#64748b" stroke-width="2"/>'
    '<circle cx="20" cy="3" r="3" fill="#ef6c3e"/><rect x="6" y="8" width="28" height="20" rx="7" fill="#94a3b8"/>'
    '<rect x="10" y="13" width="20" height="10" rx="5" fill="#1e293b"/><circle cx="16" cy="18" r="2.4" fill="#7dd3fc"/>'
    '<circle cx="24" cy="18" r="2.4" fill="#7dd3fc"/><rect x="9" y="30" width="22" height="14" rx="5" fill="#64748b"/>'
    '<path d="M9 34L3 40M31 34L38 31" stroke="#64748b" stroke-width="3.5" stroke-linecap="round"/>'
    '<path d="M14 44V49M26 44V49" stroke="#475569" stroke-width="4"/></symbol>'
)


def _symbol(name: str, path: str, fill: str) -> str:
    box = f'id="food-{name}" viewBox="0 0 {FOOD_W} {FOOD_H}"'
    return f'<symbol {box}><path d="{path}" fill="{fill}" stroke="#0005" stroke-width=".8"/></symbol>'


def symbols() -> str:
    """The shapes that `draw_kitchen` places; once a page."""
    food = [_symbol(kind, path, fill) for kind, (path, fill, _) in _SHAPES.items()]
    food += [_symbol(f"{kind}-cooked", _SHAPES[kind][0], fill) for kind, (fill, _) in _COOKED.items()]
    counters = [
        f'<symbol id="counter-{kind}" viewBox="0 0 88 {COUNTER_H}"><rect width="88" height="{COUNTER_H}" rx="4" '
        f'fill="{fill}"/><rect width="88" height="7" rx="3" fill="#fff4"/>{front}</symbol>'
        for kind, (fill, front) in _COUNTERS.items()
    ]
    return f'<svg width="0" height="0" class="defs" aria-hidden="true">{_ROBOT}{"".join(food + counters)}</svg>'


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Where things go in a picture: `rows` of `columns` stations, each with room for `tallest` things."""

    columns: int
    rows: int
    tallest: int

    @property
    def row_height(self) -> int:
        return self.tallest * FOOD_H + COUNTER_H + LANE + 4

    @property
    def size(self) -> tuple[int, int]:
        return self.columns * CELL + 2 * MARGIN, self.rows * self.row_height + MARGIN

    def counter(self, index: int) -> tuple[int, int]:
        """The upper left corner of a station's counter."""
        row, column = divmod(index, self.columns)
        return MARGIN + column * CELL + 2, MARGIN + row * self.row_height + self.tallest * FOOD_H


def _grid(kitchen: Kitchen, tallest: int) -> _Grid:
    count = len(kitchen.stations)
    rows = math.ceil(count / COLUMNS)
    return _Grid(math.ceil(count / rows), rows, max([tallest, *(len(s.stack) for s in kitchen.stations)]))


def _food(thing: Thing, x: float, y: float, focus: Collection[str]) -> str:
    kind = thing.kind if thing.kind in _SHAPES else "other"
    colour, symbol = _SHAPES[kind][2], kind
    if kind in _COOKED and ("cooked" in thing.marks or "fried" in thing.marks):
        colour, symbol = _COOKED[kind][1], f"{kind}-cooked"
    name, marks = html.escape(thing.name), ", ".join((*thing.marks, *thing.contents))
    ring = f'<rect class="focus" x="{x - 2}" y="{y - 1}" width="{FOOD_W + 4}" height="{FOOD_H + 2}" rx="5"/>'
    return (
        f"<g><title>{name}{html.escape(f' ({marks})') if marks else ''}</title>"
        f'<use href="#food-{symbol}" x="{x}" y="{y}" width="{FOOD_W}" height="{FOOD_H}"/>'
        f'<text x="{x + FOOD_W / 2}" y="{y + 12.5}" fill="{colour}" class="name">{name}</text>'
        f"{ring if thing.name in focus else ''}</g>"
    )


def _station(kitchen: Kitchen, index: int, grid: _Grid, focus: Collection[str]) -> str:
    station = kitchen.stations[index]
    x, y = grid.counter(index)
    kind = station.kind if station.kind in _COUNTERS else "other"
    ring = f'<rect class="focus" x="{x - 1}" y="{y - 1}" width="90" height="{COUNTER_H + 2}" rx="5"/>'
    food = [_food(thing, x + 7, y - FOOD_H * (level + 1), focus) for level, thing in enumerate(station.stack)]
    return (
        f'<use href="#counter-{kind}" x="{x}" y="{y}" width="88" height="{COUNTER_H}"/>'
        f'<text x="{x + 50}" y="{y + 22}" class="name" fill="#fff">{html.escape(station.name)}</text>'
        f"{ring if station.name in focus else ''}{''.join(food)}"
    )


def _robot(robot: Robot, kitchen: Kitchen, grid: _Grid, focus: Collection[str]) -> str:
    names = [station.name for station in kitchen.stations]
    if robot.station not in names:
        return ""
    x, y = grid.counter(names.index(robot.station))
    held = _food(robot.held, x + 14, y + COUNTER_H + 4, focus) if robot.held else ""
    return (
        f"<g><title>{html.escape(robot.name)} at {html.escape(robot.station)}</title>"
        f'<use href="#robot" x="{x}" y="{y + COUNTER_H + 12}" width="38" height="46"/></g>{held}'
    )


def _arrow(kitchen: Kitchen, grid: _Grid, action: str) -> str:
    """The way of a "Move": from below one counter to below the other."""
    names = [station.name for station in kitchen.stations]
    move = re.fullmatch(r"Move \w+ from (\w+) to (\w+)", action)
    if move is None or move[1] not in names or move[2] not in names:
        return ""
    (ax, ay), (bx, by) = (grid.counter(names.index(name)) for name in move.groups())
    ax, ay, bx, by = ax + 42, ay + COUNTER_H + 44, bx + 44, by + COUNTER_H + 8
    path = f"M{ax} {ay}Q{(ax + bx) / 2} {max(ay, by) + 12} {bx} {by + 3}"
    return f'<path class="way" d="{path}"/><path class="tip" d="M{bx} {by - 4}l6 10h-12Z"/>'


def describe(kitchen: Kitchen) -> str:
    """The picture in words, for those who do not see it."""
    parts = [f"{s.name}: {', '.join(t.name for t in s.stack) or 'empty'}" for s in kitchen.stations]
    parts += [f"{r.name} at {r.station} holding {r.held.name if r.held else 'nothing'}" for r in kitchen.robots]
    return "; ".join(parts)


def draw_kitchen(kitchen: Kitchen, *, action: str = "", tallest: int = 2) -> str:
    """One state as SVG.

    Args:
        kitchen: the state.
        action: what is about to be done: a move gets an arrow, other things that it names are ringed.
        tallest: room for this many things on a station, so that all pictures of an episode are of one size.
    """
    grid = _grid(kitchen, tallest)
    width, height = grid.size
    focus = frozenset() if action.startswith("Move ") else frozenset(re.findall(r"\w+", action))
    parts: Sequence[str] = [
        *(_station(kitchen, index, grid, focus) for index in range(len(kitchen.stations))),
        *(_robot(robot, kitchen, grid, focus) for robot in kitchen.robots),
        _arrow(kitchen, grid, action),
    ]
    label = html.escape(describe(kitchen), quote=True)
    view = f'viewBox="0 0 {width} {height}" width="{round(1.3 * width)}"'
    return f'<svg class="kitchen" role="img" aria-label="{label}" {view}>{"".join(parts)}</svg>'
