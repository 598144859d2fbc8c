"""The fewest manipulations that bring items to where a goal wants them.

Why this decides distances: an optimal plan never manipulates twice in a row at one station (taking back what was just
put down, or putting back what was just taken, returns to the same kitchen) and never moves twice in a row, since any
station is one move away. So its manipulations alternate with moves, and a plan of n manipulations takes 2n - 1 steps,
or 2n if the first of them is at another station than the robot. Where the robot is matters for nothing else.

The search is iterative deepening A* over configurations with the bound of `requirements.py` and a table of proved lower
bounds. Budgets grow from an admissible bound, so the first that suffices is the optimum. Configurations that differ
only in stations or items between which the goal makes no difference share one entry of the table: exchanging them maps
plans to plans of the same length.
"""

from collections.abc import Iterator, Sequence

from stgrpo.envs.robotouille.planner.requirements import UNREACHABLE, Config, ManipulationBound, Requirements

Key = tuple


class Rearrangement:
    """Exact numbers of manipulations for one kitchen and one set of qualities (which items are cooked).

    Args:
        requirements: the goal.
        candidates: for each variable, the indices of the items or stations it may stand for.
        items: the number of items.
        stations: the number of stations.
        item_variables: the indices of those variables that stand for items.
    """

    def __init__(
        self,
        requirements: Requirements,
        candidates: Sequence[Sequence[int]],
        items: int,
        stations: int,
        *,
        item_variables: frozenset[int],
    ):
        self._requirements, self._candidates = requirements, candidates
        self._bound = ManipulationBound(requirements, candidates, items)
        variables = range(len(candidates))
        item_sets = [frozenset(candidates[v]) for v in variables if v in item_variables]
        station_sets = [frozenset(candidates[v]) for v in variables if v not in item_variables]
        self._item_class = _classes(items, item_sets)
        self._station_class = _classes(stations, station_sets)
        self._lower: dict[Key, int] = {}
        self._upper: dict[Key, int] = {}
        self._firsts: dict[Config, tuple[int, ...]] = {}
        # Lifts and puts alternate: where only a put can bring the goal about, a plan is odd exactly if something is
        # held. The bound is then of the same parity, and so are all budgets.
        self._stride = 1 if requirements.may_end_with_lift else 2
        # Far above any plan: with three stations an item at a time can be brought to its place in 2 (items + 2) lifts
        # and puts. Only kitchens of one or two stations can have no plan at all.
        self._limit = 2 * (items + 2) ** 2

    def manipulations(self, config: Config, limit: int = UNREACHABLE) -> int:
        """Returns the least number of manipulations to the goal, `UNREACHABLE` if there is no way within the limit."""
        limit = min(limit, self._limit)
        key = self._key(config)
        budget = self._lower_bound(config, key)
        while self._upper.get(key) != budget:
            if budget > limit:
                return UNREACHABLE
            if self._within(config, key, budget):
                break
            budget = self._lower[key]
        return budget

    def first_stations(self, config: Config) -> tuple[int, ...]:
        """Returns the stations at which an optimal plan can make its first manipulation."""
        firsts = self._firsts.get(config)
        if firsts is None:
            left = self.manipulations(config) - 1
            after = successors_of(config) if left >= 0 else ()
            firsts = tuple(station for station, next_ in after if self._within(next_, self._key(next_), left))
            self._firsts[config] = firsts
        return firsts

    def _within(self, config: Config, key: Key, budget: int) -> bool:
        """Says whether the goal can be reached with so many manipulations at most; remembers what it proves."""
        if self._upper.get(key, UNREACHABLE) <= budget:
            return True
        if self._lower_bound(config, key) > budget:
            return False
        children = []
        for _, after in successors_of(config):
            after_key = self._key(after)
            lower = self._lower_bound(after, after_key, floor=self._lower[key] - 1)
            if lower < budget:
                children.append((lower, len(children), after, after_key))
        children.sort()
        for _, _, after, after_key in children:
            if self._within(after, after_key, budget - 1):
                self._upper[key] = min(self._upper.get(key, UNREACHABLE), self._upper[after_key] + 1)
                return True
        self._lower[key] = max(self._lower[key], budget + self._stride)
        return False

    def _lower_bound(self, config: Config, key: Key, floor: int = 0) -> int:
        """Returns the best proved bound; `floor` is one less than that of a configuration one manipulation away."""
        lower = self._lower.get(key)
        if lower is None:
            if self._met(config):
                self._upper[key] = lower = 0
            else:
                lower = self._bound(config, floor)
            self._lower[key] = lower
        return lower

    def _key(self, config: Config) -> Key:
        items = self._item_class
        stacks = sorted(
            (kind, *[items[item] for item in stack])
            for kind, stack in zip(self._station_class, config.stacks, strict=True)
        )
        return (items[config.held] if config.held >= 0 else -1, *stacks)

    def _met(self, config: Config) -> bool:
        return self._met_from(config, 0, {})

    def _met_from(self, config: Config, index: int, bound: dict[int, int]) -> bool:
        wanted = self._requirements.wanted
        if index == len(wanted):
            return True
        place = wanted[index]
        for item, support in _true_places(config, place.predicate):
            extended = self._extend(bound, place.item, item)
            if extended is not None and support >= 0:
                extended = self._extend(extended, place.support, support)
            if extended is not None and self._met_from(config, index + 1, extended):
                return True
        return False

    def _extend(self, bound: dict[int, int], variable: int, value: int) -> dict[int, int] | None:
        if variable in bound:
            return bound if bound[variable] == value else None
        kinds = self._requirements.variables
        if value not in self._candidates[variable]:
            return None
        if any(other == value and kinds[v][0] == kinds[variable][0] for v, other in bound.items()):
            return None
        return {**bound, variable: value}


def _classes(count: int, sets: Sequence[frozenset[int]]) -> list[int]:
    """Numbers the members so that two have the same number if they are in the same sets."""
    signatures = [tuple(member in group for group in sets) for member in range(count)]
    numbers = {signature: number for number, signature in enumerate(dict.fromkeys(signatures))}
    return [numbers[signature] for signature in signatures]


def successors_of(config: Config) -> Iterator[tuple[int, Config]]:
    """Yields (station, configuration) of each manipulation: a lift with an empty hand, a put with a full one."""
    held, stacks = config
    for station, stack in enumerate(stacks):
        if held >= 0:
            yield station, Config(-1, (*stacks[:station], (*stack, held), *stacks[station + 1 :]))
        elif stack:
            yield station, Config(stack[-1], (*stacks[:station], stack[:-1], *stacks[station + 1 :]))


def _true_places(config: Config, predicate: str) -> Iterator[tuple[int, int]]:
    for station, stack in enumerate(config.stacks):
        if not stack:
            continue
        if predicate == "item_on":
            yield stack[0], station
        elif predicate == "clear":
            yield stack[-1], -1
        elif predicate == "item_at":
            yield from ((item, station) for item in stack)
        else:
            yield from zip(stack[1:], stack, strict=False)
