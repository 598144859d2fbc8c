"""Work directories beside each other: what is paired, what is said of seeds and of layouts, what cannot be."""

import json
import pathlib

import numpy as np
import pytest
from commands import call

from stgrpo.comparison.compare import compare
from stgrpo.comparison.load import read_runs
from stgrpo.comparison.runs import groups_of
from stgrpo.errors import UserError
from stgrpo.evaluation.metrics import wilson_interval
from stgrpo.evaluation.statistics.paired import paired_difference
from stgrpo.sweeps.grid import points_of
from stgrpo.sweeps.plan import Plan, write_plan


def compared(*folders, margin=0.0):
    return compare(groups_of(read_runs(folders)), margin)


def outcomes(rate, seed, n=60):
    return (np.random.default_rng(seed).random(n) < rate).tolist()


def test_two_runs_are_paired_by_layout_and_what_differs_is_named(make_run):
    a, b = [True] * 30 + [False] * 30, [True] * 45 + [False] * 15
    found = compared(
        make_run("a", {"grpo_unseen": a}), make_run("b", {"grpo_unseen": b[::-1]}, {"grpo.kl_coef": 0.1}, layouts(60))
    )
    assert found.differ == ("grpo.kl_coef",) and found.notes == ()
    assert found.groups == {"kl_coef=0.001": ("a",), "kl_coef=0.1": ("b",)}
    assert [(row.group, row.seeds, row.layouts, row.sr) for row in found.rows] == [
        ("kl_coef=0.001", (0,), 60, 0.5),
        ("kl_coef=0.1", (0,), 60, 0.75),
    ]
    row = found.rows[0]
    assert row.over_layouts == wilson_interval(30, 60) and (row.over_seeds, row.over_both, row.variance) == (None,) * 3
    assert (row.failures, row.asat, row.asst) == ({"invalid": 30}, 12.5, 10) and row.spl == pytest.approx(0.4)
    (contrast,) = found.contrasts
    by_hand = paired_difference(a, b)
    assert (contrast.a, contrast.b) == ("SFT + GRPO, kl_coef=0.001", "SFT + GRPO, kl_coef=0.1")
    assert contrast.difference.estimate == 0.25 == by_hand.estimate and contrast.difference.low == by_hand.low
    assert contrast.p_value == contrast.p_holm == pytest.approx(2 * 0.5**15) and contrast.equivalent is None


def layouts(n):
    return [f"small:{i}" for i in reversed(range(n))]


def test_runs_that_differ_in_their_seed_are_one_row_with_a_spread_of_its_own(make_run):
    folders = [make_run(f"a{s}", {"grpo_unseen": outcomes(0.5, s)}, {"seed": s}) for s in (1, 0, 2)]
    folders += [
        make_run(f"b{s}", {"grpo_unseen": outcomes(0.8, 9 + s)}, {"seed": s, "grpo.kl_coef": 0.1}) for s in (0, 1, 2)
    ]
    found = compared(*folders, margin=0.05)
    first, second = found.rows
    rates = [np.mean(outcomes(0.5, s)) for s in (0, 1, 2)]
    assert first.seeds == (0, 1, 2) and first.sr == pytest.approx(np.mean(rates))
    assert first.over_seeds.sd == pytest.approx(np.std(rates, ddof=1))
    assert first.over_both[0] <= first.over_layouts[0] < first.sr < first.over_layouts[1] <= first.over_both[1]
    assert first.variance.decoding > 0 and first.variance.both is None
    (contrast,) = found.contrasts
    assert contrast.difference.estimate == pytest.approx(second.sr - first.sr) and contrast.difference.low > 0
    assert contrast.method == "bootstrap over seeds and layouts, paired t test over seeds" and contrast.p_value < 0.05
    assert contrast.equivalent is False


def test_two_seeds_that_go_apart_show_no_equivalence_however_many_layouts_there_are(make_run):
    folders = []
    for seed, more in ((0, 4), (1, 0)):
        for kl, k in ((0.001, 200), (0.1, 200 + more)):
            results = {"grpo_unseen": [True] * k + [False] * (400 - k)}
            folders.append(make_run(f"{seed}-{kl}", results, {"seed": seed, "grpo.kl_coef": kl}))
    (contrast,) = compared(*folders, margin=0.03).contrasts
    # Differences of .01 and 0: mean .005, and 6.314 · .005 beside it, the t of one degree of freedom, is .0366.
    assert contrast.difference.high < 0.03 and contrast.equivalent is False
    assert compared(*folders, margin=0.04).contrasts[0].equivalent is True


