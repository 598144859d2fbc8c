"""Served models from the command line, against a scripted server: as the expert of `collect`, and evaluated."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from commands import call
from compiling import FAST

from stgrpo import envs
from stgrpo.cli import parse
from stgrpo.data.records import read_trajectories
from stgrpo.evaluation.files import read_evaluation, write_evaluation
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.training.context import open_context
from stgrpo.training.inputs import load_examples
from stgrpo.workdir import WorkDir

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"
COUNTS = {"train": 8, "validation": 2, "test": 4}
EXPERT = ("--config.expert.kind=llm", "--config.expert.model=llama", "--config.expert.trajectories=3")
POLICY = ("--config.policy.kind=server", "--config.policy.model=org/Qwen_m-3B")
QUICK = ("--config.client.retries=1", "--config.client.timeout=5")


@pytest.fixture(scope="module")
def optimal():
    """What the planner's expert says to each observation on its way through the kitchens that the tests play."""
    environment, answers = envs.get("robotouille"), {}
    for split, count in COUNTS.items():
        for layout in environment.layouts("burger", "small", split=split, count=2 * count):
            problem = environment.make("burger", layout)
            for step in PlannerExpert(problem, environment.planner(problem)).trajectory().steps:
                answers[step.observation] = f"Reasoning: {step.reasoning}\nAction: {step.action}"
    return answers


@pytest.fixture
def expert(chat, optimal):
    """A server that plays as the planner's expert does; `expert(change)` may answer otherwise, None to let it."""

    def start(change=lambda body, number: None):
        numbers, lock = iter(range(10**6)), threading.Lock()

        def reply(body):
            with lock:
                number = next(numbers)
            said = change(body, number)
            return optimal[body["messages"][-1]["content"]] if said is None else said

        return chat(reply)

    return start


def chats(server):
    return [r for r in server.requests if r["path"] == "/v1/chat/completions"]


def collect(server, workdir, *more):
    return call("collect", SMOKE, f"--workdir={workdir}", *EXPERT, f"--config.expert.server={server.address}", *more)


def evaluate(server, workdir, *more):
    return call("evaluate", SMOKE, f"--workdir={workdir}", *POLICY, f"--config.policy.server={server.address}", *more)


def test_the_expert_is_collected_like_the_planners(expert, tmp_path, capsys):
    server, workdir = expert(), tmp_path / "w"
    assert collect(server, workdir, "--config.client.prompt_price=2", "--config.client.completion_price=10") == 0
    collected = read_trajectories(workdir / "data" / "burger" / "train.jsonl")
    environment = envs.get("robotouille")
    problems = [environment.make("burger", t.layout) for t in collected]
    assert collected == [PlannerExpert(p, environment.planner(p)).trajectory() for p in problems] and len(problems) == 3
    facts = json.loads((workdir / "expert" / "burger" / "train.json").read_text())
    steps = sum(len(t.steps) for t in collected)
    assert (facts["kept"], facts["excess"], facts["usage"]["requests"]) == (3, {"0": 3}, steps)
    mine = [r["body"] for r in chats(server)[:steps]]
    asked = sum(len(m["content"].split()) for body in mine for m in body["messages"])
    said = sum(len(f"Reasoning: {s.reasoning} Action: {s.action}".split()) for t in collected for s in t.steps)
    assert (facts["usage"]["prompt_tokens"], facts["usage"]["completion_tokens"]) == (asked, said)
    assert facts["cost"] == pytest.approx((asked * 2 + said * 10) / 1e6)
    assert f"{steps} requests, {asked:,} prompt" in capsys.readouterr().out
    assert mine[0]["messages"][0]["role"] == "system" and "Recipes" in mine[0]["messages"][0]["content"]
    assert mine[0]["temperature"] == 0.7 and mine[0]["model"] == "llama"
    config = parse(["sft", SMOKE, "--workdir=w", *EXPERT]).config
    context = open_context(config, WorkDir(workdir))
    assert len(load_examples(context, "train")) == steps
    assert len(load_examples(context, "train", trajectories=2)) == sum(len(t.steps) for t in collected[:2])


