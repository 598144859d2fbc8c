"""Distances are exact, the expert goes the shortest way, and where nothing is perfect it buys the best."""

from collections import deque

import pytest

from stgrpo.envs.webshop import Catalogue, ShopProblem, load, make
from stgrpo.envs.webshop.layouts.goals import goals
from stgrpo.envs.webshop.planner.planner import ShopPlanner
from stgrpo.envs.webshop.shop.pages import Place
from stgrpo.errors import UserError


def distances(problem: ShopProblem, most_pages: int) -> dict[Place, int]:
    """By brute force: all states, and the way back from those in which the goal holds."""
    seen, queue, before = {problem.initial_state()}, deque([problem.initial_state()]), {}
    while queue:
        state = queue.popleft()
        for action in problem.valid_actions(state):
            after = problem.step(state, action)
            if after.number <= most_pages:
                before.setdefault(after, set()).add(state)
                if after not in seen:
                    seen.add(after)
                    queue.append(after)
    found = {state: 0 for state in seen if problem.is_goal(state)}
    queue = deque(found)
    while queue:
        state = queue.popleft()
        for other in before.get(state, ()):
            if other not in found:
                found[other] = found[state] + 1
                queue.append(other)
    return found


def test_distances_are_those_of_brute_force() -> None:
    problem = make("made:3")
    planner, exact = ShopPlanner(problem), distances(problem, most_pages=6)
    assert len(exact) > 500 and max(exact.values()) > 5
    for state, distance in exact.items():
        assert planner.distance(state) == distance, state
    for state in list(exact)[::50]:
        nearer = [a for a in problem.valid_actions(state) if exact.get(problem.step(state, a)) == exact[state] - 1]
        assert list(planner.optimal_actions(state)) == nearer
        assert planner.expert_action(state) == (nearer[0] if nearer else None)


def score_of_expert(problem: ShopProblem) -> float:
    planner, state = ShopPlanner(problem), problem.initial_state()
    for _ in range(problem.max_steps):
        if problem.is_over(state):
            break
        state = problem.step(state, planner.expert_action(state))
    return problem.reward(state)


def test_where_nothing_is_perfect_the_best_is_bought(write_folder, mug: dict) -> None:
    shop = load(write_folder([mug | {"BulletPoints": []}]))
    goal = {"asin": mug["asin"], "name": "Mug", "query": "", "product_category": "", "price_upper": 1}
    goal |= {"instruction_text": "Find me mug", "attributes": ["x"], "goal_options": {"color": "red"}}
    problem = shop.problem(goal)
    assert score_of_expert(problem) == 1 / 3
    planner = ShopPlanner(problem)
    with pytest.raises(UserError, match="goal cannot be reached"):
        planner.distance(problem.initial_state())
    with pytest.raises(UserError):
        planner.optimal_actions(problem.initial_state())


def test_nothing_is_found(write_folder, mug: dict) -> None:
    goal = {"asin": "", "name": "Pan", "query": "", "product_category": "", "price_upper": 1}
    goal |= {"instruction_text": "Find me pans", "attributes": [], "goal_options": {}}
    problem = load(write_folder([mug])).problem(goal)
    assert ShopPlanner(problem).expert_action(problem.initial_state()) is None


def test_after_a_wrong_purchase_there_is_no_way() -> None:
    problem = make("made:3")
    planner = ShopPlanner(problem)
    wrong = Place("done", "x", 1, "M000000000")
    assert problem.is_over(wrong) and not problem.is_goal(wrong) and problem.valid_actions(wrong) == ()
    assert planner.expert_action(wrong) is None
    with pytest.raises(UserError):
        planner.distance(wrong)


def test_the_expert_in_the_benchmarks_products(real: Catalogue) -> None:
    some = goals(real.products)[::150]
    scores = [score_of_expert(real.problem(goal)) for goal in some]
    assert len(scores) == 47 and sum(scores) / len(scores) > 0.97