def test_a_config_and_seed_that_come_again_are_another_group(make_run):
    found = compared(make_run("old", {"sft_x": [True, False]}), make_run("new", {"sft_x": [True, True]}))
    assert found.groups == {"old": ("old",), "new": ("new",)} and found.differ == ()
    assert found.contrasts[0].difference.estimate == 0.5


def test_every_contrast_counts_for_holm_and_grpo_is_compared_with_sft(make_run):
    results = {"sft_unseen": [False] * 20 + [True] * 20, "grpo_unseen": [False] * 8 + [True] * 32}
    found = compared(make_run("a", results), make_run("b", results, {"grpo.kl_coef": 0.1}))
    assert [(c.a, c.b) for c in found.contrasts] == [
        ("SFT, kl_coef=0.001", "SFT, kl_coef=0.1"),
        ("SFT, kl_coef=0.001", "SFT + GRPO, kl_coef=0.001"),
        ("SFT, kl_coef=0.1", "SFT + GRPO, kl_coef=0.1"),
        ("SFT + GRPO, kl_coef=0.001", "SFT + GRPO, kl_coef=0.1"),
    ]
    p = 2 * 0.5**12
    assert [c.p_value for c in found.contrasts] == pytest.approx([1.0, p, p, 1.0])
    assert [c.p_holm for c in found.contrasts] == pytest.approx([1.0, 4 * p, 4 * p, 1.0])


def test_the_very_same_policy_is_not_compared_with_itself(make_run):
    same = {"sft_x": [True, False]}
    first, second = {"fingerprint": "0000abcd", "base": ""}, {"fingerprint": "1111abcd", "base": ""}
    a = make_run("a", same, settings=first)
    assert compared(a, make_run("b", same, {"grpo.kl_coef": 0.1}, settings=first)).contrasts == ()
    assert len(compared(a, make_run("c", same, {"grpo.kl_coef": 0.1}, settings=second)).contrasts) == 1


def test_what_cannot_be_paired_is_said(make_run):
    one = make_run("one", {"grpo_unseen": [True, False]})
    elsewhere = make_run("two", {"grpo_unseen": [True, False]}, {"seed": 1}, ["small:7", "small:8"])
    other = make_run("three", {"grpo_unseen": [True, False]}, {"grpo.kl_coef": 0.1}, ["small:7", "small:8"])
    some = make_run("four", {"grpo_unseen": [True, False]}, {"grpo.kl_coef": 0.1, "seed": 1}, ["small:8", "small:9"])
    without = make_run("five", {}, {"grpo.kl_coef": 0.2})
    found = compared(one, elsewhere, other, some, without)
    assert "five has no evaluation yet" in found.notes[0]
    assert "grpo_unseen of burger, kl_coef=0.001: its trainings have no layout in common" in found.notes[1]
    assert "kl_coef=0.1: 1 of 2 layouts are left out" in found.notes[2]
    assert [(row.group, row.layouts) for row in found.rows] == [("kl_coef=0.1", 1)] and found.contrasts == ()
    found = compared(one, other)
    assert found.notes == (
        "SFT + GRPO, kl_coef=0.001 and SFT + GRPO, kl_coef=0.1 have no layout of burger (unseen) in common: not paired",
    )


def test_trainings_that_all_fail_have_an_interval_with_a_width(make_run):
    found = compared(*(make_run(f"a{s}", {"grpo_unseen": [False] * 10}, {"seed": s}) for s in (0, 1)))
    assert found.rows[0].over_layouts == found.rows[0].over_both == wilson_interval(0, 10)


