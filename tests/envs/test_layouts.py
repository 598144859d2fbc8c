"""Kitchens are functions of their seed, and no split shares one with another or with the benchmark"s tests."""

from dataclasses import replace

import pytest

from stgrpo import envs
from stgrpo.envs.base import SPLITS
from stgrpo.envs.robotouille.benchmark import TESTING_SEEDS
from stgrpo.envs.robotouille.generator import FAMILIES, generate
from stgrpo.envs.robotouille.kitchen import Kitchen
from stgrpo.envs.robotouille.layouts import canonical_key, layout_kitchen, split_of
from stgrpo.envs.robotouille.tasks import TASKS
from stgrpo.errors import UserError

ROBOTOUILLE = envs.get("robotouille")
FAMILY_TASKS = [(family, task) for family in FAMILIES for task in TASKS]


def _signature(kitchen: Kitchen) -> tuple:
    """The start up to renaming, computed from the engine"s facts rather than from cells."""
    problem = envs.robotouille.RobotouilleProblem(kitchen)
    state = problem.initial_state()
    facts = [p[:-1].split("(") for p in problem.predicates(state)]
    own: dict[str, list[str]] = {}
    for name, args in facts:
        if "," not in args and name.startswith("is"):
            own.setdefault(args, []).append(name)
    at = problem.robot_station(state)
    stacks = [(own[s], s == at, [own[i] for i in stack]) for s, stack in problem.stacks(state).items()]
    held = problem.holding(state)
    return str(own[held] if held else None), str(sorted(map(str, stacks)))


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_a_kitchen_is_a_function_of_its_seed(family: str, task: str) -> None:
    kitchens = [generate(TASKS[task], family, seed) for seed in range(50)]
    assert kitchens == [generate(TASKS[task], family, seed) for seed in range(50)]
    assert len(set(kitchens)) > 40


def test_seeds_do_not_depend_on_the_process() -> None:
    kitchen = generate(TASKS["burger"], "small", 0)
    floor = " ".join(f"{s.kind} {s.x},{s.y}" for s in kitchen.stations)
    assert floor == "stove 1,1 table 4,0 table 4,3 table 1,2 fryer 2,4"


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_kitchens_are_as_promised(family: str, task: str) -> None:
    ranges, held, places = FAMILIES[family], 0, set()
    for seed in range(300):
        kitchen = generate(TASKS[task], family, seed)
        cells = [(s.x, s.y) for s in kitchen.stations]
        robot = (kitchen.robot.x, kitchen.robot.y)
        assert ranges.stations[0] <= len(cells) <= ranges.stations[1]
        assert len(set(cells)) == len(cells) and robot not in cells and kitchen.facing in cells
        assert any(s.kind == "table" for s in kitchen.stations)
        assert len(kitchen.items) - len(TASKS[task].default().items) in range(ranges.distractors + 1)
        held += any((i.x, i.y) == robot for i in kitchen.items)
        spots = [(i.x, i.y, i.level) for i in kitchen.items]
        assert len(set(spots)) == len(spots) and all(spot[:2] in (*cells, robot) for spot in spots)
        places.add(len(cells))
    assert 0.15 < held / 300 < 0.35
    assert len(places) == ranges.stations[1] - ranges.stations[0] + 1 or task == "double_cheese_burger"


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_keys_are_equal_exactly_for_equal_starts(family: str, task: str) -> None:
    keys, signatures = {}, {}
    for seed in range(400):
        kitchen = generate(TASKS[task], family, seed)
        key, signature = canonical_key(kitchen), _signature(kitchen)
        assert keys.setdefault(key, signature) == signature
        assert signatures.setdefault(signature, key) == key


def test_a_moved_kitchen_has_the_same_key() -> None:
    kitchen = layout_kitchen(TASKS["cheese_burger"], "test:126")

    def turn(thing):
        return replace(thing, x=thing.y, y=4 - thing.x)

    turned = replace(
        kitchen,
        stations=tuple(map(turn, reversed(kitchen.stations))),
        items=tuple(map(turn, kitchen.items)),
        robot=turn(kitchen.robot),
        facing=(kitchen.facing[1], 4 - kitchen.facing[0]),
    )
    assert canonical_key(turned) == canonical_key(kitchen)
    assert canonical_key(replace(kitchen, facing=(turned.stations[0].x, 99))) != canonical_key(kitchen)


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_splits_are_disjoint_and_free_of_the_benchmarks_tests(family: str, task: str) -> None:
    benchmark = {_signature(layout_kitchen(TASKS[task], f"test:{seed}")) for seed in TESTING_SEEDS}
    seen: dict[tuple, str] = {}
    for split in SPLITS:
        for seed in (0, 7):
            for layout in ROBOTOUILLE.layouts(task, family, split=split, count=10, seed=seed):
                signature = _signature(layout_kitchen(TASKS[task], layout))
                assert signature not in benchmark
                assert seen.setdefault(signature, split) == split


@pytest.mark.parametrize("task", TASKS)
def test_the_benchmarks_kitchens_belong_to_no_split(task: str) -> None:
    for seed in TESTING_SEEDS:
        assert split_of(task, canonical_key(layout_kitchen(TASKS[task], f"test:{seed}"))) == "benchmark"


def test_layouts_are_distinct_solvable_and_within_the_cap() -> None:
    layouts = ROBOTOUILLE.layouts("burger", "small", split="train", count=150)
    assert layouts == ROBOTOUILLE.layouts("burger", "small", split="train", count=150)
    assert len({_signature(layout_kitchen(TASKS["burger"], layout)) for layout in layouts}) == 150
    for layout in layouts:
        problem = ROBOTOUILLE.make("burger", layout)
        assert 0 < ROBOTOUILLE.planner(problem).distance(problem.initial_state()) <= problem.max_steps


@pytest.mark.parametrize(("family", "split", "named"), [("tiny", "train", "small"), ("small", "dev", "validation")])
def test_unknown_families_and_splits(family: str, split: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        ROBOTOUILLE.layouts("burger", family, split=split, count=1)


def test_too_many_layouts_are_refused_with_the_number_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stgrpo.envs.robotouille.layouts._PATIENCE", 20)
    with pytest.raises(UserError, match=r"100000 validation layouts .* \d+ distinct"):
        ROBOTOUILLE.layouts("burger", "small", split="validation", count=100000)
