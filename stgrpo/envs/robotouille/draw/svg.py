"""Kitchens as SVG: stations in rows, food stacked on them, the robot in front of its station with what it holds.

What was done to food shows on it: slices where it is cut, grill marks where it is cooked, a golden crust where it is
fried, flames while it cooks. Pots and bowls show their water, what is in it, and whether it boils. The shapes stand
once in a page (`symbols`) and every picture only places them, so hundreds of pictures stay small; `draw_state` makes
one that stands alone.
"""

import dataclasses
import html
import math
import re
from collections.abc import Collection, Sequence

from stgrpo.envs.robotouille.draw.observation import KitchenView, Robot, Station, Thing, read_observation
from stgrpo.errors import UserError
from stgrpo.protocol import Problem, State

CELL = 92  # width of a station's column
FOOD_W, FOOD_H = 74, 17
POT_H = 2 * FOOD_H
COUNTER_H = 30
ROBOT_W, ROBOT_H = 30, 38
LANE = POT_H + ROBOT_H + 6  # the robot's floor below a row of stations, what it holds above its head
COLUMNS, MANY = 4, 12  # one column more for more stations than that
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
    "other": ("M4 1H70V17H4Z", "#9aa5b1", "#16202a"),
}  # fmt: skip
# what was done -> kind -> (fill, colour of the label); the last that applies wins
_DONE = {
    "cooked": {"patty": ("#6b3f2a", "#fff"), "chicken": ("#c98a3f", "#2d1a05")},
    "fried": {"chicken": ("#d08a2e", "#2d1a05"), "potato": ("#f0bf4c", "#3b2208"), "onion": ("#dda545", "#3b2208")},
}
# what was done -> drawn over the food, in its box
_MARKS = {
    "cut": '<path d="M7 2L5 15M12 1L10 16M64 1L62 16M69 2L67 15" stroke="#fff" stroke-width="2.2"/>',
    "cooked": '<path d="M4 5L8 13M9 4L13 13M61 4L65 13M66 4L70 12" stroke="#000b" stroke-width="1.7"/>',
    "fried": '<path d="M7 6H7.1M12 12H12.1M22 3.5H22.1M48 14H48.1M55 3.5H55.1M63 12H63.1M68 6H68.1M30 14H30.1" '
    'stroke="#8a4b10" stroke-width="2.6" stroke-linecap="round"/>',
    "cooking": "".join(
        f'<path d="M{x} 17C{x - 5} 13 {x - 1} 11 {x} 6C{x + 5} 10 {x + 5} 14 {x} 17Z" fill="#ff7a1a" stroke="#fff6"/>'
        for x in (6, 14, 60, 68)
    ),
}
# kind -> (its outline in a box of 74 x 34, fill, the surface of what is in it: left, right and top)
_VESSELS = {
    "pot": ("M1 12H8V8H66V12H73V17H66V29C66 32 64 34 61 34H13C10 34 8 32 8 29V17H1Z", "#7b8794", (13, 61, 12)),
    "bowl": ("M5 10H69C68 24 56 34 37 34S6 24 5 10Z", "#b9c6d3", (12, 62, 13)),
}
# kind -> (fill of the counter, what is drawn on its front)
_COUNTERS = {
    "table": ("#a9754a", '<path d="M6 14H82M6 22H60" stroke="#0003" fill="none"/>'),
    "stove": ("#4a5058", '<circle cx="14" cy="19" r="6" fill="none" stroke="#ff7a45" stroke-width="2.5"/>'),
    "board": ("#4f8a68", '<rect x="7" y="13" width="14" height="11" rx="2" fill="#e9d3a8"/>'),
    "fryer": ("#6d6f9c", '<path d="M7 13H21L19 25H9ZM10 13V25M14 13V25M18 13V25" stroke="#dfe3ff" fill="none"/>'),
    "sink": ("#3f7fa6", '<path d="M7 16H21C21 22 18 25 14 25S7 22 7 16Z" fill="#cdeaff"/>'),
    "other": ("#6b7280", ""),
}
# A page may give its own `--accent` to what is about to be done.
_STYLE = (
    ".kitchen .name{font:600 9.5px system-ui,sans-serif;text-anchor:middle}"
    ".kitchen .focus,.kitchen .way{fill:none;stroke:var(--accent,#cf5424);stroke-width:2.5}"
    ".kitchen .way{stroke-dasharray:5 4}.kitchen .tip{fill:var(--accent,#cf5424)}"
)
_ROBOT = (
    '<symbol id="robot" viewBox="0 0 40 50"><path d="M20 8V2" stroke="#64748b" stroke-width="2"/>'
    '<circle cx="20" cy="3" r="3" fill="#ef6c3e"/><rect x="6" y="8" width="28" height="20" rx="7" fill="#94a3b8"/>'
    '<rect x="10" y="13" width="20" height="10" rx="5" fill="#1e293b"/><circle cx="16" cy="18" r="2.4" fill="#7dd3fc"/>'
    '<circle cx="24" cy="18" r="2.4" fill="#7dd3fc"/><rect x="9" y="30" width="22" height="14" rx="5" fill="#64748b"/>'
    '<path d="M9 34L3 40M31 34L38 31" stroke="#64748b" stroke-width="3.5" stroke-linecap="round"/>'
    '<path d="M14 44V49M26 44V49" stroke="#475569" stroke-width="4"/></symbol>'
)


