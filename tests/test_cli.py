"""The command line as a user meets it: one line, exit 2, nothing lost, for every mistake."""

import json
import os
import pathlib
import pwd
import subprocess
import sys

import pytest
from commands import call

from stgrpo import cli
from stgrpo.cli import _cache
from stgrpo.command_line import _split
from stgrpo.config import base
from stgrpo.errors import UserError
from stgrpo.workdir import WorkDir

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["colect", SMOKE, "--workdir=w"], "did you mean 'collect'?"),
        (["collect", SMOKE], "--workdir is missing"),
        (["collect", "--workdir=w"], "--config is missing"),
        (["collect", "--config=nowhere.py", "--workdir=w"], "nowhere.py does not exist"),
        (["collect", SMOKE, "--workdir=w", "--config.grpo.kl_coeff=1"], "did you mean 'grpo.kl_coef'?"),
        (["collect", SMOKE, "--workdir=w", "--config.sft.batch=many"], "sft.batch"),
        (["collect", SMOKE, "--workdir=w", "--config.sft.batch=1.5"], "sft.batch"),
        (["collect", SMOKE, "--workdir=w", "--colour=red"], "colour"),
        (["collect", SMOKE, "--workdir=w", "extra"], "'extra'"),
        (["collect", SMOKE, "--workdir=w", "--config.env.tasks=('pizza',)"], "pizza"),
        (["sft", SMOKE, "--workdir=w"], "run `stgrpo collect`"),
        (["evaluate", SMOKE, "--workdir=w"], "run `stgrpo sft`"),
        (["evaluate", "--checkpoint=nowhere"], "nowhere is not a checkpoint"),
        (["collect", SMOKE, "--workdir=w", "--config.mesh.data=3"], "mesh data=3"),
        (["collect", SMOKE, "--workdir=w", "--flagfile=nowhere"], "Unable to open flagfile"),
        (["collect", f"--config={'x' * 300}.py", "--workdir=w"], "cannot be read (File name too long)"),
        (["collect", f"--config={'x/' * 3000}x.py:smoke", "--workdir=w"], "cannot be read (File name too long)"),
        (["collect", "--distributed=auto", "--distributed_timeout=²", "--config=x.py", "--workdir=w"], "--distributed"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments, *(["--dry_run"] if "mesh" in says else [])) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and error.startswith("stgrpo: ")
    assert not list(tmp_path.glob("w/data/*"))


