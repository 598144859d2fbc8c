"""The words of a sweep, and every way to get them wrong: one line, exit 2, and nothing is made."""

import pathlib

import pytest
from commands import call

from stgrpo.command_line import parse, parse_sweep
from stgrpo.errors import UserError
from stgrpo.sweeps.grid import MOST, config_names, parse_grid, points_of, spread_configs
from stgrpo.sweeps.plan import Plan, check_folder, write_plan

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"


def test_values_are_split_at_commas_that_stand_in_no_brackets_and_no_quotes():
    text = """seed = 0, 1 ;grpo.kl_coef=0.001,1e-2; env.tasks=('burger','onion_soup'),("burger",)"""
    assert parse_grid(f"{text};expert.kind='llm',planner;") == {
        "seed": ["0", "1"],
        "grpo.kl_coef": ["0.001", "1e-2"],
        "env.tasks": ["('burger','onion_soup')", '("burger",)'],
        "expert.kind": ["llm", "planner"],
    }
    assert parse_grid("init_from='',/a b/1") == {"init_from": ["", "/a b/1"]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "--sweep is empty"),
        (" ; ", "--sweep is empty"),
        ("seed", "'seed' sets nothing"),
        ("seed=", "a value of seed is empty"),
        ("seed=0,,1", "a value of seed is empty"),
        ("sed=0,1", "did you mean 'seed'?"),
        ("grpo.beta=0,1", "did you mean 'grpo.kl_coef'?"),
        ("seed=0;seed=1", "names seed twice"),
        ("env.tasks=('burger'", "not closed"),
        ("expert.kind='llm", "not closed"),
        ("mesh.fsdp=1,2", "not what it is"),
        ("config=a.py:burger,cpu", "or 'FILE.py:A,B' in quotes"),
        (f"seed={','.join(map(str, range(1000)))};grpo.kl_coef={','.join(map(str, range(1000)))}", "1,000,000 points"),
    ],
)
def test_a_mistake_in_the_words_is_one_line(text, says):
    with pytest.raises(UserError, match="--sweep") as error:
        parse_grid(text)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_point_for_each_combination_with_a_name_of_its_own():
    points = points_of({"seed": [0, 1], "sft.learning_rate": [1e-3], "grpo.learning_rate": [1e-4, 1e-5]})
    assert list(points) == [
        f"seed={seed},sft.learning_rate=0.001,grpo.learning_rate={rate}" for seed in (0, 1) for rate in (0.0001, 1e-05)
    ]
    assert points["seed=1,sft.learning_rate=0.001,grpo.learning_rate=1e-05"] == {
        "seed": 1,
        "sft.learning_rate": 1e-3,
        "grpo.learning_rate": 1e-5,
    }
    odd = points_of({"init_from": ["/a/b", "/a b", "", f"/{'long/' * 60}1", f"/{'long/' * 60}2"]})
    assert len(odd) == 5 and all("/" not in name and len(name) <= 120 for name in odd)


def test_an_argument_of_a_config_with_commas_is_written_in_quotes():
    assert parse_grid("config='a.py:burger,cpu',b.py") == {"config": ["a.py:burger,cpu", "b.py"]}


@pytest.mark.parametrize("field", ["seed", "mesh.fsdp"])
def test_configs_that_differ_in_nothing_that_tells_their_runs_apart_are_refused(field):
    configs = {"a": {field: 0, "x": 1}, "b": {field: 1, "x": 1}}
    with pytest.raises(UserError, match="a and b are the same run"):
        spread_configs(points_of({"config": ["a", "b"], "seed": [7, 8]}), configs)


def test_a_sweep_grows_by_a_config_that_differs_in_another_field(tmp_path):
    config = parse(["sweep", SMOKE, f"--workdir={tmp_path}"]).config
    fewer = {"config=a": {"seed": 0}, "config=b": {"seed": 1}}
    more = {name: {**point, "grpo.kl_coef": config.grpo.kl_coef} for name, point in fewer.items()}
    write_plan(tmp_path, Plan.of(config, fewer))
    check_folder(tmp_path, Plan.of(config, more | {"config=c": {"seed": 0, "grpo.kl_coef": 0.5}}))
    more["config=b"]["grpo.kl_coef"] = 0.5
    with pytest.raises(UserError, match="grpo.kl_coef: 0.5 here"):
        check_folder(tmp_path, Plan.of(config, more))


def test_points_have_what_their_configs_differ_in_and_what_they_set_themselves():
    configs = {"a": {"seed": 0, "x": 1, "y": 5}, "b": {"seed": 3, "x": 2, "y": 5}}
    points = points_of({"config": ["a", "b"], "seed": [7, 8]})
    assert spread_configs(points, configs) == {
        "config=a,seed=7": {"seed": 7, "x": 1},
        "config=a,seed=8": {"seed": 8, "x": 1},
        "config=b,seed=7": {"seed": 7, "x": 2},
        "config=b,seed=8": {"seed": 8, "x": 2},
    }
    with pytest.raises(UserError, match="the configs a and c are the same run: leave one out"):
        spread_configs(points, configs | {"c": configs["a"]})


