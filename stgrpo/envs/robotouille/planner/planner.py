"""Plans, exact distances and optimal actions of any state of any task.

Goals that ask for food to be prepared, for a soup, or for many things are the business of `search.py`. The others, the
paper's among them, are solved faster here. Plans that only move and manipulate come from `rearrangement.py`. Where a
raw item that could serve lies about in a kitchen with a stove, cooking it may be shorter (say, when the cooked one is
buried), so this is bounded from below: a plan with n manipulations and a cooking takes at least 2n - 1 steps for them
and their moves, 1 to cook, and 1 more if the item stands on its stove already (the visit to cook it there has no other
use) or is held while the robot is not at an empty stove (it starts with a move). An effect already under way may
complete as its item is put on the stove, so that it is taken off again without the move between, which saves a step at
most once for each effect. Only where this bound does not exceed the plan without cooking, a search over the engine's
own states decides, timers included.
"""

import heapq
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from stgrpo.envs.robotouille.kitchen.domain import PREDICATE
from stgrpo.envs.robotouille.kitchen.engine import RobotouilleProblem, State
from stgrpo.envs.robotouille.kitchen.goal import separable
from stgrpo.envs.robotouille.kitchen.grounding import Atom
from stgrpo.envs.robotouille.kitchen.kitchen import Goal
from stgrpo.envs.robotouille.planner.rearrangement import Rearrangement
from stgrpo.envs.robotouille.planner.requirements import (
    PLACES,
    UNREACHABLE,
    Config,
    ManipulationBound,
    compile_requirements,
)
from stgrpo.envs.robotouille.planner.search import Plan, Search
from stgrpo.errors import UserError

_QUALITIES = ("iscooked", "iscut", "isfried")
_COOKED = "iscooked"
_MOST_CARRIED = 8
"""With more things in the goal than this, there are too many ways to share them out for the planner of this module."""


@dataclass(frozen=True)
class _Solvers:
    """For one set of qualities: the exact solver, and the bound for plans that also cook (None if none can)."""

    plain: Rearrangement
    cooking: ManipulationBound | None
    raw: frozenset[int]


class RobotouillePlanner:
    """The planner of one problem; results are kept, so that asking again is cheap.

    Args:
        problem: the kitchen.
        seconds: the CPU time that a question may take where food has to be prepared, before it is given up.
    """

    def __init__(self, problem: RobotouilleProblem, *, seconds: float = 60.0):
        self._problem, self._seconds = problem, seconds
        few = _things(problem.kitchen.goal) <= _MOST_CARRIED
        self._carrying = _Carrying(problem) if few and _only_carries(problem) else None

    @cached_property
    def _search(self) -> Search:
        """What plans where carrying is not all."""
        return Search(self._problem)

    def solve(self, state: State, *, seconds: float | None = None) -> Plan:
        """Returns the best plan found in so many seconds of CPU time, with a bound that tells how good it is.

        Raises:
            UserError: no plan was found.
        """
        if self._carrying:
            actions = []
            while optimal := self._carrying.optimal_actions(state):
                actions.append(optimal[0])
                state = self._problem.step(state, optimal[0])
            return Plan(tuple(actions), len(actions))
        seconds = self._seconds if seconds is None else seconds
        plan = self._search.solve(state, seconds=seconds)
        if plan is None and self._search.lower_bound(state) >= UNREACHABLE:
            raise UserError(f"planner: {self._kitchen()} has no plan: its goal cannot be reached from here")
        if plan is None:
            raise self._gives_up("no plan found", seconds)
        return plan

    def distance(self, state: State) -> int:
        """Returns the least number of steps to the goal.

        Raises:
            UserError: the goal cannot be reached from here, or the proof takes longer than the planner's time.
        """
        if self._carrying:
            return self._carrying.distance(state)
        plan = self.solve(state)
        if not plan.optimal:
            least, found = plan.bound, len(plan.actions)
            raise self._gives_up(f"between {least} and {found} steps, no more is proved", self._seconds)
        return len(plan.actions)

    def optimal_actions(self, state: State) -> tuple[str, ...]:
        """Returns the actions that lead one step nearer to the goal, in display order; none at the goal.

        Raises:
            UserError: like `distance`.
        """
        if self._carrying:
            return self._carrying.optimal_actions(state)
        distance = self.distance(state)
        if distance == 0:
            return ()
        problem = self._problem
        try:
            return tuple(
                action
                for action in problem.valid_actions(state)
                if self._search.shorter(problem.step(state, action), distance, seconds=self._seconds)
            )
        except TimeoutError:
            raise self._gives_up("the set of optimal actions is not proved", self._seconds) from None

    def solves_within(self, state: State, steps: int) -> bool:
        """Says whether some plan takes at most so many steps; where food is prepared, whether a quick look finds one.

        The answer depends on nothing but its arguments, not on the speed of the machine.
        """
        if self._carrying:
            return self._carrying.solves_within(state, steps)
        return self._search.reaches(state, steps)

    def _kitchen(self) -> str:
        return f"{self._problem.task!r} {self._problem.layout!r}"

    def _gives_up(self, what: str, seconds: float) -> UserError:
        return UserError(f"planner: {self._kitchen()}: {what} in {seconds:g} s; give RobotouillePlanner more seconds")