def _symbol(name: str, height: int, content: str) -> str:
    return f'<symbol id="{name}" viewBox="0 0 {FOOD_W} {height}">{content}</symbol>'


def _outline(path: str, fill: str) -> str:
    return f'<path d="{path}" fill="{fill}" stroke="#0005" stroke-width=".8"/>'


def _shapes() -> dict[str, str]:
    """Every shape by its id."""
    fills = {f"food-{kind}": (kind, fill) for kind, (_, fill, _) in _SHAPES.items()}
    fills |= {f"food-{kind}-{done}": (kind, f) for done, kinds in _DONE.items() for kind, (f, _) in kinds.items()}
    shapes = {"robot": _ROBOT}
    shapes |= {name: _symbol(name, FOOD_H, _outline(_SHAPES[kind][0], fill)) for name, (kind, fill) in fills.items()}
    shapes |= {f"mark-{mark}": _symbol(f"mark-{mark}", FOOD_H, drawn) for mark, drawn in _MARKS.items()}
    shapes |= {f"vessel-{k}": _symbol(f"vessel-{k}", POT_H, _outline(p, fill)) for k, (p, fill, _) in _VESSELS.items()}
    for kind, (fill, front) in _COUNTERS.items():
        shapes[f"counter-{kind}"] = (
            f'<symbol id="counter-{kind}" viewBox="0 0 88 {COUNTER_H}"><rect width="88" height="{COUNTER_H}" rx="4" '
            f'fill="{fill}"/><rect width="88" height="7" rx="3" fill="#fff4"/>{front}</symbol>'
        )
    return shapes


def symbols() -> str:
    """The shapes that `draw_kitchen` places, and the style of its pictures; once a page."""
    hidden = 'width="0" height="0" style="position:absolute" aria-hidden="true"'
    return f"<svg {hidden}><style>{_STYLE}</style>{''.join(_shapes().values())}</svg>"


def _levels(station: Station) -> int:
    """The height of what stands on a station, in pieces of food."""
    return sum(2 if thing.kind in _VESSELS else 1 for thing in station.stack)


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Where things go in a picture: rows of `columns` stations, each row with room for so many pieces of food."""

    columns: int
    levels: tuple[int, ...]

    def _top(self, row: int) -> int:
        return MARGIN + sum(level * FOOD_H + COUNTER_H + LANE for level in self.levels[:row])

    @property
    def size(self) -> tuple[int, int]:
        return self.columns * CELL + 2 * MARGIN, self._top(len(self.levels))

    def counter(self, index: int) -> tuple[int, int]:
        """The upper left corner of a station's counter."""
        row, column = divmod(index, self.columns)
        return MARGIN + column * CELL + 2, self._top(row) + self.levels[row] * FOOD_H


def _grid(kitchen: KitchenView, tallest: int) -> _Grid:
    count = len(kitchen.stations)
    most = COLUMNS + (count > MANY)
    columns = math.ceil(count / math.ceil(count / most))
    rows = [kitchen.stations[first : first + columns] for first in range(0, count, columns)]
    return _Grid(columns, tuple(max([tallest, *map(_levels, row)]) for row in rows))


def _use(shape: str, x: float, y: float, height: int) -> str:
    return f'<use href="#{shape}" x="{x}" y="{y}" width="{FOOD_W}" height="{height}"/>'


def _name(text: str, x: float, y: float, colour: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}" class="name">{html.escape(text)}</text>'


def _thing(thing: Thing, x: float, y: float, focus: Collection[str]) -> str:
    """A thing that stands at height y."""
    height = POT_H if thing.kind in _VESSELS else FOOD_H
    drawn = _vessel(thing, x, y - height) if thing.kind in _VESSELS else _food(thing, x, y - height)
    box = f'x="{x - 2}" y="{y - height - 1}" width="{FOOD_W + 4}" height="{height + 2}"'
    ring = f'<rect class="focus" {box} rx="5"/>' if thing.name in focus else ""
    return f"<g><title>{html.escape(in_words(thing))}</title>{drawn}{ring}</g>"


