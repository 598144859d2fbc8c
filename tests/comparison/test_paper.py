"""The tables in the paper's form: what stands in which cell, and what is said where there is nothing."""

import json

import pytest
from commands import call

from stgrpo import envs
from stgrpo.comparison.cells import Cell
from stgrpo.comparison.claims import claims
from stgrpo.comparison.compare import compare
from stgrpo.comparison.load import read_runs
from stgrpo.comparison.paper import NOT_RUN, paper_tables, tables_of
from stgrpo.comparison.runs import Group, groups_of
from stgrpo.evaluation.files import write_evaluation
from stgrpo.evaluation.records import Episode
from stgrpo.evaluation.statistics.paired import paired_difference

COLUMN = {"cheese_sandwich": 1, "burger": 2, "cheese_burger": 3, "double_cheese_burger": 4}


def tables(*folders):
    groups = groups_of(read_runs(folders))
    return [{row[0]: row for row in table.rows} for table in paper_tables(compare(groups), groups)]


def trained_on(*tasks, **fields):
    return {"env.tasks": tasks, **{name.replace("__", "."): value for name, value in fields.items()}}


def test_without_runs_there_are_the_papers_numbers_alone():
    main, sr, asat, asst = tables_of(envs.get("robotouille"), ())
    rows = {row[0]: row[1:] for row in main.rows}
    papers = (".3 / 12.5 / 6.7", ".7 / 10.1 / 8", ".7 / 15.8 / 12.7", ".3 / 30.5 / 20")
    assert rows["1.5B, SFT + GRPO: paper"] == papers
    assert rows["1.5B, SFT + GRPO: ours"] == rows["Qwen2.5-7B: ours"] == (NOT_RUN,) * 4
    assert sr.rows[4] == ("Cheese burger: paper", ".4", ".7", ".7", "0")
    assert asst.rows[2] == ("Burger: paper", "11.25", "8", "–", "–") and asat.rows[6][4] == "30.5"


def test_the_diagonal_of_the_matrix_is_the_main_table_and_what_is_trained_elsewhere_is_not(make_run):
    burger = make_run("b", {"sft_unseen": [True, False], "grpo_unseen": [True] * 2}, trained_on("burger"))
    cheese = make_run("c", {"grpo_unseen": [False] * 2}, trained_on("cheese_burger"))  # evaluated on burger too
    main, sr, asat, _, _ = tables(burger, cheese)
    assert main["SFT: ours"][COLUMN["burger"]] == ".50 [.09, .91] / 12.5 / 10.0"
    assert main["SFT + GRPO: ours"][1:] == (NOT_RUN, "1.00 [.34, 1.00] / 10.0 / 10.0", NOT_RUN, NOT_RUN)
    assert sr["Burger: ours"][COLUMN["burger"]] == "1.00 [.34, 1.00]"
    assert sr["Cheese burger: ours"][1:] == (NOT_RUN, ".00 [.00, .66]", NOT_RUN, NOT_RUN)
    assert asat["Cheese burger: ours"][COLUMN["burger"]] == "15.0"


def test_seeds_are_pooled_and_recipes_are_not(make_run):
    folders = [
        make_run(f"{seed}{kl}", {"grpo_unseen": [seed == 0] * 4}, trained_on("burger", seed=seed, grpo__kl_coef=kl))
        for seed in (0, 1)
        for kl in (0.001, 0.1)
    ]
    main, sr, *_ = tables(*folders)
    assert main["SFT + GRPO, kl_coef=0.001: ours"][2].startswith(".50 [.00, 1.00]")
    assert {"SFT + GRPO, kl_coef=0.1: ours", "1.5B, SFT + GRPO: paper"} <= main.keys()
    assert {"Burger, kl_coef=0.001: ours", "Burger, kl_coef=0.1: ours"} <= sr.keys()


def test_runs_of_several_tasks_are_in_no_table_but_models_that_were_not_trained_are(make_run):
    several = make_run("all", {"grpo_unseen": [True], "base_unseen": [False]}, trained_on("burger", "cheese_burger"))
    served = [Episode("burger", "small:0", True, 14, 15, "", 8, ())]
    write_evaluation(several / "evaluation", "Qwen2.5-7B-Instruct_unseen", served, settings={})
    main, sr, *_ = tables(several, make_run("b", {"grpo_unseen": [True]}, trained_on("burger", sft__epochs=1.0)))
    assert main["SFT + GRPO: ours"][2].startswith("1.00")  # the one recipe, whatever else was not trained for the paper
    main, sr, *_ = tables(several)
    assert main["Qwen2.5-7B-Instruct: ours"][2].startswith("1.00") and "Before training: ours" in main
    assert main["1.5B, SFT + GRPO: ours"][1:] == sr["Burger: ours"][1:] == (NOT_RUN,) * 4


