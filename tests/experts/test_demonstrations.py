"""Demonstrations with errors: what is shown, what is done, how often, and that the goal is reached all the same."""

import dataclasses
import itertools

import pytest

from stgrpo import envs
from stgrpo.config import FIELDS
from stgrpo.data.records import read_trajectories, write_trajectories
from stgrpo.envs.stochastic import passed
from stgrpo.experts.collect import collect
from stgrpo.experts.demonstrations import Demonstrations, distances
from stgrpo.experts.planner_expert import PlannerExpert

KITCHENS = envs.get("robotouille")
KINDS = tuple(FIELDS["expert.errors"].choices)


def shown(how, count=12):
    return list(collect(KITCHENS, "burger", "small", split="train", count=count, how=how))


def states(trajectory, how):
    """Each state with its step and what may have been done in it: that is not recorded, so it is looked for."""
    problem = KITCHENS.make(trajectory.task, trajectory.layout)
    state = problem.initial_state()
    for step, after in itertools.zip_longest(trajectory.steps, trajectory.steps[1:]):
        assert step.observation == problem.observation(state)
        nexts = {action: problem.step(state, action) for action in problem.valid_actions(state)}
        nexts |= {"failed": passed(problem, state)} if how.errors == "failures" else {}
        there = [a for a, s in nexts.items() if (problem.is_goal(s) if after is None else _shows(problem, s, after))]
        yield problem, state, step, there
        state = nexts[step.action if step.action in there else there[0]]
    assert problem.is_goal(state)


def _shows(problem, state, step):
    return problem.observation(state) == step.observation


@pytest.mark.parametrize("kind", KINDS)
def test_the_goal_is_reached_within_the_cap_and_errors_are_of_their_kind(kind):
    how, errors, steps = Demonstrations(0.3, kind), 0, 0
    for trajectory in shown(how):
        assert len(trajectory.steps) <= KITCHENS.make(trajectory.task, trajectory.layout).max_steps
        for problem, state, step, done in states(trajectory, how):
            planner = KITCHENS.planner(problem)
            right = step.action == PlannerExpert(problem, planner).action(state)
            assert step.optimal_actions == planner.optimal_actions(state) and step.distance == planner.distance(state)
            assert step.reasoning and (right or step.action not in step.optimal_actions)
            if kind in ("states", "failures"):
                assert right
            if kind in ("labels", "failures"):
                assert right or step.action not in done  # what was shown was not what was done
            if kind == "detours":
                assert step.action in done
            errors += (not right) if kind in ("labels", "detours") else step.action not in done
            steps += 1
    assert 0.12 < errors / steps < 0.48  # a step near the cap, or without a wrong way that leads on, has none


def test_the_kinds_without_errors_are_the_planners_own_ways_and_the_same_come_again():
    clean = shown(Demonstrations(), 4)
    for kind in KINDS:
        assert shown(Demonstrations(0.0, kind), 4) == clean
        assert shown(Demonstrations(0.4, kind), 4) == shown(Demonstrations(0.4, kind), 4) != clean
    assert len({tuple(shown(Demonstrations(0.4, kind), 4)) for kind in KINDS}) == 4 == len(KINDS)
    labels = shown(Demonstrations(0.4, "labels"), 4)
    assert [[s.observation for s in t.steps] for t in labels] == [[s.observation for s in t.steps] for t in clean]


def test_distances_are_those_of_the_planner_and_survive_the_disk(tmp_path):
    (trajectory,) = shown(Demonstrations(distances=True), 1)
    write_trajectories(tmp_path / "t.jsonl", [trajectory])
    assert read_trajectories(tmp_path / "t.jsonl") == [trajectory]
    for step in trajectory.steps:
        after = dict(zip(step.valid_actions, step.distances, strict=True))
        assert {a for a, d in after.items() if d == step.distance - 1} == set(step.optimal_actions)
    assert dataclasses.replace(trajectory.steps[0], distances=None) == shown(Demonstrations(), 1)[0].steps[0]


def test_where_the_goal_is_lost_there_is_no_distance():
    shop = envs.get("webshop")
    problem = shop.make("shop", shop.layouts("shop", "made", split="train", count=1)[0])
    expert, state = PlannerExpert(problem, shop.planner(problem)), problem.initial_state()
    *way, buy = expert.plan(state)
    for action in way[:2]:
        state = problem.step(state, action)
    after = dict(zip(problem.valid_actions(state), distances(problem, expert.planner, state), strict=True))
    assert buy in after and after[buy] is None  # bought too early: the option that was asked for is not chosen
    for trajectory in collect(shop, "shop", "made", split="train", count=3, how=Demonstrations(0.5, "detours")):
        assert trajectory.steps[-1].action == buy