def test_success_after_failures_and_only_the_failed_are_sampled_again(expert, tmp_path):
    seen = {}

    def bad_at_first(body, number):
        kitchen = body["messages"][-1]["content"]
        seen[kitchen] = seen.get(kitchen, 0) + 1
        return "I do not know" if len(body["messages"]) == 2 and seen[kitchen] <= 2 else None

    assert collect(expert(bad_at_first), tmp_path / "w") == 0
    facts = json.loads((tmp_path / "w" / "expert" / "burger" / "train.json").read_text())
    assert (facts["kept"], facts["episodes"], facts["failures"]) == (3, 9, {"format": 6})


def test_a_budget_that_is_used_up_says_so_and_a_larger_one_goes_on(expert, tmp_path, capsys):
    server = expert(lambda body, number: "Reasoning: no\nAction: Finish")
    assert collect(server, tmp_path / "w", "--config.expert.tries=2") == 2
    error = capsys.readouterr().err
    assert "nothing to learn from llama (failures {'finish': 12}" in error and error.count("\n") == 1
    assert len(chats(server)) == 12 and not (tmp_path / "w" / "data" / "burger" / "train.jsonl").exists()
    better = expert()
    assert collect(better, tmp_path / "w", "--config.expert.tries=3") == 0
    facts = json.loads((tmp_path / "w" / "expert" / "burger" / "train.json").read_text())
    assert (facts["episodes"], facts["kept"]) == (9, 3)  # two bad tries from before in each of three kitchens


KILLED_AFTER = 25


def test_a_collection_that_was_killed_goes_on_exactly(expert, tmp_path):
    whole, workdir = tmp_path / "whole", tmp_path / "w"
    alone = ("--config.client.concurrency=1",)
    reference = expert()
    assert collect(reference, whole, *alone) == 0
    process: list[subprocess.Popen] = []

    def kill(body, number):
        if number == KILLED_AFTER:
            process[0].send_signal(signal.SIGKILL)
            process[0].wait()
            return ("", "stop")
        return None

    server = expert(kill)
    command = [sys.executable, "-m", "stgrpo", "collect", SMOKE, f"--workdir={workdir}", *EXPERT, *alone]
    environment = {**os.environ, "XLA_FLAGS": FAST, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([*command, f"--config.expert.server={server.address}"], env=environment) as started:
        process.append(started)
        started.wait(timeout=120)
    assert started.returncode == -signal.SIGKILL
    journal = workdir / "expert" / "burger" / "train.jsonl"
    finished = sum(json.loads(line)["episode"]["steps"] for line in journal.read_text().splitlines()[1:])
    assert 0 < finished < KILLED_AFTER
    again = expert()
    assert collect(again, workdir, *alone) == 0
    for name in ("data/burger/train.jsonl", "data/burger/validation.jsonl", "expert/burger/train.jsonl"):
        assert (workdir / name).read_bytes() == (whole / name).read_bytes()
    assert [r["body"] for r in chats(again)] == [r["body"] for r in chats(reference)][finished:]


def test_requests_are_spaced_as_configured(expert, tmp_path):
    times = []
    server = expert(lambda body, number: times.append(time.monotonic()))
    assert collect(server, tmp_path / "w", "--config.client.requests_per_minute=1500") == 0
    assert len(times) > 30
    for begin, end in zip(times, times[25:], strict=False):
        assert end - begin > 0.9 * 25 * 60 / 1500


def test_no_more_requests_at_once_than_configured(expert, tmp_path):
    server = expert(lambda body, number: time.sleep(0.005))
    assert evaluate(server, tmp_path / "w", "--config.client.concurrency=2") == 0
    assert server.most_at_once == 2


def test_a_server_that_asks_for_time_gets_it(expert, tmp_path):
    refused = (429, {"Retry-After": "1"}, {"error": {"message": "rate limit"}})
    server = expert(lambda body, number: refused if number == 5 else None)
    begin = time.monotonic()
    assert evaluate(server, tmp_path / "w", *QUICK) == 0
    assert time.monotonic() - begin > 1.0
    assert read_evaluation(tmp_path / "w" / "evaluation", "Qwen-m-3B_unseen").summary["sr"] == 1.0


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        ((200, {}, b'{"choices": [{"mess'), 1, "the answer is not JSON"),
        ((200, {}, {"choices": []}), 1, "the reply is not a chat completion"),
        ((404, {}, {"error": {"message": "The model `org/Qwen_m-3B` does not exist."}}), 2, "`org/Qwen_m-3B` does not"),
        ((400, {}, {"message": "maximum context length is 512 tokens"}), 2, "maximum context length is 512"),
        ((500, {}, {"error": {"message": "EngineDeadError"}}), 1, "status 500, EngineDeadError"),
        (None, 1, "Server disconnected without sending a response. (2 attempts)"),
    ],
)
def test_what_goes_wrong_in_the_middle_is_one_line_and_loses_nothing(expert, tmp_path, capsys, answer, status, says):
    whole, workdir = expert(), tmp_path / "w"
    broken = {"from": 20}

    def breaking(body, number):
        if number < broken["from"]:
            return None
        return answer or (599, {}, b"")

    server = expert(breaking)
    if answer is None:
        normal = server.reply
        server.reply = lambda request: r if (r := normal(request))[0] != 599 else None
    alone = (*QUICK, "--config.client.concurrency=1")
    assert evaluate(server, workdir, *alone) == status
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and server.address in error
    assert evaluate(whole, workdir, *alone) == 0
    played = read_evaluation(workdir / "evaluation", "Qwen-m-3B_unseen")
    assert played.summary["sr"] == 1.0 and 20 >= played.summary["responses"] - len(chats(whole)) > 5
    assert not list((workdir / "evaluation").glob("*journal*"))


