"""States and their transitions, as the benchmark's engine makes them, quirks included.

A step applies the action's immediate effects, launches or continues its lasting effects, and then updates every pending
effect once, in order. An effect that completes is removed while the list is walked, so the effect after it misses that
step: two patties put on at once are not done at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.domain import WAIT
from stgrpo.envs.robotouille.kitchen.effects import EffectsUnderWay, Pending
from stgrpo.envs.robotouille.kitchen.goal import GoalTest
from stgrpo.envs.robotouille.kitchen.grounding import Choices, Grounding, write_atom
from stgrpo.envs.robotouille.kitchen.kitchen import Kitchen
from stgrpo.envs.robotouille.kitchen.reasoning import Scene, explain
from stgrpo.envs.robotouille.kitchen.text import Renderer
from stgrpo.protocol import InvalidAction

_REMEMBERED = 1 << 14


class State(NamedTuple):
    """A kitchen at one moment: the true atoms as bits, and the effects under way (hidden from the agent)."""

    facts: int
    pending: tuple[Pending, ...] = ()


class _Node:
    """What is known of a state: filled in when it is first asked for."""

    __slots__ = ("after", "choices", "goal", "state")

    def __init__(self, state: State):
        self.state = state
        self.choices: Choices | None = None
        self.goal: bool | None = None
        self.after: dict[str, _Node] = {}


class RobotouilleProblem:
    """One kitchen behind the protocol `stgrpo.protocol.Problem`.

    A bounded number of states is remembered, each with its valid actions and linked to its successors. An episode asks
    three times about one state in a row, so the last one is found without a look into the table.

    Args:
        kitchen: start and goal.
        task: the name of the task, for records.
        layout: the id of the layout, for records.
        max_steps: the cap on the steps of an episode.
    """

    wait = WAIT

    def __init__(self, kitchen: Kitchen, *, task: str = "", layout: str = "", max_steps: int = 0):
        self.kitchen, self.task, self.layout, self.max_steps = kitchen, task, layout, max_steps
        self.goal = kitchen.goal.text
        self.grounding = Grounding(kitchen)
        self._goal_test = GoalTest(kitchen.goal, self.grounding)
        self._effects = EffectsUnderWay(self.grounding)
        self._renderer: Renderer | None = None
        self._last = _Node(State(self.grounding.start))
        self._nodes = {self._last.state: self._last}

    def __reduce__(self) -> tuple:
        return _rebuild, (self.kitchen, self.task, self.layout, self.max_steps)

    def initial_state(self) -> State:
        """Returns the start."""
        return State(self.grounding.start)

    def _find(self, state: State) -> _Node:
        node = self._nodes.get(state)
        if node is None:
            if len(self._nodes) >= _REMEMBERED:
                self._nodes.clear()
            node = self._nodes[state] = _Node(state)
        self._last = node
        return node

    def _choices(self, state: State) -> Choices:
        node = self._last  # these lines stand three times: a call would take as long as all the rest
        if node.state is not state:
            node = self._find(state)
        choices = node.choices
        if choices is None:
            choices = node.choices = self.grounding.valid(state.facts)
        return choices

    def observation(self, state: State) -> str:
        """Returns the full text an agent is shown: objects, valid actions, goal."""
        if self._renderer is None:
            self._renderer = Renderer(self.grounding)
        actions = "\n".join(self._choices(state).texts)
        return f"{self._renderer.render(state.facts)}\n\nValid Actions:\n{actions}\n\nGoal: {self.goal}"

    def valid_actions(self, state: State) -> tuple[str, ...]:
        """Returns the valid actions in display order."""
        return self._choices(state).texts

    def step(self, state: State, action: str) -> State:
        """Returns the state after an action.

        Raises:
            InvalidAction: the action is not valid here.
        """
        node = self._last
        if node.state is not state:
            node = self._find(state)
        after = node.after.get(action)
        if after is None:
            after = node.after[action] = self._find(self._successor(state, action))
        self._last = after
        return after.state

    def _successor(self, state: State, action: str) -> State:
        ground = self._choices(state).actions.get(action)
        if ground is None:
            raise InvalidAction(f"The action {action!r} is not valid here; valid_actions(state) lists the valid ones.")
        facts = state.facts & ground.keep | ground.add
        if not (ground.specials or state.pending):
            return State(facts)
        return State(*self._effects.update(facts, state.pending, ground.specials))

    def is_goal(self, state: State) -> bool:
        """Says whether the goal holds."""
        node = self._last
        if node.state is not state:
            node = self._find(state)
        goal = node.goal
        if goal is None:
            goal = node.goal = self._goal_test.holds(state.facts)
        return goal

    def explain(self, state: State, plan: Sequence[str]) -> str:
        """Says why the first action of a plan is right; see `stgrpo.envs.robotouille.kitchen.reasoning`."""
        return explain(Scene.of(self, state), plan)

    def predicates(self, state: State) -> list[str]:
        """Returns all true predicates, sorted, as `name(arg1,arg2)`."""
        atoms = [*self.grounding.static, *self.grounding.true_atoms(state.facts)]
        return sorted(map(write_atom, atoms))

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