def _food(thing: Thing, x: float, y: float) -> str:
    kind = thing.kind if thing.kind in _SHAPES else "other"
    shape, colour = f"food-{kind}", _SHAPES[kind][2]
    for done, kinds in _DONE.items():
        if done in thing.marks and kind in kinds:
            shape, colour = f"food-{kind}-{done}", kinds[kind][1]
    marks = [_use(f"mark-{mark}", x, y, FOOD_H) for mark in _MARKS if mark in thing.marks]
    return f"{_use(shape, x, y, FOOD_H)}{''.join(marks)}{_name(thing.name, x + FOOD_W / 2, y + 12.5, colour)}"


def _vessel(thing: Thing, x: float, y: float) -> str:
    left, right, top = _VESSELS[thing.kind][2]
    parts = [_use(f"vessel-{thing.kind}", x, y, POT_H)]
    if thing.contents:
        rim = f"M{x + left} {y + top}H{x + right}"
        parts.append(
            f'<path d="{rim}l-5 9H{x + left + 5}Z" fill="{"#8fd3f7" if "boiling" in thing.marks else "#3d9be0"}"/>'
        )
    kinds = [Thing(name).kind for name in thing.contents]
    inside = [kind if kind in _SHAPES else "other" for kind in kinds if kind != "water"]
    for index, kind in enumerate(inside):
        at = x + (left + right) / 2 + (index - (len(inside) - 1) / 2) * min(12, 44 / max(1, len(inside)))
        parts.append(f'<circle cx="{at:g}" cy="{y + top + 1}" r="4.6" fill="{_SHAPES[kind][1]}" stroke="#0007"/>')
    if "boiling" in thing.marks:
        waves = "".join(f"M{x + at} {y + 6}c-4 -3 4 -5 0 -8" for at in (22, 37, 52))
        parts.append(f'<path d="{waves}" fill="none" stroke="#8aa4b8" stroke-width="2" stroke-linecap="round"/>')
    return f"{''.join(parts)}{_name(thing.name, x + FOOD_W / 2, y + 30, '#10202c')}"


def _station(kitchen: KitchenView, index: int, grid: _Grid, focus: Collection[str]) -> str:
    station = kitchen.stations[index]
    x, y = grid.counter(index)
    kind = station.kind if station.kind in _COUNTERS else "other"
    ring = f'<rect class="focus" x="{x - 1}" y="{y - 1}" width="90" height="{COUNTER_H + 2}" rx="5"/>'
    food = [
        _thing(thing, x + 7, y - FOOD_H * _levels(Station("", station.stack[:level])), focus)
        for level, thing in enumerate(station.stack)
    ]
    return (
        f'<use href="#counter-{kind}" x="{x}" y="{y}" width="88" height="{COUNTER_H}"/>'
        f"{_name(station.name, x + 50, y + 22, '#fff')}{ring if station.name in focus else ''}{''.join(food)}"
    )


def _robot(robot: Robot, kitchen: KitchenView, grid: _Grid, focus: Collection[str]) -> str:
    names = [station.name for station in kitchen.stations]
    if robot.station not in names:
        return ""
    x, y = grid.counter(names.index(robot.station))
    head = y + COUNTER_H + 4 + (POT_H if robot.held and robot.held.kind in _VESSELS else FOOD_H)
    held = _thing(robot.held, x + 7, head, focus) if robot.held else ""
    box = f'x="{x + 44 - ROBOT_W / 2:g}" y="{head + 1}" width="{ROBOT_W}" height="{ROBOT_H}"'
    return (
        f"<g><title>{html.escape(robot.name)} at {html.escape(robot.station)}</title>"
        f'<use href="#robot" {box}/></g>{held}'
    )


def _arrow(kitchen: KitchenView, grid: _Grid, action: str) -> str:
    """The way of a "Move": from below one counter to below the other."""
    names = [station.name for station in kitchen.stations]
    move = re.fullmatch(r"Move \w+ from (\w+) to (\w+)", action)
    if move is None or move[1] not in names or move[2] not in names:
        return ""
    (ax, ay), (bx, by) = (grid.counter(names.index(name)) for name in move.groups())
    ax, ay, bx, by = ax + 44, ay + COUNTER_H + LANE - 14, bx + 44, by + COUNTER_H + 8
    path = f"M{ax} {ay}Q{(ax + bx) / 2} {max(ay, by) + 12} {bx} {by + 3}"
    return f'<path class="way" d="{path}"/><path class="tip" d="M{bx} {by - 4}l6 10h-12Z"/>'