def test_a_hanging_server_is_given_up(expert, tmp_path, capsys):
    server = expert(lambda body, number: time.sleep(3) if number == 7 else None)
    begin = time.monotonic()
    assert evaluate(server, tmp_path / "w", "--config.client.timeout=0.5") == 1
    assert "no answer within 0.5 s" in capsys.readouterr().err and time.monotonic() - begin < 30


def test_no_server_there_is_the_users_mistake(tmp_path, capsys):
    nowhere = ("--config.policy.server=http://127.0.0.1:1", "--config.client.retries=0")
    assert call("evaluate", SMOKE, f"--workdir={tmp_path / 'w'}", *POLICY, *nowhere) == 2
    error = capsys.readouterr().err
    assert "policy.server: http://127.0.0.1:1/v1/models" in error and "refused" in error and error.count("\n") == 1


def test_a_served_baseline_stands_beside_our_policies(expert, tmp_path, capsys):
    workdir = tmp_path / "w"
    ours = (SMOKE, f"--workdir={workdir}")
    assert call("collect", *ours) == 0

    def sometimes(body, number):
        return ("Reasoning: and then, and then,", "length") if number == 10 else None

    server = expert(sometimes)
    assert evaluate(server, workdir, "--config.policy.instructions=full", "--config.policy.name=Qwen 3B") == 0
    result = read_evaluation(workdir / "evaluation", "Qwen-3B_unseen")
    assert result.settings["model"] == "org/Qwen_m-3B" and result.settings["instructions"] == "full"
    assert result.summary["failures"]["format"] == 1 and result.summary["successes"] == 3
    for episode in result.episodes:
        assert [turn.finish for turn in episode.turns].count("length") == (not episode.success)
        assert all(turn.n_prompt_tokens > 100 and turn.n_tokens > 3 for turn in episode.turns)
    body = chats(server)[0]["body"]
    assert (body["temperature"], body["max_tokens"]) == (0.0, 48) and body["messages"][0]["role"] == "system"
    assert len({r["body"]["seed"] for r in chats(server)}) == len(chats(server))
    before = len(server.requests)
    assert evaluate(server, workdir, "--config.policy.instructions=full", "--config.policy.name=Qwen 3B") == 0
    assert "Qwen-3B_unseen is complete, skipped" in capsys.readouterr().out and len(server.requests) == before
    write_evaluation(workdir / "evaluation", "sft_unseen", result.episodes, settings={})
    assert call("report", *ours) == 0
    page = (workdir / "report.html").read_text()
    assert "Qwen-3B" in page and "SFT" in page
    assert call("collect", *ours) == 0  # the work directory is still that of our own policies