def _things(goal: Goal) -> int:
    """Returns how many items a goal is about."""
    keys = set()
    for atom in goal.atoms:
        types = PREDICATE[atom.predicate].types
        keys |= {(kind, id_) for kind, id_, type_ in zip(atom.kinds, atom.ids, types, strict=True) if type_ == "item"}
    return len(keys)


def _only_carries(problem: RobotouilleProblem) -> bool:
    """Says whether the goal can be met by carrying alone: all it asks for is there, cooked where it must be."""
    goal, grounding = problem.kitchen.goal, problem.grounding
    if separable(goal) != goal:
        return False
    if grounding.objects["container"] or any(a.predicate not in (*PLACES, _COOKED) for a in goal.atoms):
        return False
    start = {*grounding.true_atoms(grounding.start), *grounding.static}
    cooked = {
        (kind, id_) for a in goal.atoms if a.predicate == _COOKED for kind, id_ in zip(a.kinds, a.ids, strict=True)
    }
    for kind in {kind for kind, _ in cooked}:
        ready = sum(kind in args[0] for name, args in start if name == _COOKED)
        if ready < sum(k == kind for k, _ in cooked):
            return False
    return True


class _Carrying:
    """Exact plans for goals of places and cooked items, where enough is cooked already."""

    def __init__(self, problem: RobotouilleProblem):
        self._problem, self._grounding = problem, problem.grounding
        self._items, self._stations = self._grounding.objects["item"], self._grounding.objects["station"]
        self._requirements = compile_requirements(problem.kitchen.goal, _QUALITIES)
        self._index = {name: i for names in (self._items, self._stations) for i, name in enumerate(names)}
        masks = {"item_on": 0, "atop": 0, "has_item": 0, "loc": 0} | dict.fromkeys(_QUALITIES, 0)
        for (name, _), bit in self._grounding.bits.items():
            if name in masks:
                masks[name] |= bit
        self._masks = masks
        self._place_mask = masks["item_on"] | masks["atop"] | masks["has_item"]
        self._quality_mask = sum(masks[name] for name in _QUALITIES)
        self._stoves = frozenset(i for i, name in enumerate(self._stations) if ("isstove", (name,)) in self._static())
        self._configs: dict[int, Config] = {}
        self._solvers: dict[int, _Solvers] = {}
        self._distances: dict[State, int] = {}

    def _static(self) -> frozenset[Atom]:
        return self._grounding.static

    def distance(self, state: State) -> int:
        """Returns the least number of steps to the goal.

        Raises:
            UserError: the goal cannot be reached from here.
        """
        known = self._distances.get(state)
        if known is None:
            known = self._plain(state)
            if known and self._with_cooking(state) <= known:
                known = self._search(state, known)
            if known >= UNREACHABLE:
                raise UserError(f"planner: {self._problem.task!r} {self._problem.layout!r} has no plan; add a station")
            self._distances[state] = known
        return known

    def optimal_actions(self, state: State) -> tuple[str, ...]:
        """Returns the actions that lead one step nearer to the goal, in display order; none at the goal."""
        distance = self.distance(state)
        if distance == 0:
            return ()
        if self._with_cooking(state) > distance:
            return self._plain_actions(state)
        step = self._problem.step
        return tuple(a for a in self._problem.valid_actions(state) if self.distance(step(state, a)) == distance - 1)

    def solves_within(self, state: State, steps: int) -> bool:
        """Says whether some plan without cooking takes at most so many steps; cheap where none does."""
        limit = (steps + 1) // 2
        return self._solver(state).plain.manipulations(self._config(state), limit) <= limit and (
            self._plain(state) <= steps
        )

    def _plain(self, state: State) -> int:
        """Returns the distance without cooking."""
        plain, config = self._solver(state).plain, self._config(state)
        number = plain.manipulations(config)
        if number == 0 or number >= UNREACHABLE:
            return number
        return 2 * number - (self._robot(state) in plain.first_stations(config))

    def _plain_actions(self, state: State) -> tuple[str, ...]:
        config, robot = self._config(state), self._robot(state)
        firsts = self._solver(state).plain.first_stations(config)
        name = self._grounding.robot
        here = self._stations[robot]
        if robot not in firsts:
            moves = {f"Move {name} from {here} to {self._stations[s]}" for s in firsts}
            return tuple(action for action in self._problem.valid_actions(state) if action in moves)
        stack = [self._items[item] for item in config.stacks[robot]]
        if config.held >= 0:
            held = self._items[config.held]
            if stack:
                return (f"Stack {held} on top of {stack[-1]} using {name}",)
            return (f"Place {held} on {here} using {name}",)
        if len(stack) > 1:
            return (f"Unstack {stack[-1]} from {stack[-2]} using {name}",)
        return (f"Pick up {stack[-1]} from {here} using {name}",)

    def _with_cooking(self, state: State) -> int:
        """Returns a lower bound on plans that cook something the goal can use."""
        solvers = self._solver(state)
        if solvers.cooking is None:
            return UNREACHABLE
        config = self._config(state)
        manipulations = solvers.cooking(config)
        if manipulations >= UNREACHABLE:
            return UNREACHABLE
        under_way = sum(self._index.get(pending.effect.partition(" ")[0]) in solvers.raw for pending in state.pending)
        if under_way:
            return max(1, 2 * manipulations - 1 - under_way)
        robot = self._robot(state)
        at_empty_stove = robot in self._stoves and not config.stacks[robot]
        bottoms = {config.stacks[stove][0] for stove in self._stoves if config.stacks[stove]}
        sure = all(item in bottoms or (item == config.held and not at_empty_stove) for item in solvers.raw)
        return 2 * manipulations + sure

    def _search(self, start: State, best: int) -> int:
        """A* over the engine's states, for plans shorter than `best`, which needs no cooking."""
        order = count()
        queue = [(self._with_cooking(start), next(order), 0, start)]
        steps = {start: 0}
        while queue:
            bound, _, so_far, state = heapq.heappop(queue)
            if bound >= best:
                break
            if so_far > steps[state]:
                continue
            for action in self._problem.valid_actions(state):
                after = self._problem.step(state, action)
                if steps.get(after, UNREACHABLE) <= so_far + 1:
                    continue
                steps[after] = so_far + 1
                best = min(best, so_far + 1 + self._plain(after))
                estimate = so_far + 1 + self._with_cooking(after)
                if estimate < best:
                    heapq.heappush(queue, (estimate, next(order), so_far + 1, after))
        return best

    def _robot(self, state: State) -> int:
        _, args = next(self._grounding.true_atoms(state.facts & self._masks["loc"]))
        return self._index[args[1]]

    def _config(self, state: State) -> Config:
        places = state.facts & self._place_mask
        config = self._configs.get(places)
        if config is None:
            held, bottom, above = -1, {}, {}
            for name, args in self._grounding.true_atoms(places):
                if name == "has_item":
                    held = self._index[args[1]]
                else:
                    (bottom if name == "item_on" else above)[args[1]] = args[0]
            stacks = []
            for station in self._stations:
                stack, item = [], bottom.get(station)
                while item is not None:
                    stack.append(self._index[item])
                    item = above.get(item)
                stacks.append(tuple(stack))
            config = self._configs[places] = Config(held, tuple(stacks))
        return config

    def _solver(self, state: State) -> _Solvers:
        qualities = state.facts & self._quality_mask
        solvers = self._solvers.get(qualities)
        if solvers is None:
            solvers = self._solvers[qualities] = self._make_solvers(qualities)
        return solvers

    def _make_solvers(self, qualities: int) -> _Solvers:
        true = {(name, args) for name, args in self._grounding.true_atoms(qualities)} | self._static()
        raw = {item for item in self._items if (_COOKED, (item,)) not in true and ("iscookable", (item,)) in true}
        cooked_too = true | {(_COOKED, (item,)) for item in raw} if self._stoves else true
        candidates, with_raw = self._candidates(true), self._candidates(cooked_too)
        requirements = self._requirements
        item_variables = frozenset(v for v in range(len(candidates)) if self._type(v) == "item")
        plain = Rearrangement(
            requirements, candidates, len(self._items), len(self._stations), item_variables=item_variables
        )
        useful = {i for few, many in zip(candidates, with_raw, strict=True) for i in set(many) - set(few)}
        if not useful:
            return _Solvers(plain, None, frozenset())
        bits = sum(1 << item for item in useful)
        bound = ManipulationBound(requirements, with_raw, len(self._items), to_cook=bits, stoves=self._stoves)
        return _Solvers(plain, bound, frozenset(useful))

    def _type(self, variable: int) -> str:
        """The type of a variable, from the first place in which the goal mentions it."""
        for wanted in self._requirements.wanted:
            if variable == wanted.item:
                return "item"
            if variable == wanted.support:
                return PREDICATE[wanted.predicate].types[1]
        return "item"

    def _candidates(self, true: set[Atom]) -> list[tuple[int, ...]]:
        """For each variable, the objects whose kind, id and qualities fit."""
        found = []
        for variable, (kind, id_) in enumerate(self._requirements.variables):
            names = self._items if self._type(variable) == "item" else self._stations
            demanded = self._requirements.qualities[variable]
            fits = [
                index
                for index, name in enumerate(names)
                if (kind in name if id_.isdigit() else self._grounding.ids.get(id_) == name)
                and all((quality, (name,)) in true for quality in demanded)
            ]
            found.append(tuple(fits))
        return found
