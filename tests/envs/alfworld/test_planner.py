"""Distances against a breadth-first search over the whole rules, and the stored walkthroughs; what the expert knows."""

import json
import lzma
import pathlib

import pytest

from stgrpo.envs.alfworld import AlfworldProblem, State, load
from stgrpo.envs.alfworld.game.room import TASKS
from stgrpo.envs.alfworld.game.rules import apply, is_goal, possible
from stgrpo.envs.alfworld.layouts.games import open_games
from stgrpo.envs.alfworld.layouts.generator import made_game
from stgrpo.envs.alfworld.planner.planner import AlfworldPlanner
from stgrpo.envs.alfworld.planner.search_expert import SearchExpert
from stgrpo.errors import UserError

SPLITS = ("valid_seen", "valid_unseen")


def blind_distance(problem: AlfworldProblem, state: State, most: int) -> int | None:
    """The least steps to the goal by trying everything; None if there is no way of so many steps."""
    room, front, seen = problem.room, {state.world}, set()
    for steps in range(most + 1):
        if any(is_goal(room, world) for world in front):
            return steps
        seen |= front
        front = {apply(room, world, action) for world in front for action in possible(room, world)} - seen
    return None


def won(problem: AlfworldProblem, expert: SearchExpert) -> int | None:
    """Steps in which the expert wins; None if it does not within the cap."""
    state = problem.initial_state()
    for steps in range(problem.max_steps + 1):
        if problem.is_goal(state):
            return steps
        action = expert.action(state)
        if action is None:
            return None
        state = problem.step(state, action)
    return None


@pytest.mark.parametrize("task", TASKS)
def test_distances_are_those_of_a_blind_search(task: str) -> None:
    """Along a plan, from its end to as far as trying everything takes little time; optimal actions are all of them."""
    problem = load(made_game(task, "small", 5))
    planner, state = AlfworldPlanner(problem), problem.initial_state()
    length = planner.distance(state)
    for steps in range(length, 0, -1):
        optimal = planner.optimal_actions(state)
        if steps <= 4:
            assert blind_distance(problem, state, 5) == steps
            left = {a: blind_distance(problem, problem.step(state, a), 4) for a in problem.valid_actions(state)}
            assert list(optimal) == [action for action, distance in left.items() if distance == steps - 1]
        state = problem.step(state, optimal[-1])
    assert problem.is_goal(state) and planner.distance(state) == 0 and planner.optimal_actions(state) == ()


def test_a_thing_that_nothing_takes_is_a_dead_end(make_game) -> None:
    problem = load(make_game())
    planner, state = AlfworldPlanner(problem), problem.initial_state()
    assert not planner.is_dead_end(state) and planner.distance(state) == 4
    for command in ("go to shelf 1", "take statue 1 from shelf 1"):
        state = problem.step(state, command)
    assert planner.is_dead_end(state)
    for asked in (planner.distance, planner.optimal_actions):
        with pytest.raises(UserError, match="pick_and_place_simple file: the goal cannot be reached any more"):
            asked(state)


def test_the_expert_does_the_same_wherever_a_thing_is_that_it_has_not_seen(make_game) -> None:
    """Until it looks into the right place: the full-sight optimum goes there at once."""
    game = make_game()
    moved = game | {
        "pddl_problem": game["pddl_problem"].replace(
            "(inReceptacle Mug_bar__plus_01_dot_00 Desk_bar__plus_01_dot_00)",
            "(inReceptacle Mug_bar__plus_01_dot_00 Microwave_bar__plus_01_dot_00)",
        )
    }
    problems = [load(game), load(moved)]
    firsts = {SearchExpert(problem).action(problem.initial_state()) for problem in problems}
    assert len(firsts) == 1
    assert AlfworldPlanner(problems[1]).optimal_actions(problems[1].initial_state()) == ("go to microwave 1",)
    assert AlfworldPlanner(problems[1]).distance(problems[1].initial_state()) == 5
    steps = [won(problem, SearchExpert(problem)) for problem in problems]
    assert steps[0] == 4 and steps[1] is not None and steps[1] > 5


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_wins_made_rooms_in_no_fewer_steps_than_the_optimum(task: str) -> None:
    for seed in range(4):
        problem = load(made_game(task, "made", seed))
        planner = AlfworldPlanner(problem)
        steps = won(problem, SearchExpert(problem))
        assert steps is not None and steps >= planner.distance(problem.initial_state()) > 0


def walkthroughs(pack: pathlib.Path) -> dict[tuple[str, str], list[str]]:
    with lzma.open(pack, "rt", encoding="utf-8") as file:
        next(file)
        games = [json.loads(line) for line in file]
    return {(game["split"], f"{game['name']}/{game['trial']}"): game["walkthrough"] for game in games}


def test_the_validation_games_are_solved_as_shortly_as_their_walkthroughs_and_by_the_expert(pack: pathlib.Path) -> None:
    games, stored = open_games(str(pack)), walkthroughs(pack)
    steps = []
    for split in SPLITS:
        for number, name in enumerate(games.names(split)):
            problem = load(games.game(split, number))
            assert AlfworldPlanner(problem).distance(problem.initial_state()) <= len(stored[split, name])
            steps.append(won(problem, SearchExpert(problem)))
    counted = [count for count in steps if count is not None]
    assert len(steps) == 274 and len(counted) >= 270 and sum(counted) / len(counted) <= 8.5