@pytest.mark.parametrize("code", ["raise SystemExit", "import sys; sys.exit(0)", "import sys; sys.exit(3)"])
def test_a_config_that_ends_the_program_ends_nothing_in_silence(code, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(f"def get_config(argument=''):\n    {code}\n")
    assert call("collect", f"--config={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'w'}") == 2
    error = capsys.readouterr().err
    assert "mine.py cannot be loaded (SystemExit" in error and error.count("\n") == 1


@pytest.mark.parametrize("variable", ["JAX_PLATFORMS=bogus", "JAX_PLATFORMS=cuda,rocm"])
def test_a_platform_that_is_not_there_is_one_line(variable):
    code = f"{variable} {sys.executable} -m stgrpo plan {SMOKE}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and variable.partition("=")[2] in done.stderr


@pytest.mark.parametrize("command", ["help", "help grpo.kl_coef"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nothing_takes_is_one_line(command, unbuffered):
    code = f"PYTHONUNBUFFERED={unbuffered} {sys.executable} -m stgrpo {command} >/dev/full"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 1
    assert done.stderr == "stgrpo: No space left on device: make room, and the same command goes on\n"


@pytest.mark.parametrize(
    ("closed", "said"), [(">&-", "stderr"), ("2>&-", "stdout"), (">&- 2>&-", ""), ("<&-", "stderr")]
)
def test_streams_that_are_closed_end_nothing_and_are_no_file_of_ours(closed, said):
    whole = f"{sys.executable} -m stgrpo help grpo.kl_coef {closed}"
    assert subprocess.run(["bash", "-c", whole], capture_output=True, cwd=REPOSITORY).returncode == 0
    mistake = f"{sys.executable} -m stgrpo colect {closed}"
    done = subprocess.run(["bash", "-c", mistake], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2 and (not said or "did you mean 'collect'?" in getattr(done, said))
    opened = "from stgrpo.cli import _open_streams; _open_streams(); import os; print(os.open('/', 0) > 2)"
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{opened}" <&- 2>&-'], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.stdout == "True\n"


def test_help_teaches(capsys):
    assert call("--help") == 0
    shown = capsys.readouterr().out
    assert all(stage in shown for stage in ("collect", "sft", "grpo", "evaluate", "report", "run", "--dry_run"))


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("run", SMOKE, "--workdir=w", "--config.grpo.kl_coef=0.5", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "kl_coef: 0.5" in shown and "parameters" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_work_directory_belongs_to_one_config(tmp_path, capsys):
    workdir = f"--workdir={tmp_path / 'w'}"
    assert call("collect", SMOKE, workdir) == 0
    assert json.loads((tmp_path / "w" / "config.json").read_text())["seed"] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "w").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert call("collect", SMOKE, workdir, "--config.seed=5", "--config.grpo.kl_coef=0.5") == 2
    error = capsys.readouterr().err
    assert "seed: 5 here, 0 there" in error and "grpo.kl_coef: 0.5 here" in error
    assert {p: p.read_bytes() for p in (tmp_path / "w").rglob("*") if p.is_file()} == before


def test_an_older_work_directory_has_the_defaults_of_fields_that_are_new(tmp_path):
    workdir = WorkDir(tmp_path / "w")
    config = base()
    workdir.claim(config)
    file = tmp_path / "w" / "config.json"
    older = json.loads(file.read_text())
    del older["env"]["failure"], older["sft"]["group_by_length"]
    file.write_text(json.dumps(older))
    workdir.claim(config)
    config.env.failure = 0.5
    with pytest.raises(UserError, match="env.failure: 0.5 here, 0.0 there"):
        workdir.check_config(config)


def test_a_folder_in_which_a_mistake_came_before_any_work_takes_another_config(tmp_path, capsys):
    workdir = f"--workdir={tmp_path / 'w'}"
    assert call("sft", SMOKE, workdir) == 2  # there is no tokenizer yet
    assert "run `stgrpo collect`" in capsys.readouterr().err
    assert call("collect", SMOKE, workdir, "--config.seed=5") == 0
    assert json.loads((tmp_path / "w" / "config.json").read_text())["seed"] == 5
    assert call("collect", SMOKE, workdir, "--config.seed=6") == 2
    assert "seed: 6 here, 5 there" in capsys.readouterr().err


@pytest.mark.parametrize("made", [False, True])
def test_a_report_of_a_folder_without_a_run_is_refused_and_nothing_is_made(tmp_path, capsys, made):
    if made:
        (tmp_path / "w").mkdir()
    assert call("report", SMOKE, f"--workdir={tmp_path / 'w'}") == 2
    assert "has no config.json: give the folder of a run" in capsys.readouterr().err
    assert [*tmp_path.rglob("*")] == [tmp_path / "w"] * made


def test_a_foreign_folder_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert call("collect", SMOKE, f"--workdir={tmp_path}") == 2
    assert "not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_with_a_served_experts_episodes_alone_is_a_new_one(tmp_path):
    (tmp_path / "w" / "expert" / "burger").mkdir(parents=True)
    WorkDir(tmp_path / "w").claim(base())
    assert (tmp_path / "w" / "config.json").is_file()


def test_a_corrupt_data_line_is_named(tmp_path, capsys):
    workdir = tmp_path / "w"
    assert call("collect", SMOKE, f"--workdir={workdir}") == 0
    data = workdir / "data" / "burger" / "train.jsonl"
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join([lines[0], lines[1][: len(lines[1]) // 2] + "\n", *lines[2:]]))
    capsys.readouterr()
    assert call("sft", SMOKE, f"--workdir={workdir}") == 2
    assert "train.jsonl:2:" in capsys.readouterr().err


def test_a_prompt_over_the_limit_is_refused_not_cut(tmp_path, capsys):
    arguments = (SMOKE, f"--workdir={tmp_path / 'w'}", "--config.limits.prompt=40")
    assert call("collect", *arguments) == 2  # before anything is trained
    assert call("sft", *arguments) == 2
    assert "limits.prompt=40" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_no_command_in_a_traceback():
    code = f"{sys.executable} -m stgrpo help grpo | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) in ((141, ""), (0, ""))  # 0: all was written before the reader went


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device", "/w/a"), "/w/a: No space left on device: make room, and the same"),
        (OSError(5, "Input/output error"), "Input/output error: mend that, and the same command goes on"),
        (MemoryError(), "there is no memory left: free some, and the same command goes on"),
    ],
)
def test_a_failure_of_the_machine_is_one_line_and_exit_status_1(monkeypatch, capsys, error, says):
    def fail(_):
        raise error

    monkeypatch.setattr(cli, "run", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main(["sft"])
    said = capsys.readouterr().err
    assert stop.value.code == 1 and said.startswith(f"stgrpo: {says}") and said.count("\n") == 1


@pytest.mark.parametrize("folder", ["2026-11-27T10:00:00", "a.py:b", "C:", "plain", "x.py"])
@pytest.mark.parametrize("argument", ["", "smoke", "a:b", "x.py:y", "C:\\x.py"])
def test_colons_in_a_path_and_in_an_argument_are_told_apart(folder, argument, tmp_path):
    file = tmp_path / folder / "tiny.py"
    file.parent.mkdir()
    file.touch()
    assert _split(f"{file}:{argument}" if argument else f"{file}") == (file, argument)
    assert _split(f"{file}:") == (file, "")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("C:\\x\\tiny.py:smoke", "C:\\x\\tiny.py does not exist"),
        ("10:00/tiny.py", "10:00/tiny.py does not exist"),
        ("10:00/tiny.py:a:b", "10:00/tiny.py does not exist"),
        ("notes.txt", "notes.txt is no Python file"),
        ("notes.txt:smoke", "notes.txt is no Python file"),
        ("nowhere:smoke", "nowhere:smoke does not exist"),
        (".", ". does not exist"),
    ],
)
def test_a_config_that_is_not_there_is_named_whole(spec, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert call("collect", f"--config={spec}", "--workdir=w") == 2
    error = capsys.readouterr().err
    assert f"--config={says}" in error and error.count("\n") == 1


PRINT_FOLDERS = """
from stgrpo.cli import _ignore_relative_folders
_ignore_relative_folders()
import platformdirs
from huggingface_hub import constants
print(platformdirs.user_cache_path("stgrpo", appauthor=False))
print(constants.HF_HOME)
"""


@pytest.mark.parametrize(
    "given", [{"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "rel"}, {"HOME": ""}, {"HOME": None}, {"HOME": "rel"}]
)
def test_a_cache_is_never_in_the_folder_that_a_command_runs_in(given, tmp_path):
    home = pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir if "HOME" in given else tmp_path / "home")
    dropped = ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "HF_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {"HOME": str(home), "PYTHONPATH": str(REPOSITORY)} | given
    environment = {name: value for name, value in environment.items() if value is not None}
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PRINT_FOLDERS], env=environment, cwd=tmp_path / "here", capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [f"{home}/.cache/stgrpo", f"{home}/.cache/huggingface"], done.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert _cache() == tmp_path / "cache" / "stgrpo" / "jax"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert _cache() is None and "set XDG_CACHE_HOME" in caplog.text


@pytest.mark.parametrize("given", ["model.gguf", "model-1-py3-none-any.whl", ""])
def test_a_gguf_in_place_of_a_model_folder_names_the_command_that_imports_it(given, tmp_path, capsys):
    file = tmp_path / (given or "inside.gguf")
    file.write_bytes(b"GGUF")
    assert call("run", SMOKE, f"--workdir={tmp_path / 'w'}", f"--config.model.path={tmp_path / given}") == 2
    error = capsys.readouterr().err
    assert f"`stgrpo import-model {file} --workdir=FOLDER`" in error and error.count("\n") == 1


def test_what_is_doubted_of_a_config_is_said_first(tmp_path, caplog):
    assert call("run", SMOKE, f"--workdir={tmp_path / 'w'}", f"--config.model.path={tmp_path}", "--dry_run") == 2
    assert "for which this config is not meant: sft.prompt_weight=1 (use 0), sft.learning_rate=0.008" in caplog.text


@pytest.mark.parametrize("broken", ["weights", "template", "vocabulary"])
def test_a_model_that_cannot_be_used_is_refused_before_anything_is_played(broken, make_model, tmp_path, capsys):
    from stgrpo.data.tokenizer import CHAT_TEMPLATE, Tokenizer, train_tokenizer
    from stgrpo.models.huggingface.weights import save_folder
    from stgrpo.models.shapes import ModelShape

    tokenizer = Tokenizer(train_tokenizer(["table1 is empty"], vocab_size=300))
    vocabulary = tokenizer.vocab_size - (broken == "vocabulary")
    folder = tmp_path / "model"
    save_folder(make_model(ModelShape(vocabulary, 8, 1, 1, 1, 8, 8, max_position=512)), tokenizer, folder)
    says = f"the tokenizer has {vocabulary + 1} tokens, the model's vocabulary {vocabulary}"
    if broken == "weights":
        says = "model.safetensors is a git-lfs pointer"
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    if broken == "template":
        says = "opens an answer with '<think>"
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("assistant\n' }}", "assistant\n<think>' }}"))
    for dry in ([], ["--dry_run"]):
        assert call("run", SMOKE, f"--workdir={tmp_path / 'w'}", f"--config.model.path={folder}", *dry) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
    assert not (tmp_path / "w").exists()