def test_a_sweep_stands_for_its_points(make_run, tmp_path):
    from stgrpo.config import base

    for seed in (0, 1):
        make_run(f"sweep/points/seed={seed}", {"grpo_unseen": [True, False]}, {"seed": seed})
    write_plan(tmp_path / "sweep", Plan.of(base(), points_of({"seed": [0, 1, 2]})))
    assert [run.name for run in read_runs([tmp_path / "sweep"])] == ["seed=0", "seed=1"]
    assert [row.seeds for row in compared(tmp_path / "sweep").rows] == [(0, 1)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "compare takes work directories"),
        (["nowhere"], "nowhere is no folder"),
        (["."], "has no evaluation and no metrics.jsonl"),
        (["--margin=1", "."], "--margin=1.0 must be"),
        (["--out=no/where.html", "."], "stands in no folder"),
        (["--colour=red", "."], "colour"),
    ],
)
def test_a_mistake_is_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("compare", *arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_damaged_config_is_named(make_run):
    folder = make_run("a", {"grpo_unseen": [True]})
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match="config.json"):
        read_runs([folder])


def test_the_command_prints_tables_and_writes_figures_and_a_page(make_run, tmp_path, capsys):
    folders = []
    for seed in (0, 1):
        for kl in (0.001, 0.1):
            rows = [{"stage": "grpo", "step": i, "reward": i / (seed + 1 + kl)} for i in range(1, 6)]
            fields = {"seed": seed, "grpo.kl_coef": kl}
            results = {"grpo_unseen": outcomes(0.4 + kl, seed)}
            folders.append(make_run(f"{seed}-{kl}-<b>", results, fields, metrics=rows))
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    assert call("compare", f"--out={page}", f"--json={figures}", "--margin=0.9", *folders) == 0
    shown = capsys.readouterr().out
    assert "they differ in grpo.kl_coef" in shown and "SFT + GRPO  kl_coef=0.1" in shown
    found = json.loads(figures.read_text())
    assert [row["seeds"] for row in found["rows"]] == [[0, 1], [0, 1]] and found["contrasts"][0]["equivalent"] is True
    html = page.read_text()
    assert html.count('class="s0 band"') == html.count('class="s1 band"') == 1 and "0-0.001-&lt;b&gt;" in html
    assert "http" not in html.replace("http-equiv", "") and "<b>" not in html.replace("<b>3", "").split("Training")[0]


def test_the_templates_go_with_the_package():
    assert (pathlib.Path(compare.__code__.co_filename).parents[1] / "report" / "templates" / "compare.html").is_file()


def registered(folder, name, **more):
    """What would have been written before an evaluation; its hash goes into the result."""
    protocol = {"on_invalid": "end", "layouts": {"burger": {"digest": "0"}}} | more
    line = {"stage": "evaluate", "evaluation": name, "date": "d", "hash": "0a", "protocol": protocol, "policy": {}}
    (folder / "evaluation" / "protocols.jsonl").write_text(json.dumps(line) + "\n")
    file = folder / "evaluation" / f"{name}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"protocol": "0a"}))
    return folder


def test_other_protocols_are_told_and_the_same_one_stands_in_the_title(make_run, tmp_path, capsys):
    name, results = "grpo_unseen", {"grpo_unseen": [True, False]}
    a, b = registered(make_run("a", results), name), registered(make_run("b", results, {"seed": 1}), name)
    assert call("compare", f"--out={tmp_path / 'p.html'}", a, b) == 0
    (row,) = compared(a, b).rows
    assert len(row.protocols) == 1 and f"burger, unseen, protocol {row.protocols[0]}\n" in capsys.readouterr().out
    assert f"Burger — unseen, protocol {row.protocols[0]}" in (tmp_path / "p.html").read_text()
    c = registered(make_run("c", results, {"seed": 2}), name, on_invalid="retry")
    found = compared(a, b, c)
    says = (
        "burger (unseen): SFT + GRPO, a was played by another protocol than SFT + GRPO, a (on_invalid: 'retry' here, "
    )
    assert found.notes == (f"{says}'end' there)",) and len(found.rows[0].protocols) == 2
    call("compare", a, c)
    assert "burger, unseen, by different protocols" in capsys.readouterr().out
    call("compare", a, make_run("older", results, {"seed": 3}), make_run("other", results, {"grpo.kl_coef": 0.1}))
    assert "where it is known" in capsys.readouterr().out
