"""A policy of ours served by a real vLLM says there what it says here, and can be held to the valid actions."""

import json
import pathlib

import pytest

from stgrpo.cli import main
from stgrpo.evaluation.files import Evaluation, read_evaluation
from stgrpo.models.huggingface.config import read_shape
from stgrpo.react.response import parse_response
from stgrpo.sampling.vllm.server import SERVED_NAME, ServerSettings, VllmServer

pytestmark = pytest.mark.slow
CONFIG = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
PROMPT, RESPONSE = 1024, 160
FIELDS = (
    "--config.model.head_dim=32",  # vLLM on a CPU has none smaller
    "--config.model.width=64",  # and takes width / heads for it
    f"--config.limits.prompt={PROMPT}",
    f"--config.limits.response={RESPONSE}",
    "--config.evaluation.on_invalid=retry",  # the answers of a policy that knows nothing: feedback varies the prompts
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    """A policy of a few SFT steps, exported, and evaluated with the embedded sampler."""
    workdir = tmp_path_factory.mktemp("run") / "w"
    for stage in ("collect", "sft", "evaluate"):
        main([stage, CONFIG, f"--workdir={workdir}", *FIELDS])
    main(
        ["export", f"--checkpoint={workdir / 'checkpoints' / 'sft' / '6'}", f"--workdir={workdir.parent / 'exported'}"]
    )
    return workdir


@pytest.fixture(scope="module")
def server(workdir, vllm_python):
    model = workdir.parent / "exported"
    settings = ServerSettings(model, read_shape(model), "float32", PROMPT + RESPONSE, vllm_python)
    with VllmServer(settings, workdir.parent / "vllm.log") as server:
        server.start(limit=300)
        yield server.address


def evaluate(server: str, workdir: pathlib.Path, name: str, *more: str) -> Evaluation:
    policy = ("kind=server", f"server={server}", f"model={SERVED_NAME}", f"name={name}")
    main(
        ["evaluate", CONFIG, f"--workdir={workdir}", *FIELDS, *(f"--config.policy.{field}" for field in policy), *more]
    )
    suffix = "-constrained" if "--config.evaluation.constrain_action=True" in more else ""
    return read_evaluation(workdir / "evaluation", f"{name}{suffix}_unseen")


def test_a_served_policy_says_what_the_embedded_one_says(server, workdir):
    here, there = read_evaluation(workdir / "evaluation", "sft_unseen"), evaluate(server, workdir, "served")
    assert there.episodes == here.episodes
    assert there.summary["responses"] > 50 and there.summary["truncated_rate"] > 0


def test_constrained_answers_are_valid_and_free_in_their_reasoning(server, workdir, tmp_path):
    constrained = ("--config.evaluation.constrain_action=True", "--config.evaluation.reasoning_chars=60")
    warm = "--config.evaluation.temperature=1"
    held = evaluate(server, tmp_path / "w", "served", *constrained, warm)
    turns = [turn for episode in held.episodes for turn in episode.turns]
    assert held.summary["valid_rate"] == 1.0 and {turn.finish for turn in turns} == {"stop"} and len(turns) > 20
    for turn in turns:
        shown = turn.observation.split("Valid Actions:\n")[1].split("\n\nGoal:")[0].split("\n")
        parsed = parse_response(turn.response, shown)
        assert parsed.action in shown and 1 <= len(parsed.reasoning) <= 120
    assert len({turn.response for turn in turns}) == len(turns)  # a seed of its own each
    free = evaluate(server, tmp_path / "w", "served", warm)
    assert free.summary["valid_rate"] == 0.0


def test_vllms_own_word_on_a_model_it_does_not_have(server, tmp_path, capsys):
    fields = ("--config.policy.kind=server", f"--config.policy.server={server}/v1", "--config.policy.model=llama")
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", CONFIG, f"--workdir={tmp_path / 'w'}", *fields])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "The model `llama` does not exist" in error and error.count("\n") == 1


def test_a_served_expert_that_knows_nothing_is_told_apart_from_one_that_fails(server, tmp_path, capsys):
    """Whole tries, counted in vLLM's own tokens."""
    fields = ("kind=llm", f"server={server}", f"model={SERVED_NAME}", "trajectories=2", "tries=2", "max_tokens=16")
    brief = ("--config.env.tasks=('burger',)", *(f"--config.expert.{field}" for field in fields))
    with pytest.raises(SystemExit) as stop:
        main(["collect", CONFIG, f"--workdir={tmp_path / 'w'}", *brief])
    assert stop.value.code == 2 and "nothing to learn from stgrpo" in capsys.readouterr().err
    facts = json.loads((tmp_path / "w" / "expert" / "burger" / "train.json").read_text())
    assert (facts["layouts"], facts["episodes"], facts["failures"]) == (4, 8, {"format": 8})
    assert facts["usage"]["requests"] == 8 and 8 <= facts["usage"]["completion_tokens"] <= 8 * 16
