"""`stgrpo analyse`: what it refuses, and one of everything on a run that has learned nothing."""

import json
import pathlib
import shutil

import pytest
from commands import call
from crossing import Crossing, Grids

from stgrpo.command_line import parse
from stgrpo.config import base
from stgrpo.errors import UserError
from stgrpo.stages import analyse

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"


class Crossings(Grids):
    """An environment of grids; with `plans` it has a planner."""

    def __init__(self, plans: bool, max_steps: int = 8, sizes: tuple[str, ...] = ("grid:2x2", "grid:1x1", "grid:3x3")):
        self._max_steps, self._sizes = max_steps, sizes
        if plans:
            self.planner = lambda problem: problem

    def layouts(self, task, family, *, split, count, seed=0):
        assert split == "test", "only unseen layouts"
        return list(self._sizes[:count])

    def make(self, task, layout):
        return Crossing(layout, self._max_steps)


@pytest.fixture
def run(tmp_path):
    """The work directory of a run that has made nothing yet."""
    workdir = tmp_path / "w"
    workdir.mkdir()
    (workdir / "config.json").write_text(parse(["collect", SMOKE, f"--workdir={workdir}"]).config.to_json())
    return workdir


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--layouts=0"], "layouts"),
        (["--samples=1"], "samples"),
        (["--episodes=0"], "episodes"),
        (["--seed=-1"], "seed"),
        (["--episodes=many"], "episodes"),
        (["--config.policy.kind=model", "--config.policy.path=m"], "policy.kind='model' was not trained here"),
        (["--config.policy.kind=server", "--config.policy.server=http://x", "--config.policy.model=m"], "policy.kind="),
        ([], "holds no checkpoint: run `stgrpo sft`"),
        (["--config.seed=1"], "another config (seed: 1 here, 0 there)"),
        (["--checkpoint=x"], "--checkpoint is for evaluate"),
    ],
)
def test_mistakes_are_one_line(run, capsys, flags, said):
    assert call("analyse", SMOKE, f"--workdir={run}", *flags) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not (run / "analysis.json").exists()


def test_the_config_is_that_of_the_run(run, tmp_path, capsys):
    command = parse(["analyse", f"--workdir={run}", "--samples=3"])
    assert (command.config.grpo.group_size, command.samples, command.layouts) == (4, 3, 50)
    assert call("analyse", "--workdir", run) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    for flags in ((), (SMOKE,)):
        assert call("analyse", f"--workdir={tmp_path / 'other'}", *flags) == 2
        assert "has no config.json: give the folder of a run" in capsys.readouterr().err
    assert call("analyse") == 2
    assert "--config is missing" in capsys.readouterr().err
    assert call("evaluate", SMOKE, f"--workdir={run}", "--samples=3") == 2
    assert "--samples is for analyse" in capsys.readouterr().err
    with pytest.raises(UserError, match="in a bucket"):
        parse(["analyse", "--workdir=s3://bucket/run"])


@pytest.mark.parametrize(("field", "value"), [("prompt.history", "last_action"), ("env.failure", 0.1)])
def test_what_the_theorems_do_not_speak_of_is_refused(field, value):
    config = base()
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(UserError, match=field):
        analyse.check(config)


def test_layouts_that_cannot_be_finished_are_left_out_and_counted(monkeypatch):
    config = base()
    config.env.tasks = ("cross",)
    found = {}
    for name, environment in (
        ("all", Crossings(plans=True)),
        ("short", Crossings(plans=True, max_steps=3)),
        ("none", Crossings(plans=True, max_steps=1)),
        ("blind", Crossings(plans=False)),
    ):
        monkeypatch.setattr(analyse, "environment_of", lambda config, environment=environment: environment)
        try:
            graphs, left_out = analyse.layout_graphs(config, 3)
            found[name] = [graph.problem.layout for graph in graphs], left_out
        except UserError as error:
            found[name] = str(error)
    assert found["all"] == (["grid:2x2", "grid:3x3"], 1), "one begins at its goal"
    assert found["short"] == (["grid:2x2"], 2)
    assert "none of 3 layouts" in found["none"]
    assert "cross grid:2x2 has no planner" in found["blind"]


@pytest.mark.slow
def test_a_run_is_analysed_and_shown(tmp_path, capsys):
    """The same command gives the same numbers; SFT's checkpoint in the place of GRPO's is refused."""
    workdir = tmp_path / "w"
    short = ("--config.sft.steps=2", "--config.grpo.steps=1", "--config.grpo.validate_every=0")
    for stage in ("collect", "sft", "grpo"):
        assert call(stage, SMOKE, f"--workdir={workdir}", *short) == 0
    tables = []
    for _ in range(2):
        assert call("analyse", f"--workdir={workdir}", "--layouts=2", "--samples=4", "--episodes=3") == 0
        tables.append(json.loads((workdir / "analysis.json").read_text()))
    assert "P(fewest steps), episodes" in capsys.readouterr().out
    first, again = ({k: v for k, v in table.items() if k != "settings"} for table in tables)
    assert first == again
    assert tables[0]["settings"]["layouts"] == 2 and tables[0]["settings"]["policies"]["trained"]["step"] == 1
    assert first["layouts"]["n"] == 2 and len(first["states"]) == first["layouts"]["expert_states"]
    assert call("report", SMOKE, f"--workdir={workdir}", *short) == 0
    page = (workdir / "report.html").read_text()
    assert 'id="theory"' in page and "2 unseen layouts" in page
    shutil.rmtree(workdir / "checkpoints" / "grpo")
    shutil.copytree(workdir / "checkpoints" / "sft", workdir / "checkpoints" / "grpo")
    assert call("analyse", f"--workdir={workdir}") == 2
    assert "was trained against reference" in capsys.readouterr().err