@pytest.mark.parametrize("name", ["sft", "GRPO", "/", "--"])
def test_a_served_model_cannot_take_the_name_of_a_policy_of_ours(name, expert, tmp_path, capsys):
    server = expert()
    assert evaluate(server, tmp_path / "w", f"--config.policy.name={name}") == 2
    assert f"policy.name={name!r} cannot name" in capsys.readouterr().err and not server.requests


def test_the_protocol_is_written_before_the_first_question(expert, tmp_path):
    directory, there = tmp_path / "w" / "evaluation", []
    server = expert(lambda body, number: there.append((directory / "protocols.jsonl").is_file()))
    assert evaluate(server, tmp_path / "w") == 0
    (line,) = map(json.loads, (directory / "protocols.jsonl").read_text().splitlines())
    result = read_evaluation(directory, "Qwen-m-3B_unseen")
    assert all(there) and there and line["hash"] == result.protocol and line["policy"]["model"] == "org/Qwen_m-3B"
    assert call("report", SMOKE, f"--workdir={tmp_path / 'w'}") == 0
    assert f"{line['hash']}, written {line['date']}, before the first" in (tmp_path / "w" / "report.html").read_text()


def test_the_key_goes_to_the_server_and_nowhere_else(expert, tmp_path, capsys, monkeypatch):
    key = "sk-do-not-tell"
    monkeypatch.setenv("MY_KEY", key)
    server = expert()
    assert collect(server, tmp_path / "w", "--config.client.key_variable=MY_KEY") == 0
    assert all(r["headers"]["Authorization"] == f"Bearer {key}" for r in server.requests)
    shown = capsys.readouterr()
    assert key not in shown.out + shown.err
    assert all(key.encode() not in p.read_bytes() for p in (tmp_path / "w").rglob("*") if p.is_file())
    monkeypatch.delenv("MY_KEY")
    assert collect(server, tmp_path / "v", "--config.client.key_variable=MY_KEY") == 2
    assert "client.key_variable='MY_KEY' is not set" in capsys.readouterr().err


def test_constrained_answers_are_an_evaluation_of_their_own(expert, tmp_path, capsys):
    def obey(body, number):
        pattern = body.get("structured_outputs", {}).get("regex", "")
        if pattern == "constrained":
            return "constrained"
        assert pattern and re.fullmatch(pattern, "Reasoning: r\nAction: Do nothing")
        return None

    constrained = "--config.evaluation.constrain_action=True"
    assert evaluate(expert(obey), tmp_path / "w", constrained) == 0
    result = read_evaluation(tmp_path / "w" / "evaluation", "Qwen-m-3B-constrained_unseen")
    assert result.settings["constrain_action"] is True and result.summary["valid_rate"] == 1.0
    assert evaluate(expert(lambda body, n: "four"), tmp_path / "v", constrained) == 2
    assert "ignores structured_outputs" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["collect", "grpo"])
def test_what_is_learned_from_is_never_constrained(stage, expert, tmp_path, capsys):
    server = f"--config.policy.server={expert().address}"
    constrained = ("--config.evaluation.constrain_action=True", *POLICY, server)
    assert call(stage, SMOKE, f"--workdir={tmp_path / 'w'}", *constrained) == 2
    assert f"for `stgrpo evaluate` alone: {stage}" in capsys.readouterr().err