def test_claims_are_held_to_what_was_trained_alone(make_run):
    half, most = [True, False] * 20, [True, True, True, False] * 10
    runs = [
        make_run(f"b{seed}", {"sft_unseen": half, "grpo_unseen": most}, trained_on("burger", seed=seed))
        for seed in (0, 1)
    ]
    episodes = [
        Episode("cheese_sandwich", f"small:{i}", i < 4, 9, 15, "" if i < 4 else "loop", 8, ()) for i in range(8)
    ]
    for run, kept in zip(runs, (episodes, episodes[2:]), strict=True):  # six kitchens that both trainings have played
        evaluation = [Episode("burger", f"small:{i}", v, 9, 15, "", 8, ()) for i, v in enumerate(most)]
        write_evaluation(run / "evaluation", "grpo_unseen", [*evaluation, *kept], settings={})
    rows = tables(*runs)[4]
    assert rows["GRPO above SFT: burger"][1].startswith("+0.250 [+0.")
    assert rows["GRPO above SFT: burger"][2:] == ("2", "40")
    simpler = rows["SR after GRPO on tasks that are simpler than the one trained on"]
    assert simpler[1].startswith("0.333 [") and simpler[2:] == ("2", "6")
    assert len(rows) == 2, "one task alone has nothing to be pooled with"
    cheese = make_run("c", {"sft_unseen": [False] * 40, "grpo_unseen": [False] * 40}, trained_on("cheese_burger"))
    rows = tables(*runs, cheese)[4]
    assert "GRPO above SFT: cheese burger" not in rows, "it was evaluated on burgers alone"
    simpler = rows["SR after GRPO on tasks that are simpler than the one trained on"]
    assert simpler[1].startswith(f"{2 / 46:.3f} [") and simpler[2:] == ("3", "46")


def test_several_tasks_are_pooled_and_where_nothing_differs_there_is_an_interval_still():
    def cells(task, sft, grpo):
        group = Group("all", ())
        both = (("sft", sft), ("grpo", grpo))
        return {
            (policy, task, task): Cell(
                "unseen", task, policy, group, (), (), tuple(played(task, row) for row in values)
            )
            for policy, values in both
        }

    def played(task, row):
        return {(f"small:{i}", 0): Episode(task, f"small:{i}", v, 9, 15, "", 8, ()) for i, v in enumerate(row)}

    none, every = [[False] * 30] * 2, [[True] * 30] * 2
    rows = {row[0]: row[1:] for row in claims({**cells("a", none, none), **cells("b", none, every)}, ("a", "b"))}
    low, high = (paired_difference([False] * 30, [False] * 30).low, paired_difference([False] * 30, [False] * 30).high)
    assert rows["GRPO above SFT: a"] == (f"+0.000 [{low:+.3f}, {high:+.3f}]", "2", "30") and high > 0.05
    together, *counts = rows["GRPO above SFT: these 2 tasks together"]
    half = paired_difference([False] * 60, [False] * 30 + [True] * 30)
    assert together == f"+0.500 [{half.low:+.3f}, {half.high:+.3f}]" and counts == ["4", "60"]
    whole = paired_difference([False] * 30, [True] * 30)
    assert rows["GRPO above SFT: b"][0] == f"+1.000 [{whole.low:+.3f}, {whole.high:+.3f}]" and whole.low < 0.95


def test_kitchens_that_several_policies_play_count_once(make_run):
    runs = []
    for task, solved in (("burger", 4), ("cheese_burger", 0)):
        run = make_run(task, {}, trained_on(task))
        episodes = [Episode("cheese_sandwich", f"small:{i}", i < solved, 9, 15, "", 8, ()) for i in range(8)]
        write_evaluation(run / "evaluation", "grpo_unseen", episodes, settings={})
        runs.append(run)
    simpler = tables(*runs)[4]["SR after GRPO on tasks that are simpler than the one trained on"]
    assert simpler[1].startswith("0.250 [") and simpler[2:] == ("2", "8")


def test_the_command_shows_writes_and_refuses(make_run, tmp_path, capsys):
    run = make_run("b", {"grpo_unseen": [True] * 2}, trained_on("burger"))
    files = [f"--out={tmp_path / 'p.html'}", f"--json={tmp_path / 'p.json'}"]
    assert call("compare", "--paper", *files, run) == 0
    assert "SR after GRPO, trained on (row), evaluated on (column), ours on unseen layouts" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "p.json").read_text())["paper"]) == 4  # of no claim is there anything to say
    page = (tmp_path / "p.html").read_text()
    assert "In the paper’s form" in page and "1.00 [.34, 1.00]" in page and "<h1>1 run</h1>" in page
    call("compare", f"--out={tmp_path / 'q.html'}", run)
    assert "In the paper’s form" not in (tmp_path / "q.html").read_text()
    elsewhere = make_run("w", {"grpo_unseen": [True]}, {"env.name": "webshop", "env.tasks": ("shop",)})
    capsys.readouterr()
    assert call("compare", "--paper", elsewhere) == 2
    assert capsys.readouterr().err == (
        "stgrpo: --paper: these runs played no environment with published results: leave it out\n"
    )


@pytest.mark.parametrize(("runs", "says"), [(1, "<h1>1 run</h1>"), (2, "<h1>2 runs in 1 group</h1>")])
def test_the_page_counts_runs_and_groups(runs, says, make_run, tmp_path):
    folders = [make_run(f"r{seed}", {"grpo_unseen": [True]}, {"seed": seed}) for seed in range(runs)]
    call("compare", f"--out={tmp_path / 'p.html'}", *folders)
    assert says in (tmp_path / "p.html").read_text()
