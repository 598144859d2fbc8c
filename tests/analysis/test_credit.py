"""How estimated advantages go with the true ones: statistics by hand, and turns of a policy whose answers are known."""

import numpy as np
import pytest
from crossing import Crossing, hand_made
from scipy.stats import pearsonr, spearmanr

from stgrpo.analysis.credit import CreditSettings, TurnCredit, agreement, measure_credit
from stgrpo.analysis.graph import build_graph
from stgrpo.analysis.plays import play
from stgrpo.evaluation.episodes import EpisodeConfig
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle
from stgrpo.react.reward import RewardWeights
from stgrpo.rl.advantages import ADVANTAGES, Credit

STYLE = PromptStyle(instructions="none")
PROBLEMS = tuple(map(Crossing, ("grid:4x1", "grid:2x2", "grid:3x3")))
GRAPHS = [build_graph(problem, problem, most=100) for problem in PROBLEMS]


def turns(x, y, pairs):
    return TurnCredit({"e": np.array(x, float)}, np.array(y, float), np.array(pairs))


def test_statistics_are_those_over_all_turns():
    layouts = [turns([1, 0, -1, 2], [0, 0, -2, -1], [0, 0, 1, 2]), turns([-1, 3, 0.5], [-6, 0, 0], [0, 1, 1])]
    x, y = np.array([1, 0, -1, 2, -1, 3, 0.5]), np.array([0, 0, -2, -1, -6, 0, 0])
    found = {name: value["mean"] for name, value in agreement(layouts, seed=0)["e"].items()}
    assert found["zero"] == pytest.approx(1 / 7)
    assert found["right_sign"] == pytest.approx(5 / 6)  # 2 for a lost step is wrong
    assert found["pearson"] == pytest.approx(pearsonr(x, y)[0])
    assert found["spearman"] == pytest.approx(spearmanr(x, y)[0])
    assert found["variance"] == pytest.approx(x.var())
    within = (0.5 + 2 * 1.25**2) / 2  # two pairs that were met twice
    assert found["noise"] == pytest.approx(within / x.var())


def test_a_constant_goes_with_nothing_and_no_turns_have_no_table():
    found = agreement([turns([0, 0], [0, -1], [0, 1])], seed=0)["e"]
    means = {name: value["mean"] for name, value in found.items()}
    assert means == {"zero": 1, "right_sign": 0, "pearson": 0, "spearman": 0, "variance": 0, "noise": 0}
    assert agreement([turns([], [], np.zeros(0, int))], seed=0) == {}


def test_an_interval_is_of_layouts_drawn_anew():
    rng = np.random.default_rng(0)
    layouts = [turns(x := rng.normal(size=30), x + rng.normal(size=30), np.arange(30)) for _ in range(20)]
    found = agreement(layouts, seed=1)["e"]["pearson"]
    assert found["low"] < found["mean"] < found["high"] and found["high"] - found["low"] < 0.2
    one = agreement(layouts[:1], seed=1)["e"]["pearson"]
    assert one["low"] == pytest.approx(one["high"]) == pytest.approx(one["mean"])  # one layout is drawn always


@pytest.fixture(scope="module")
def measured():
    policy, how = hand_made(PROBLEMS, seed=3), CreditSettings(Credit(), 8, RewardWeights(0.0, 1.0), "optimal", STYLE, 5)
    config = EpisodeConfig(SamplingParams(200), style=STYLE, seed=5)
    plays = play(policy, GRAPHS, episodes=43, config=config)  # three are left out
    told = []
    found = measure_credit(policy, GRAPHS, plays, how=how, progress=lambda *each: told.append(each))
    assert told[-1][0] == told[-1][1] > 0 and told[-1][1] % 7 == 0
    return plays, found


def test_every_estimator_sees_the_turns_of_whole_groups(measured):
    plays, found = measured
    for graph, each, credit in zip(GRAPHS, plays, found, strict=True):
        wanted = []
        for episode in each[:40]:
            states = episode.recorded.states
            for turn, state, after in zip(episode.recorded.episode.turns, states, states[1:], strict=False):
                problem = graph.problem
                left = problem.max_steps if turn.failure else problem.distance(after)
                wanted.append(problem.distance(state) - 1 - left)
        np.testing.assert_array_equal(credit.true_U, wanted)
        assert set(credit.estimated) == {"response", *ADVANTAGES}
        assert all(values.shape == credit.true_U.shape for values in credit.estimated.values())


def test_true_advantages_tell_more_of_an_action_than_the_end_of_its_episode(measured):
    found = agreement(measured[1], seed=0)
    values = {key: {name: found[name][key]["mean"] for name in found} for key in ("pearson", "spearman", "noise")}
    assert values["spearman"]["exact"] > values["spearman"]["step"] > values["spearman"]["episode"] > 0
    assert values["spearman"]["response"] > values["spearman"]["episode"]
    assert max(values["noise"]["exact"], values["noise"]["response"]) < values["noise"]["episode"] / 3