def in_words(thing: Thing) -> str:
    """A thing, what was done to it and what is in it, such as `pot1 (boiling; water1, onion1)`."""
    parts = [", ".join(part) for part in (thing.marks, thing.contents) if part]
    return f"{thing.name} ({'; '.join(parts)})" if parts else thing.name


def describe(kitchen: KitchenView) -> str:
    """The picture in words, for those who do not see it."""
    parts = [f"{s.name}: {', '.join(map(in_words, s.stack)) or 'empty'}" for s in kitchen.stations]
    hands = [in_words(robot.held) if robot.held else "nothing" for robot in kitchen.robots]
    parts += [f"{r.name} at {r.station} holding {held}" for r, held in zip(kitchen.robots, hands, strict=True)]
    return "; ".join(parts)


def draw_kitchen(kitchen: KitchenView, *, action: str = "", tallest: int = 2) -> str:
    """One state as SVG, for a page that has the `symbols`.

    Args:
        kitchen: the state.
        action: what is about to be done: a move gets an arrow, other things that it names are ringed.
        tallest: room for this many things on a station, so that all pictures of an episode are of one size.
    """
    grid = _grid(kitchen, tallest)
    width, height = grid.size
    return (
        f'<svg class="kitchen" role="img" aria-label="{html.escape(describe(kitchen), quote=True)}" '
        f'viewBox="0 0 {width} {height}" width="{round(1.3 * width)}">{_picture(kitchen, grid, action)}</svg>'
    )


def draw_episode(observations: Sequence[str], actions: Sequence[str]) -> list[str | None]:
    """The states of an episode as pictures of one size; None for a text that shows no stations.

    Args:
        observations: the texts of the states.
        actions: what is about to be done in each, as for `draw_kitchen`.
    """
    kitchens = [read_observation(observation) for observation in observations]
    tallest = max([2, *(len(station.stack) for kitchen in kitchens if kitchen for station in kitchen.stations)])
    return [
        draw_kitchen(kitchen, action=action, tallest=tallest) if kitchen else None
        for kitchen, action in zip(kitchens, actions, strict=True)
    ]


def _picture(kitchen: KitchenView, grid: _Grid, action: str) -> str:
    focus = frozenset() if action.startswith("Move ") else frozenset(re.findall(r"\w+", action))
    parts: Sequence[str] = [
        *(_station(kitchen, index, grid, focus) for index in range(len(kitchen.stations))),
        *(_robot(robot, kitchen, grid, focus) for robot in kitchen.robots),
        _arrow(kitchen, grid, action),
    ]
    return "".join(parts)


def draw_state(problem: Problem, state: State, *, action: str = "") -> str:
    """A state of a kitchen as an SVG document that stands alone: shapes, style, and a title that says it in words.

    Args:
        problem: the kitchen.
        state: one of its states.
        action: what is about to be done, as for `draw_kitchen`.

    Raises:
        UserError: the environment's text is not that of a kitchen.
    """
    kitchen = read_state(problem, state)
    grid = _grid(kitchen, 1)
    width, height = grid.size
    picture = _picture(kitchen, grid, action)
    used = set(re.findall(r'href="#([\w-]+)"', picture))
    shapes = "".join(shape for name, shape in _shapes().items() if name in used)
    head = f"<title>{html.escape(describe(kitchen))}</title><style>{_STYLE}</style><defs>{shapes}</defs>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="kitchen" role="img" viewBox="0 0 {width} {height}" '
        f'width="{round(1.3 * width)}" height="{round(1.3 * height)}">{head}'
        f'<rect width="{width}" height="{height}" rx="8" fill="#f4ede2"/>{picture}</svg>\n'
    )


def read_state(problem: Problem, state: State) -> KitchenView:
    """What an observation of this state shows.

    Raises:
        UserError: the environment's text is not that of a kitchen.
    """
    kitchen = read_observation(problem.observation(state))
    if kitchen is None:
        raise UserError(f"picture: the text of {problem.task!r} shows no stations; only kitchens can be drawn")
    return kitchen


def draw_lines(kitchen: KitchenView) -> str:
    """One state in lines of text: a station with its stack, lowest first; an arrow where the robot is; its hand."""
    width = max([len("in hand"), *(len(station.name) for station in kitchen.stations)])
    here = {robot.station for robot in kitchen.robots}
    lines = []
    for station in kitchen.stations:
        stack = ", ".join(map(in_words, station.stack)) or "-"
        lines.append(f"{'>' if station.name in here else ' '} {station.name:<{width}}  {stack}")
    hands = [in_words(robot.held) if robot.held else "-" for robot in kitchen.robots]
    return "\n".join([*lines, *(f"  {'in hand':<{width}}  {hand}" for hand in hands)])
