"""Every number of an analysis against grids that are enumerated whole and policies whose probabilities are known."""

import collections
import itertools
import math

import numpy as np
import pytest
from crossing import Crossing, HandMade, Thought, hand_made

from stgrpo.analysis.answers import Answers, Asked, ask
from stgrpo.analysis.credit import CreditSettings, measure_credit
from stgrpo.analysis.graph import GOAL, UNSEEN, build_graph
from stgrpo.analysis.measure import Amount, Measured, measure
from stgrpo.analysis.plays import feature, off_path, play
from stgrpo.analysis.statistics import bootstrap_mean, newcombe_interval, total_variation
from stgrpo.analysis.summary import REFERENCE, TRAINED, Study, summarise
from stgrpo.analysis.theory import amplified, graph_success, lowered, path_success, prefix_success
from stgrpo.evaluation.episodes import EpisodeConfig
from stgrpo.evaluation.metrics import wilson_interval
from stgrpo.files import from_json, to_json
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle
from stgrpo.react.reward import RewardWeights
from stgrpo.report.analysis import analysis_view
from stgrpo.report.rendering import render
from stgrpo.rl.advantages import Credit

STYLE = PromptStyle(instructions="none")
PROBLEMS = tuple(map(Crossing, ("grid:4x1", "grid:1x3", "grid:2x2", "grid:3x2", "grid:3x3")))
GRAPHS = [build_graph(problem, problem, most=100) for problem in PROBLEMS]


def courses(problem: Crossing, policy: HandMade):
    """Every course an episode can take: its states, its actions, whether it came to the goal, its probability."""
    waiting = [((problem.initial_state(),), (), 1.0)]
    while waiting:
        states, actions, p = waiting.pop()
        if problem.is_goal(states[-1]):
            yield states[:-1], actions, True, p
        elif len(actions) == problem.max_steps:
            yield states[:-1], actions, False, p
        else:
            at, left = problem.observation(states[-1]), 1.0
            for action in problem.valid_actions(states[-1]):
                q = policy.truth(at, action)
                left -= q
                waiting.append(((*states, problem.step(states[-1], action)), (*actions, action), p * q))
            yield states, actions, False, p * left


def known(policy: HandMade) -> Measured:
    """What would be measured with infinitely many answers: a row of the probabilities themselves, and no episodes."""
    answers = []
    for graph in GRAPHS:
        rows = [(node, [[policy.truth(node.observation, a) for a in node.right]]) for node in graph.nodes]
        answers.append(tuple(Answers(n.right, np.array(row), np.array(row), 1) for n, row in rows))
    return Measured(tuple(answers), ())


def test_the_graph_has_the_experts_path_and_every_way_of_fewest_steps():
    for problem, graph in zip(PROBLEMS, GRAPHS, strict=True):
        width, height = problem.size
        assert graph.count_plans() == math.comb(width + height - 2, width - 1)
        assert graph.unique == (graph.count_plans() == 1)
        assert len(graph.nodes) == width * height - 1
        assert graph.states[: graph.horizon] == tuple((x, 0) for x in range(width - 1)) + tuple(
            (width - 1, y) for y in range(height - 1)
        )
        assert [node.distance for node in graph.path] == list(range(graph.horizon, 0, -1))
        assert graph.path[-1].optimal == {graph.path[-1].expert: GOAL}


def test_a_graph_that_is_cut_says_so():
    graph = build_graph(PROBLEMS[-1], PROBLEMS[-1], most=5)
    assert graph.cut and not graph.unique and len(graph.nodes) == 5
    assert any(UNSEEN in node.optimal.values() for node in graph.nodes)
    whole = graph_success(GRAPHS[-1], [dict.fromkeys(node.right, 0.4) for node in GRAPHS[-1].nodes])
    assert 0 < graph_success(graph, [dict.fromkeys(node.right, 0.4) for node in graph.nodes]) < whole