def test_a_dry_run_shows_the_first_question_and_asks_nothing(expert, tmp_path, capsys):
    server = expert()
    assert collect(server, tmp_path / "w", "--dry_run", "--config.client.requests_per_minute=10") == 0
    shown = capsys.readouterr().out
    # 2 x 3 kitchens, 8 tries each, 15 steps: one question a step.
    assert f"train      burger: 3 trajectories from at most 6 layouts: at most {6 * 8 * 15} requests" in shown
    assert f"{6 * 8 * 15 * 256:,} completion tokens, {6 * 8 * 15 / 600:.1f} h at 10 a minute" in shown
    assert "--- system\nYou control a robot" in shown and "Valid Actions:" in shown
    assert evaluate(server, tmp_path / "w", "--dry_run", "--config.evaluation.on_invalid=retry") == 0
    shown = capsys.readouterr().out
    assert "org/Qwen_m-3B at http://127.0.0.1" in shown and "as Qwen-m-3B" in shown
    assert f"unseen   4 layouts: at most {4 * (15 + 2) * 5} requests" in shown
    assert not server.requests and not list(tmp_path.iterdir())


def test_a_dry_run_refuses_what_the_run_would(expert, tmp_path, capsys):
    constrained = (*POLICY, "--config.policy.server=http://h:1", "--config.evaluation.constrain_action=True")
    assert call("grpo", SMOKE, "--workdir=w", *constrained, "--dry_run") == 2
    assert "alone: grpo" in capsys.readouterr().err


def test_what_the_learner_has_no_room_for_is_not_kept(expert, tmp_path, capsys):
    """A given tokenizer can tell; the episodes may be brought along to a work directory with larger limits."""
    assert call("collect", SMOKE, f"--workdir={tmp_path / 'tokenizer'}") == 0
    tokenizer = f"--config.tokenizer.path={tmp_path / 'tokenizer' / 'tokenizer'}"
    server = expert()
    assert collect(server, tmp_path / "a", tokenizer, "--config.limits.prompt=20") == 2
    assert "longer than limits.prompt=20: raise it" in capsys.readouterr().err and not chats(server)
    small = (tokenizer, "--config.limits.response=5", "--config.expert.tries=2", "--config.expert.layouts=3")
    assert collect(server, tmp_path / "b", *small) == 2
    assert "6 successes are over expert.max_excess, limits or the planner" in capsys.readouterr().err
    asked = len(chats(server))
    shutil.copytree(tmp_path / "b" / "expert", tmp_path / "c" / "expert")
    assert collect(server, tmp_path / "c", tokenizer, "--config.expert.validation=1") == 0
    facts = json.loads((tmp_path / "c" / "expert" / "burger" / "train.json").read_text())
    assert (facts["kept"], facts["episodes"]) == (3, 3)
    validation = read_trajectories(tmp_path / "c" / "data" / "burger" / "validation.jsonl")
    assert len(chats(server)) - asked == sum(len(t.steps) for t in validation)


@pytest.mark.slow
def test_what_a_suboptimal_expert_does_is_learned_from(expert, optimal, tmp_path):
    """SFT and GRPO on trajectories that wait once on their way: longer than the optimum, and valid."""

    def waits_at_first(body, number):
        assert len(body["messages"]) in (2, 4)
        return "Reasoning: I look around first.\nAction: Do nothing" if len(body["messages"]) == 2 else None

    workdir = tmp_path / "w"
    server = expert(waits_at_first)
    assert collect(server, workdir) == 0
    collected = read_trajectories(workdir / "data" / "burger" / "train.jsonl")
    assert all(t.steps[0].action == "Do nothing" not in t.steps[0].optimal_actions for t in collected)
    assert all(t.steps[1].distance == t.steps[0].distance == len(t.steps) - 1 for t in collected)
    facts = json.loads((workdir / "expert" / "burger" / "train.json").read_text())
    assert facts["excess"] == {"1": 3}
    for stage in ("sft", "grpo"):
        assert call(stage, SMOKE, f"--workdir={workdir}", *EXPERT, f"--config.expert.server={server.address}") == 0
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["stage"] == "grpo"] == [1, 2, 3, 4, 5, 6]
