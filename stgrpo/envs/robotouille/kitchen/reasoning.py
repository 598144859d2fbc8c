"""Say why the next action of a plan is right, in few words that can all be looked up.

A model trained from scratch fails at looking things up, not at planning, so a reasoning
- repeats each fact in the observation's own wording, whole lines of it, for an induction head to copy;
- names only what the next sub-goal needs, and in this order: where the robot is and what it holds, what is missing,
  what stands in its way if anything does, where to act, and last the conclusion, right behind the fact it follows from.

The sub-goal comes from the plan: what is next done to the thing in question (cut, cook, fill, add, ...), or else the
next thing that is put down for good in the stack which ends up being the goal.

    robot1 is at table1. robot1 is holding nothing. Next, patty1 must go on top of bottombun1. patty1 is directly under
    lettuce1. lettuce1 is at table3. So move there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stgrpo.envs.robotouille.kitchen.domain import WAIT
from stgrpo.protocol import S_contra

ROBOT = "robot1"
MOVE = re.compile(rf"Move {ROBOT} from (\S+) to (\S+)")
DEEDS = {
    "pick up": re.compile(rf"Pick up (\S+) from (\S+) using {ROBOT}"),
    "unstack": re.compile(rf"Unstack (\S+) from (\S+) using {ROBOT}"),
    "place": re.compile(rf"Place (\S+) on (\S+) using {ROBOT}"),
    "stack": re.compile(rf"Stack (\S+) on top of (\S+) using {ROBOT}"),
}
CONCLUSIONS = {"pick up": "pick it up", "unstack": "unstack it", "place": "place it", "stack": "stack it"}


class KitchenProblem(Protocol[S_contra]):
    """What a reasoning asks of a problem."""

    def observation(self, state: S_contra) -> str:
        """The text of a state."""
        ...

    def holding(self, state: S_contra) -> str | None:
        """What the robot holds, None for nothing."""
        ...

    def robot_station(self, state: S_contra) -> str:
        """Where the robot is."""
        ...

    def stacks(self, state: S_contra) -> Mapping[str, Sequence[str]]:
        """The items at each station from the bottom to the top."""
        ...


@dataclass(frozen=True)
class Scene:
    """What a reasoning may speak of: one state as its observation shows it.

    Attributes:
        station: where the robot is.
        held: what it holds, None for nothing.
        stacks: the items at each station, from the bottom to the top.
        lines: the lines of the observation; no other fact is ever quoted.
    """

    station: str
    held: str | None
    stacks: Mapping[str, Sequence[str]]
    lines: frozenset[str]

    @classmethod
    def of(cls, kitchen: KitchenProblem[S_contra], state: S_contra) -> "Scene":
        """The scene of one state of a kitchen."""
        return cls(
            station=kitchen.robot_station(state),
            held=kitchen.holding(state),
            stacks=kitchen.stacks(state),
            lines=frozenset(kitchen.observation(state).splitlines()),
        )

    def above(self, thing: str) -> Sequence[str]:
        """The items above an item, or on a station, from the lowest to the highest."""
        if thing in self.stacks:
            return self.stacks[thing]
        stack = next((stack for stack in self.stacks.values() if thing in stack), ())
        return stack[stack.index(thing) + 1 :] if thing in stack else ()


@dataclass(frozen=True)
class Deed:
    """An action that is not a move: what is done to which item, at, on or from what, and the station it happens at."""

    kind: str
    item: str
    support: str
    station: str
    action: str

    @property
    def takes(self) -> bool:
        """Whether something comes into the hand."""
        return self.kind in ("pick up", "unstack")

    @property
    def puts(self) -> bool:
        """Whether something leaves it."""
        return self.kind in ("place", "stack")


def explain(scene: Scene, plan: Sequence[str]) -> str:
    """The reasoning for the first action of a plan.

    Args:
        scene: the state it starts in.
        plan: the actions from there to the goal, at least one of which is not a move.

    Returns:
        One line of sentences without "Action:".
    """
    deeds = _deeds(scene.station, plan)
    where = [f"{ROBOT} is at {scene.station}", f"{ROBOT} is holding {scene.held or 'nothing'}"]
    if plan[0] == WAIT:
        thing = f" for {deeds[0].item or deeds[0].action.split()[1]}" if deeds else ""
        return " ".join(f"{sentence}." for sentence in [*_quote(scene, where), f"Next, wait{thing}", "So do nothing"])
    now = deeds[0]
    if not (now.takes or now.puts):
        things = [word.removesuffix("'s") for word in now.action.split() if word != ROBOT]
        aim, spot = [_chore(now)], _quote(scene, [f"{thing} is at {now.station}" for thing in things])
    else:
        aim, spot = _aim(scene, deeds), _spot(scene, now)
    return " ".join(f"{sentence}." for sentence in [*_quote(scene, where), *aim, *spot, _conclusion(scene, now)])


def _deeds(station: str, plan: Sequence[str]) -> list[Deed]:
    deeds = []
    for action in plan:
        if action == WAIT:
            continue
        if move := MOVE.fullmatch(action):
            station = move.group(2)
            continue
        found = ((kind, pattern.fullmatch(action)) for kind, pattern in DEEDS.items())
        kind, item, support = next(((kind, *match.groups()) for kind, match in found if match), ("other", "", ""))
        deeds.append(Deed(kind=kind, item=item, support=support, station=station, action=action))
    return deeds


def _for_good(deeds: Sequence[Deed]) -> list[Deed]:
    """What is put down where the last action of the plan happens, and not taken away again: the parts of the goal."""
    return [
        deed
        for i, deed in enumerate(deeds)
        if deed.puts
        and deed.station == deeds[-1].station
        and not any(later.takes and later.item == deed.item for later in deeds[i + 1 :])
    ]


def _aim(scene: Scene, deeds: Sequence[Deed]) -> list[str]:
    """What is missing, and what stands in the way of it where the next deed only makes room."""
    now, parts = deeds[0], _for_good(deeds)
    chore = _next_chore(deeds, parts)
    if chore is not None:
        aside = now.puts and chore.station != now.station
        return [_chore(chore), *([f"{now.item} must go aside first"] if aside else [])]
    if now.puts:
        if not parts:
            return [f"Next, {now.item} must go aside"]
        missing = [_missing(parts[0])]
        if parts[0] is now:
            return missing
        blocked = _way_to_top(scene, parts[0].support) if parts[0].item == now.item else []
        return [*missing, *_quote(scene, blocked), f"{now.item} must go aside first"]
    if parts and parts[0].item == now.item and deeds[1] is parts[0]:
        return [_missing(parts[0])]
    for part in parts:
        for thing in (part.item, part.support):
            if now.item in scene.above(thing):
                return [_missing(part), *_quote(scene, _way_to_top(scene, thing))]
    return [f"Next, {now.support} must be free of {now.item}"]


def _next_chore(deeds: Sequence[Deed], parts: Sequence[Deed]) -> Deed | None:
    """What is done to the first deed's item or container before it is put down for good, None if nothing is."""
    for deed in deeds[1:]:
        if deed.item == deeds[0].item and deed in parts:
            return None
        if not (deed.takes or deed.puts) and re.search(rf"\b{deeds[0].item}\b", deed.action):
            return deed if deeds[0] not in parts else None
    return None