def test_the_recursions_are_what_enumeration_gives():
    policy = hand_made(PROBLEMS, seed=1)
    measured = known(policy)
    for i, (problem, graph) in enumerate(zip(PROBLEMS, GRAPHS, strict=True)):
        expert = tuple(node.expert for node in graph.path)
        ways = list(courses(problem, policy))
        assert sum(p for *_, p in ways) == pytest.approx(1)
        fewest = sum(p for _, actions, success, p in ways if success and len(actions) == graph.horizon)
        copied = sum(p for _, actions, success, p in ways if success and actions == expert)
        for estimator in ("sampled", "scored"):
            assert measured.path_recursion(graph, i, estimator) == pytest.approx(copied, rel=1e-12)
            assert measured.graph_recursion(graph, i, estimator) == pytest.approx(fewest, rel=1e-12)
        for k, q in enumerate(prefix_success(measured.expert_p(graph, i, "scored")), start=1):
            assert q == pytest.approx(sum(p for _, actions, _, p in ways if actions[:k] == expert[:k]), rel=1e-12)


@pytest.mark.parametrize("odd", [0.0, 0.3])
def test_both_estimates_are_of_the_policys_probabilities(odd):
    """Also where some answers are unusable, and others are in a spelling that the tokenizer would not write."""
    policy, n = hand_made(PROBLEMS, seed=2, odd=odd), 400
    nodes = [node for graph in GRAPHS for node in graph.nodes]
    found = ask(policy, [Asked(node, key) for key, node in enumerate(nodes)], samples=n, style=STYLE)
    z = []
    for node, answers in zip(nodes, found, strict=True):
        truth = [policy.truth(node.observation, action) for action in node.right]
        assert answers.n == n and answers.celled == pytest.approx(n * 0.95 * (1 - odd), abs=5 * n**0.5)
        for a, p in enumerate(truth):
            assert abs(answers.sampled_GA[:, a].mean() - p) < 5 * math.sqrt(p * (1 - p) / n)
            error = answers.scored_GA[:, a].std() / math.sqrt(n)
            assert abs(answers.scored_GA[:, a].mean() - p) < 5 * error + 1e-9
            z.append((answers.scored_GA[:, a].mean() - p) / error)
            if len(node.valid_actions) > 1:
                assert answers.scored_GA[:, a].var() < answers.sampled_GA[:, a].var()
    assert abs(np.mean(z)) < 4 / math.sqrt(len(z)), "unbiased over all states"


def test_with_one_thought_and_no_unusable_answer_the_scored_estimate_is_exact():
    problem = PROBLEMS[3]
    actions = {"Go east": 0.5, "Go north": 0.3, "Go west": 0.15, "Go south": 0.05}
    table = {}
    for state in itertools.product(range(3), range(2)):
        valid = {a: actions[a] for a in problem.valid_actions(state)}
        table[problem.observation(state)] = [
            Thought("So.", 1.0, {a: p / sum(valid.values()) for a, p in valid.items()})
        ]
    policy = HandMade(table)
    graph = GRAPHS[3]
    found = ask(policy, [Asked(node, 7) for node in graph.nodes], samples=2, style=STYLE)
    for node, answers in zip(graph.nodes, found, strict=True):
        for action, p in answers.probabilities("scored").items():
            assert p == pytest.approx(policy.truth(node.observation, action), rel=1e-12)
    assert graph_success(graph, [a.probabilities("scored") for a in found]) == pytest.approx(
        sum(p for _, actions, success, p in courses(problem, policy) if success and len(actions) == 3), rel=1e-12
    )


def test_answers_depend_on_seed_and_state_alone():
    policy = hand_made(PROBLEMS, seed=3)
    asked = [Asked(node, key) for key, node in enumerate(GRAPHS[4].nodes)]
    together = ask(policy, asked, samples=300, style=STYLE)
    alone = [ask(policy, [each], samples=300, style=STYLE)[0] for each in asked]
    assert all(np.array_equal(a.scored_GA, b.scored_GA) for a, b in zip(together, alone, strict=True))


