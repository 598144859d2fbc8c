import pytest

from stgrpo.evaluation import metrics
from stgrpo.evaluation.files import Evaluation
from stgrpo.evaluation.records import Episode, TurnRecord
from stgrpo.protocol import Noun
from stgrpo.report.environment import EnvironmentView, find_environment
from stgrpo.report.rendering import render
from stgrpo.report.replays import choose_episodes, choose_pairs, judge
from stgrpo.report.results import compare, results_view, verdict

ROBOTOUILLE = find_environment({"env.name": "robotouille"}, [])

TURN = TurnRecord(0, 0, "o", "r", "a", "", "a", True, True, 1, "stop", 9, 3)


def evaluation(name: str, successes: list[bool], *, family="small", task="burger") -> Evaluation:
    episodes = tuple(
        Episode(task, f"{family}:{i}", ok, 8 if ok else 2, 15, "" if ok else "invalid", 8, (TURN,))
        for i, ok in enumerate(successes)
    )
    summary = metrics.summarise(episodes)
    return Evaluation(name, summary, {task: summary}, {}, episodes)


def section(*evaluations: Evaluation, environment: EnvironmentView = ROBOTOUILLE) -> str:
    comparisons = compare({e.name: e for e in evaluations}, environment)
    return render("results.html", results=results_view(comparisons, environment))


def test_a_significant_gain_is_claimed_and_another_is_not():
    gain = section(evaluation("sft_unseen", [False] * 8), evaluation("grpo_unseen", [True] * 8))
    assert "GRPO solves more kitchens than SFT (p = 0.0078" in gain
    even = section(evaluation("sft_unseen", [False, True]), evaluation("grpo_unseen", [True, True]))
    assert "No difference between SFT and GRPO is shown (p = 1," in even
    assert "fewer mazes" in verdict(metrics.mcnemar([True] * 8, [False] * 8), Noun("maze", "mazes"))


def test_the_table_has_our_rows_with_intervals_beside_the_papers():
    page = section(evaluation("grpo_benchmark", [True] * 7 + [False] * 3, family="test"))
    assert page.count("40–89 %") == 2, "7 of 10, ours and the paper's"
    assert "<td>10.1</td><td>8.0</td>" in page and "ten test kitchens" in page
    assert "SFT has not been evaluated" in page


def test_evaluations_are_grouped_by_layouts_and_task_most_episodes_first():
    comparisons = compare(
        {
            e.name: e
            for e in (
                evaluation("grpo_benchmark", [True], family="test"),
                evaluation("grpo_unseen", [True] * 3),
                evaluation("sft_unseen", [True] * 3),
            )
        },
        ROBOTOUILLE,
    )
    assert [(c.suite, list(c.stages)) for c in comparisons] == [("unseen", ["sft", "grpo"]), ("benchmark", ["grpo"])]
    assert comparisons[0].test.both == 3 and comparisons[1].test is None


def test_names_from_files_are_escaped():
    page = section(evaluation('"><script>_<img>', [True], family="<odd>", task="<task>"))
    assert "<script>" not in page and "<img" not in page and "<task>" not in page


def test_replays_prefer_what_changed_and_vary_the_failures():
    sft = evaluation("sft_x", [True, False, False, True]).episodes
    grpo = evaluation("grpo_x", [True, False, True, False]).episodes
    pairs = [(a.success, b.success) for a, b in choose_pairs(sft, grpo)]
    assert pairs == [(False, True), (True, False), (False, False), (True, True)]
    kinds = ["loop"] * 5 + ["invalid", "format"]
    failed = [Episode("burger", str(i), False, 3, 15, kind, 8, (TURN,)) for i, kind in enumerate(kinds)]
    assert [e.failure for e in choose_episodes(failed)] == ["loop", "invalid", "format"]


@pytest.mark.parametrize(
    "failure, exact, optimal, tone",
    [
        ("", True, True, "good"),
        ("", False, True, "fair"),
        ("", False, False, "poor"),
        ("", None, None, "plain"),
        ("reasoning", False, False, "bad"),
        ("finish", False, False, "bad"),
        ("invalid", False, False, "bad"),
    ],
)
def test_a_response_is_judged(failure, exact, optimal, tone):
    assert judge(TurnRecord(0, 0, "o", "r", "a", failure, "a", exact, optimal, 1, "stop", 9, 3))[0] == tone


def test_served_models_have_rows_of_their_own_and_no_part_in_the_training():
    ours = [evaluation("sft_unseen", [True, False]), evaluation("grpo_unseen", [True, True])]
    served = evaluation("Qwen2.5-3B_unseen", [False, False])
    page = section(*ours, served)
    assert page.index("This run") < page.index("SFT + GRPO") < page.index("Served models") < page.index(">Qwen2.5-3B<")
    assert "Served models" not in section(*ours)
    assert "This run" not in section(served)


def test_without_an_environment_layouts_are_layouts_and_nothing_is_published():
    page = section(evaluation("grpo_unseen", [True], family="small"), environment=EnvironmentView())
    assert ">Layouts</th>" in page and "Burger — unseen layouts<" in page
    assert "kitchen" not in page.lower() and "The paper" not in page


def test_what_no_planner_judged_is_a_dash_and_said_once():
    blind = TurnRecord(0, 0, "o", "r", "a", "", None, None, None, None, "stop", 9, 3)
    episodes = tuple(Episode("maze", str(i), True, 2, 15, "", None, (blind,)) for i in range(3))
    summary = metrics.summarise(episodes)
    page = section(*(Evaluation(f"{s}_unseen", summary, {"maze": summary}, {}, episodes) for s in ("sft", "grpo")))
    assert page.count("No planner judged") == 1 and page.count("<td>–</td>") == 6
    assert "No planner" not in section(evaluation("grpo_unseen", [True]))


def test_scores_have_a_column_where_there_are_any():
    scored = tuple(
        Episode("shop", str(i), i == 0, 2, 15, "", 2, (TURN,), score=score) for i, score in enumerate((1.0, 0.5))
    )
    summary = metrics.summarise(scored)
    page = section(Evaluation("grpo_unseen", summary, {"shop": summary}, {}, scored))
    assert ">Score</th>" in page and "<td>75.0 %</td>" in page
    assert "Score" not in section(evaluation("grpo_unseen", [True]))