def _chore(deed: Deed) -> str:
    return f"Next, {deed.action[0].lower()}{deed.action.removesuffix(f' using {ROBOT}')[1:]}"


def _missing(part: Deed) -> str:
    where = f"top of {part.support}" if part.kind == "stack" else f"a {part.support.rstrip('0123456789')}"
    return f"Next, {part.item} must go on {where}"


def _way_to_top(scene: Scene, thing: str) -> list[str]:
    """The facts that lead from an item or a station to the uppermost item above it."""
    facts = []
    for higher in scene.above(thing):
        wording = "{} has {} directly on top of it" if thing in scene.stacks else "{} is directly under {}"
        facts.append(wording.format(thing, higher))
        thing = higher
    return facts


def _spot(scene: Scene, now: Deed) -> list[str]:
    """The facts that say where to act, and how if the robot is there."""
    if now.kind == "place":
        return _quote(scene, [f"{now.support} has nothing on it"])
    if now.kind == "stack":
        return _quote(scene, [f"{now.support} is at {now.station}"])
    facts = [f"{now.item} is at {now.station}"]
    if scene.station == now.station:
        facts.append(f"{now.item} is directly on top of {now.support}")
    return _quote(scene, facts)


def _conclusion(scene: Scene, now: Deed) -> str:
    if scene.station != now.station:
        return "So move there" if now.kind in CONCLUSIONS else f"So move to {now.station}"
    return f"So {CONCLUSIONS.get(now.kind, 'do that now')}"


def _quote(scene: Scene, facts: Sequence[str]) -> list[str]:
    return [fact for fact in facts if fact in scene.lines]