def test_configs_are_called_by_their_files():
    files = ["configs/tiny.py", "configs/tiny.py:smoke", "mine/a.py", "other/a.py"]
    assert config_names(files) == ["tiny", "tiny-smoke", "mine/a.py", "other/a.py"]


def test_whole_configs_are_swept_with_what_they_have_in_common_done_once(tmp_path, capsys):
    folder = SMOKE.removeprefix("--config=").removesuffix("/tiny.py:smoke")
    files = ",".join(f"{folder}/{name}.py:smoke" for name in ("tiny", "ablations/gspo", "ablations/ppo"))
    words = ["sweep", f"--sweep=seed=0,1;config={files}", f"--workdir={tmp_path / 'w'}", "--config.grpo.steps=3"]
    assert call(*words, "--dry_run") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    made = [row[0] for row in rows]
    assert [name for name in made if name.startswith("points/")] == [
        f"points/seed={seed},config={name}-smoke" for seed in (0, 1) for name in ("tiny", "gspo", "ppo")
    ]
    assert sum(name.startswith("shared/sft") for name in made) == 2 and sum("shared/collect" in n for n in made) == 1
    given = parse_sweep(words)
    plan = Plan.of(given.command.config, given.points)
    for name in ("tiny", "gspo", "ppo"):
        config = plan.config_of(f"seed=1,config={name}-smoke")
        file = "tiny" if name == "tiny" else f"ablations/{name}"
        alone = parse(["run", f"--config={folder}/{file}.py:smoke", "--config.seed=1", *words[2:]]).config
        assert config.to_json() == alone.to_json()


def test_values_that_are_the_same_are_no_two_points():
    with pytest.raises(UserError, match="seed has the value 1 twice"):
        points_of({"seed": [1, 0, 1]})
    assert MOST == 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--sweep is empty"),
        (["--sweep=seed=0,x"], "seed"),
        (["--sweep=grpo.kl_coef=0.1,1e-1"], "grpo.kl_coef has the value 0.1 twice"),
        (["--sweep=grpo.kl_coef=0.1,-1"], "kl_coef=-1.0: grpo.kl_coef=-1.0 must be at least 0"),
        (["--sweep=seed=0,1", "--config.seed=3"], "--config.seed is swept"),
        ([f"--sweep=seed=0,1;config={SMOKE.removeprefix('--config=')}"], "--config is swept"),
        (["--sweep=seed=0,1", "--jobs=-1"], "jobs"),
        (["--sweep=seed=0,1", "--colour=red"], "colour"),
        (["--sweep=seed=0,1", "--checkpoint=x"], "--checkpoint is for"),
        (["--sweep=seed=0,1", "--only=points/seed=0"], "leave --sweep out"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--slurm"]])
def test_a_mistake_in_the_command_is_one_line_and_nothing_is_made(arguments, says, more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("sweep", SMOKE, "--workdir=w", *arguments, *more) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and error.startswith("stgrpo: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({"notes.txt": "mine"}, "is not empty (notes.txt)"),
        ({"config.json": "{}"}, "the work directory of a run"),
        ({"sweep.json": "{"}, "is not JSON"),
        ({"sweep.json": '{"config": {}, "points": {}}'}, "is no plan of a sweep"),
        ({"sweep.json": '{"config": {}, "points": {"../x": {"seed": 0}}}'}, "is no plan of a sweep"),
        ({"sweep.json": '{"config": {}, "points": {"kl=1": {"grpo.kl_coef": 1}}}'}, "it sweeps grpo.kl_coef"),
        ({"sweep.json": '{"config": {}, "points": {"seed=7": {"seed": 7}}}'}, "the point seed=7"),
        ({"sweep.json": '{"config": {}, "points": {"seed=0": {"seed": 0}}}'}, "here, "),
    ],
)
def test_a_folder_with_something_else_is_left_alone(there, says, tmp_path, capsys):
    for name, text in there.items():
        (tmp_path / name).write_text(text)
    assert call("sweep", SMOKE, f"--workdir={tmp_path}", "--sweep=seed=0,1") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == there


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sweep=seed=0,1", SMOKE], "--workdir is missing"),
        (["--sweep=seed=0,1", "--workdir=w"], "--config is missing"),
        (["--sweep=seed=0,1", SMOKE, "--workdir=s3://bucket/w"], "give a folder of this machine"),
        (["--only=points/x", "--workdir=w"], "w is no sweep"),
    ],
)
def test_what_is_missing_is_named(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("sweep", *arguments) == 2
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_more_jobs_than_gpus_are_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("JAX_PLATFORMS")
    assert call("sweep", SMOKE, f"--workdir={tmp_path / 'w'}", "--sweep=seed=0,1", "--jobs=3") == 2
    assert "--jobs=3 is more than the 2 GPUs here" in capsys.readouterr().err and not list(tmp_path.iterdir())