def test_episodes_are_what_enumeration_gives():
    policy, n = hand_made(PROBLEMS, seed=4), 600
    config = EpisodeConfig(SamplingParams(200), style=STYLE, seed=5)
    for problem, graph, plays in zip(PROBLEMS, GRAPHS, play(policy, GRAPHS, episodes=n, config=config), strict=True):
        ways = list(courses(problem, policy))
        expert, at = tuple(node.expert for node in graph.path), graph.states[: graph.horizon]
        truths = (
            sum(p for _, _, won, p in ways if won),
            sum(p for _, actions, won, p in ways if won and len(actions) == graph.horizon),
            sum(p for _, actions, won, p in ways if won and actions == expert),
        )
        shares = (sum(p.success for p in plays), sum(p.fewest for p in plays), sum(p.as_expert for p in plays))
        for share, truth in zip(shares, truths, strict=True):
            assert abs(share / n - truth) < 5 * math.sqrt(truth * (1 - truth) / n)
        for step, away in enumerate(off_path(graph, plays)):
            truth = sum(p for s, _, _, p in ways if len(s) <= step or s[step] != at[step])
            assert abs(away - truth) < 5 * math.sqrt(truth * (1 - truth) / n) + 1e-12
        met, truth = collections.Counter([s for p in plays for s in p.states]), collections.Counter()
        for states, _, _, p in ways:
            for state in states:
                truth[state] += p
        assert total_variation(met, truth) < 0.06
        assert total_variation(collections.Counter(at), met) == pytest.approx(
            total_variation(collections.Counter(at), truth), abs=0.05
        )
        features = {(problem.distance(s), "Go") for s in truth}
        assert {f for p in plays for f in p.features} == features


def study_of(seed: int, trained_skill: float) -> tuple[Study, dict]:
    policies = {
        REFERENCE: hand_made(PROBLEMS, seed=seed),
        TRAINED: hand_made(PROBLEMS, seed=seed, skill=trained_skill),
    }
    measured = {
        name: measure(p, GRAPHS, amount=Amount(200, 150, i), style=STYLE)
        for i, (name, p) in enumerate(policies.items())
    }
    training = [feature(d, "Go east") for d in (1, 2, 3)]
    how = CreditSettings(Credit(), 8, RewardWeights(), "distance", STYLE, 1)
    credit = {
        name: measure_credit(p, GRAPHS, [plays[:16] for plays in measured[name].plays], how=how)
        for name, p in policies.items()
    }
    return Study(GRAPHS, measured, (0.1, 1.0), training, 0, credit), policies


def test_the_tables_are_those_of_the_policies():
    study, policies = study_of(seed=6, trained_skill=2.0)
    found = from_json(to_json(summarise(study)))  # strict: no number that is none
    assert all("from" in table for name, table in found.items() if name != "states")
    assert found["layouts"] == {
        **found["layouts"],
        "n": 5,
        "unique": 2,
        "cut": 0,
        "expert_states": 14,
        "states_of_fewest_steps": 21,
    }
    truth = {name: [[p.truth(n.observation, n.expert) for n in g.path] for g in GRAPHS] for name, p in policies.items()}
    for name, policy in policies.items():
        wanted = np.mean([np.mean(row) for row in truth[name]])
        for estimator, tolerance in (("sampled", 0.03), ("scored", 0.01)):
            assert found["single_turn"][name]["expert"][estimator]["mean"] == pytest.approx(wanted, abs=tolerance)
        assert found["single_turn"][name]["agreement"]["scored_in_interval_of_sampled"] > 0.7
        assert 0 < found["single_turn"][name]["agreement"]["variance_ratio"] < 0.6
        second = found["theorem_3_2"][name]
        copied = np.mean([path_success(row) for row in truth[name]])
        ways = [list(courses(problem, policy)) for problem in PROBLEMS]
        fewest = np.mean(
            [sum(p for _, a, won, p in w if won and len(a) == g.horizon) for w, g in zip(ways, GRAPHS, strict=True)]
        )
        assert second["as_expert"]["scored"]["mean"] == pytest.approx(copied, abs=0.02)
        assert second["as_expert"]["episodes"]["mean"] == pytest.approx(copied, abs=0.07)
        assert second["fewest"]["scored"]["mean"] == pytest.approx(fewest, abs=0.02)
        difference = second["fewest"]["scored_minus_episodes"]
        assert difference["low"] - 0.04 < 0 < difference["high"] + 0.04
        gap = second["fewest_minus_as_expert_where_not_unique"]
        assert gap["scored"]["n"] == 3
        assert gap["scored"]["mean"] == pytest.approx((fewest - copied) * 5 / 3, abs=0.03)
    before, after = (list(itertools.chain(*truth[name])) for name in (REFERENCE, TRAINED))
    assert min(np.subtract(after, before)) >= 0, "these policies keep the theorem's premise"
    third = found["theorem_3_3"]
    assert third["higher"] > 0.8 and third["shown_lower"] == 0 and third["shown_higher"] > 0.5
    assert third["gain"]["low"] > 0 and third["layouts_lower"] == 0
    assert found["corollary_3_2"]["prefixes"] == 14 and found["corollary_3_2"]["lower"] == 0
    assert [row["steps"] for row in found["corollary_3_2"]["by_steps"]] == [1, 2, 3, 4]
    for row in found["theorem_3_1"]["betas"]:
        wanted = np.mean([amplified(p, row["beta"])[0] for p in before])
        assert row["mean_fixed_point"] == pytest.approx(wanted, abs=0.02)
    assert found["theorem_3_1"]["share_not_lower"] > 0.9
    assert found["assumption_3_1"][TRAINED]["off_path"]["mean"] < found["assumption_3_1"][REFERENCE]["off_path"]["mean"]
    assert [row["layouts"] for row in found["horizons"][TRAINED]] == [2, 2, 1]
    assert len(found["states"]) == 14
    last = [row for row in found["states"] if row["distance"] == 1]
    ends = [row[TRAINED]["prefix"] for row in last]
    assert np.mean(ends) == pytest.approx(found["theorem_3_2"][TRAINED]["as_expert"]["scored"]["mean"])
    view = analysis_view({"settings": {"samples": 200, "episodes": 150, "temperature": 1.0}, **found})
    page = render("analysis.html", analysis=view)
    turns = [sum(len(p.states) for plays in study.policies[TRAINED].plays for p in plays[:16])]
    assert [found["credit"][TRAINED]["turns"]] == turns and f"SFT + GRPO: {turns[0]} turns" in page
    assert page.count("with equal states (GiGPO)") == 2
    assert len(view.charts) == 5 and page.count('data-x="horizon"') == 3 and "5 unseen layouts" in page


