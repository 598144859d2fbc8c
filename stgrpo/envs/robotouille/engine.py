"""States and their transitions, as the benchmark's engine makes them, quirks included.

A step applies the action's immediate effects, launches or continues its lasting effects, and then updates every pending
effect once, in order. An effect that completes is removed while the list is walked, so the effect after it misses that
step: two patties put on at once are not done at once.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from stgrpo.envs.base import InvalidAction
from stgrpo.envs.robotouille.goal import GoalTest
from stgrpo.envs.robotouille.grounding import GroundAction, Grounding, GroundSpecial
from stgrpo.envs.robotouille.kitchen import Kitchen
from stgrpo.envs.robotouille.text import Renderer

_CACHED_STATES = 1 << 14


class Pending(NamedTuple):
    """A lasting effect under way: which, how far its counter is, and whether it is complete but not yet removed."""

    effect: str
    count: int = 0
    done: bool = False


class State(NamedTuple):
    """A kitchen at one moment: the true atoms as bits, and the effects under way (hidden from the agent)."""

    facts: int
    pending: tuple[Pending, ...] = ()


class RobotouilleProblem:
    """One kitchen behind the protocol `stgrpo.envs.base.Problem`.

    Args:
        kitchen: start and goal.
        task: the name of the task, for records.
        layout: the id of the layout, for records.
        max_steps: the cap on the steps of an episode.
    """

    def __init__(self, kitchen: Kitchen, *, task: str = "", layout: str = "", max_steps: int = 0):
        self.kitchen, self.task, self.layout, self.max_steps = kitchen, task, layout, max_steps
        self.goal = kitchen.goal.text
        self.grounding = Grounding(kitchen)
        self._goal_test = GoalTest(kitchen.goal, self.grounding)
        self._renderer: Renderer | None = None
        self._choices: Callable[[int], dict[str, GroundAction]] = lru_cache(_CACHED_STATES)(self.grounding.valid)

    def __reduce__(self) -> tuple:
        return _rebuild, (self.kitchen, self.task, self.layout, self.max_steps)

    def initial_state(self) -> State:
        """Returns the start."""
        return State(self.grounding.start)

    def observation(self, state: State) -> str:
        """Returns the full text an agent is shown: objects, valid actions, goal."""
        if self._renderer is None:
            self._renderer = Renderer(self.grounding)
        actions = "\n".join(self._choices(state.facts))
        return f"{self._renderer.render(state.facts)}\n\nValid Actions:\n{actions}\n\nGoal: {self.goal}"

    def valid_actions(self, state: State) -> tuple[str, ...]:
        """Returns the valid actions in display order."""
        return tuple(self._choices(state.facts))

    def step(self, state: State, action: str) -> State:
        """Returns the state after an action.

        Raises:
            InvalidAction: the action is not valid here.
        """
        ground = self._choices(state.facts).get(action)
        if ground is None:
            raise InvalidAction(f"The action {action!r} is not valid here; valid_actions(state) lists the valid ones.")
        facts = state.facts & ~ground.delete | ground.add
        if not (ground.specials or state.pending):
            return State(facts)
        return self._update_pending(facts, list(state.pending), ground.specials)

    def _update_pending(self, facts: int, pending: list[Pending], launched: tuple[GroundSpecial, ...]) -> State:
        for special in launched:
            index = next((i for i, p in enumerate(pending) if p.effect == special.name), len(pending))
            if index == len(pending):
                pending.append(Pending(special.name))
            facts, pending[index] = self._update(facts, pending[index], active=True)
        index = 0
        while index < len(pending):
            facts, pending[index] = self._update(facts, pending[index], active=False)
            if pending[index].done:
                del pending[index]
            index += 1
        return State(facts, tuple(pending))

    def _update(self, facts: int, pending: Pending, *, active: bool) -> tuple[int, Pending]:
        """Updates one effect; `active` while its own action is performed: only repetitions count then."""
        special = self.grounding.specials.get(pending.effect) or self.grounding.special(pending.effect)
        if special.repeats:
            if pending.done or not active:
                return facts, pending
            count = pending.count + 1
        else:
            holds = special.possible and facts & special.conditions == special.conditions
            add, delete = special.effects if holds else reversed(special.effects)
            facts = facts & ~delete | add
            if not holds:
                return facts, pending
            if not special.delay:
                return facts, pending._replace(done=True)
            if pending.done or active:
                return facts, pending
            count = pending.count + 1
        done = count == (special.repeats or special.delay)
        if done:
            add, delete = self._results(special, facts)
            facts = facts & ~delete | add
        return facts, Pending(pending.effect, count, done)

    def _results(self, special: GroundSpecial, facts: int) -> tuple[int, int]:
        if len(special.results) == 1:
            return special.results[0]
        return next(r for r, bit in zip(special.results, self.grounding.created, strict=True) if not facts & bit)

    def is_goal(self, state: State) -> bool:
        """Says whether the goal holds."""
        return self._goal_test.holds(state.facts)

    def predicates(self, state: State) -> list[str]:
        """Returns all true predicates, sorted, as `name(arg1,arg2)`."""
        atoms = [*self.grounding.static, *self.grounding.true_atoms(state.facts)]
        return sorted(f"{name}({','.join(args)})" for name, args in atoms)

    def holding(self, state: State) -> str | None:
        """Returns the name of the item or container in the robot's hand, or None."""
        for name, args in self.grounding.true_atoms(state.facts & self.grounding.situation):
            if name in ("has_item", "has_container"):
                return args[1]
        return None

    def robot_station(self, state: State) -> str:
        """Returns the name of the station at which the robot is."""
        return next(args[1] for name, args in self.grounding.true_atoms(state.facts) if name == "loc")

    def stacks(self, state: State) -> dict[str, tuple[str, ...]]:
        """Returns the items at each station from bottom to top, for all stations in display order."""
        bottom, above = {}, {}
        for name, args in self.grounding.true_atoms(state.facts):
            if name == "item_on":
                bottom[args[1]] = args[0]
            elif name == "atop":
                above[args[1]] = args[0]
        stacks = {}
        for station in self.grounding.objects["station"]:
            stack, item = [], bottom.get(station)
            while item is not None:
                stack.append(item)
                item = above.get(item)
            stacks[station] = tuple(stack)
        return stacks


def _rebuild(kitchen: Kitchen, task: str, layout: str, max_steps: int) -> RobotouilleProblem:
    return RobotouilleProblem(kitchen, task=task, layout=layout, max_steps=max_steps)