def test_a_policy_that_gets_worse_somewhere_is_found_out():
    study, _ = study_of(seed=6, trained_skill=0.0)
    third = summarise(study)["theorem_3_3"]
    assert third["lower"] > 0.8 and third["shown_lower"] > 0.5 and third["shown_higher"] == 0
    assert third["layouts_where_premise_holds"] == 0 and third["layouts_lower"] == 1
    assert third["gain"]["high"] < 0
    assert third["success"][TRAINED]["mean"] >= third["bound"]["mean"]


def test_the_bound_holds_for_any_probabilities():
    rng = np.random.default_rng(0)
    for _ in range(300):
        before, after = rng.random((2, rng.integers(1, 9)))
        assert path_success(after) >= path_success(before) - lowered(before, after) - 1e-12
        if (after >= before).all():
            assert lowered(before, after) == 0


def test_the_fixed_point_is_one_and_not_below_the_reference():
    for beta, p in itertools.product((0.01, 0.1, 1.0, 10.0, 100.0), (1e-6, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6)):
        fixed, rested = amplified(p, beta)
        assert fixed >= p
        if rested:
            right = math.exp(min(700, (1 / beta) / math.sqrt(fixed * (1 - fixed) + 1e-6)))
            assert fixed == pytest.approx(1 / (1 + (1 - p) / p / right), abs=1e-6)
    assert amplified(0.3, 0.001)[0] == pytest.approx(1)
    assert amplified(0.3, 1e6)[0] == pytest.approx(0.3, abs=1e-4)
    assert (amplified(0.0, 1.0), amplified(1.0, 1.0)) == ((0.0, True), (1.0, True))


def test_intervals_and_distances_by_hand():
    # Newcombe 1998, table II, 56/70 and 48/80 by method 10: .0524 to .3339.
    low, high = newcombe_interval(48, 80, 56, 70)
    assert (low, high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    assert newcombe_interval(0, 10, 0, 10) == pytest.approx((-wilson_interval(0, 10)[1], wilson_interval(0, 10)[1]))
    assert total_variation({"a": 1, "b": 3}, {"a": 1, "c": 1}) == pytest.approx(0.75)
    assert total_variation({"a": 2}, {"a": 5}) == 0
    with pytest.raises(ValueError, match="without counts"):
        total_variation({}, {"a": 1})
    assert bootstrap_mean([], seed=0) == {"mean": None, "low": None, "high": None, "n": 0}
    rng = np.random.default_rng(1)
    inside = 0
    for i in range(200):
        interval = bootstrap_mean(rng.normal(size=40).tolist(), seed=i)
        inside += interval["low"] < 0 < interval["high"]
    assert 0.88 < inside / 200 < 0.99
