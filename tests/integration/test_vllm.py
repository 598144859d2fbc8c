"""Rollouts from a real vLLM on this machine's CPU: parity, training, and what happens when it fails.

Needs an interpreter that has vLLM, in STGRPO_VLLM_PYTHON (`make slow` sets one up): tests/vllm_cpu_requirements.txt.
"""

import collections
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import FAST
from several import running

from configs.tiny import get_config
from stgrpo.data.padding import pad_rows
from stgrpo.errors import ServerError, UserError
from stgrpo.evaluation.checkpoints import evaluate_checkpoint
from stgrpo.models.huggingface.weights import save_description
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.react.reward import Reward
from stgrpo.rl import rollouts
from stgrpo.rl.group_batch import score
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.sampling.vllm import weight_sync
from stgrpo.sampling.vllm.sampler import VllmSampler, VllmSettings
from stgrpo.sampling.vllm.server import ServerSettings, VllmServer
from stgrpo.serving.client import HttpClient
from stgrpo.stages.collect import run_collect
from stgrpo.stages.grpo import run_grpo
from stgrpo.stages.sft import run_sft
from stgrpo.training.checkpointing import load_metadata, newest_metadata
from stgrpo.training.context import open_context
from stgrpo.training.logprobs import response_logprobs
from stgrpo.workdir import WorkDir

pytestmark = pytest.mark.slow
PYTHON = os.environ.get("STGRPO_VLLM_PYTHON", "")
LENGTH = 320
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def python() -> str:
    if not PYTHON:
        pytest.skip("no vLLM at hand: set STGRPO_VLLM_PYTHON to an interpreter that has it (make slow does)")
    return PYTHON


def small(**rollout):
    """The smoke experiment with a model that vLLM's CPU kernels take (a head of at least 32)."""
    c = get_config("smoke")
    c.model.width, c.model.head_dim = 64, 32
    c.limits.prompt, c.limits.response = 288, 32
    c.sft.steps = 2
    c.grpo.steps, c.grpo.learning_rate, c.grpo.resample = 4, 1e-2, 0
    c.grpo.checkpoint_every, c.grpo.validate_every = 4, 0
    for name, value in rollout.items():
        c.rollout[name] = value
    return c


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> WorkDir:
    """A work directory after SFT."""
    workdir = WorkDir(tmp_path_factory.mktemp("sft") / "w")
    workdir.claim(small())
    run_collect(small(), workdir)
    run_sft(small(), workdir)
    return workdir


@pytest.fixture(scope="module")
def shape(trained):
    return newest_metadata(trained.checkpoints("sft")).shape


@pytest.fixture(scope="module")
def stop_ids(trained):
    return open_context(small(), trained).tokenizer.stop_ids


@pytest.fixture(scope="module")
def start_server(python, trained, shape, tmp_path_factory):
    """`start_server()`: one that is not the run's own; it ends with the module."""
    with contextlib.ExitStack() as stack:

        def start() -> VllmServer:
            folder = tmp_path_factory.mktemp("served")
            save_description(shape, open_context(small(), trained).tokenizer, folder, dtype="float32")
            settings = ServerSettings(folder, shape, "float32", LENGTH, python)
            server = stack.enter_context(VllmServer(settings, folder / "log"))
            server.start()
            return server

        yield start


@pytest.fixture(scope="module")
def server(start_server):
    """A server that somebody else started."""
    return start_server()


@pytest.fixture
def settings(server, shape):
    return VllmSettings((server.address,), "a test", shape, "float32", LENGTH, timeout=120)


@contextlib.contextmanager
def sampler_of(settings, stop_ids):
    sampler = VllmSampler(settings, stop_ids)
    try:
        yield sampler
    finally:
        sampler.close()


@pytest.fixture
def sampler(settings, stop_ids):
    with sampler_of(settings, stop_ids) as sampler:
        yield sampler


def copy_of(trained: WorkDir, path: pathlib.Path, config) -> WorkDir:
    """The same SFT policy in a work directory of another config."""
    workdir = WorkDir(path)
    workdir.claim(config)
    for name in ("data", "tokenizer", "checkpoints"):
        shutil.copytree(trained.path / name, path / name)
    return workdir


def test_an_engine_in_the_trainers_process_draws_the_same(python, trained, shape, tmp_path):
    """Needs jax beside vLLM; weights are handed over by DLPack."""
    save_description(shape, open_context(small(), trained).tokenizer, tmp_path, dtype="float32")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": FAST, "HF_HUB_OFFLINE": "1"}
    script = REPOSITORY / "tests" / "integration" / "local_engine.py"
    command = [python, str(script), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for version, row in enumerate(found["versions"], 1):
        assert row["greedy"] and row["repeats"] and row["version"] == version and row["difference"] < 1e-3
    assert found["versions"][0]["tokens"] != found["versions"][1]["tokens"]
    assert "has shape" in found["refused"]


def test_an_evaluation_by_vllm_is_that_of_the_embedded_sampler(trained, server, tmp_path):
    folder = trained.checkpoints("sft") / "2"
    played = []
    for name, rollout in (("jax", {}), ("vllm", {"backend": "vllm", "servers": (server.address,)})):
        config = small(**rollout)
        config.evaluation.on_invalid, config.evaluation.layouts = "retry", 3
        results = evaluate_checkpoint(config, folder, tmp_path / name)
        played.append([[turn.response for turn in e.turns] for r in results for e in r.episodes])
    assert played[0] == played[1] and sum(map(len, played[0])) > 3


@pytest.fixture
def rewarded(monkeypatch):
    """A reward that a policy with two steps of SFT gets some of: the share of even ids."""

    def scored(*arguments, **options):
        groups = score(*arguments, **options)
        share = [[np.mean(np.array(ids) % 2 == 0) for ids in g.tokens] for g in groups]
        rewards = [tuple(Reward(0.0, float(x), float(x)) for x in row) for row in share]
        return [dataclasses.replace(g, rewards=row) for g, row in zip(groups, rewards, strict=True)]

    monkeypatch.setattr(rollouts, "score", scored)


def metrics(workdir: WorkDir) -> list[dict]:
    return [row for row in map(json.loads, workdir.metrics.read_text().splitlines()) if row["stage"] == "grpo"]


def prompts(count: int, vocabulary: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(3, vocabulary, n).tolist() for n in rng.integers(1, 280, count)]


def empty(shape) -> Transformer:
    model = jax.eval_shape(lambda: Transformer(shape, jax.random.key(0)))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), model)


def test_many_samples_have_the_trainers_log_probabilities(sampler, shape, make_model):
    many, group = prompts(48, shape.vocab_size), 4
    for version, temperature in ((1, 1.0), (2, 0.7)):
        model = make_model(shape, version)
        sampler.update_weights(model, version)
        got = sampler.generate(many, group, SamplingParams(16, temperature), range(len(many)))
        assert got.version == version
        prompt_BP, prompt_len_B = pad_rows(many)
        rows, lengths = pad_rows([ids for group_ids in got.tokens for ids in group_ids])
        logp, _ = response_logprobs(
            model, prompt_BP, prompt_len_B, rows.reshape(len(many), group, -1), temperature=temperature
        )
        theirs = np.asarray([x for values in got.logprobs for row in values for x in row])
        mine = np.asarray(logp).reshape(rows.shape)[np.arange(rows.shape[1]) < lengths[:, None]]
        assert np.abs(mine - theirs).max() < 1e-3
        assert {f for finishes in got.finish for f in finishes} <= {"stop", "length"}
        assert all(len({tuple(ids) for ids in group_ids}) > 1 for group_ids in got.tokens)  # seeds of a group differ


def test_greedy_output_changes_exactly_as_the_policys_own(sampler, shape, stop_ids, make_model):
    asked, greedy, seen = prompts(6, shape.vocab_size), SamplingParams(12, 0.0), []
    for version in range(3):
        model = make_model(shape, version)
        sampler.update_weights(model, version)
        got = sampler.generate(asked, 2, greedy, [0] * len(asked))
        own = JaxSampler(model, stop_ids).generate(asked, 2, greedy, [0] * len(asked))
        assert (got.tokens, got.finish) == (own.tokens, own.finish)
        seen.append(got.tokens)
    assert seen[0] != seen[1] != seen[2]


def test_the_same_seeds_draw_the_same(sampler, shape, make_model):
    asked = prompts(4, shape.vocab_size)
    sampler.update_weights(make_model(shape), 1)
    first, again = (sampler.generate(asked, 2, SamplingParams(8), [5, 6, 7, 8]) for _ in range(2))
    other = sampler.generate(asked, 2, SamplingParams(8), [6, 7, 8, 9])
    assert first.tokens == again.tokens
    assert not any(a == b for a, b in zip(first.tokens, other.tokens, strict=True))


def test_weights_that_do_not_fit_are_refused_before_anything_is_loaded(sampler, shape, make_model, monkeypatch):
    monkeypatch.setattr(weight_sync, "_ATTEMPTS", 1)
    model = make_model(shape)
    sampler.update_weights(model, 1)
    before = sampler.generate([[5, 6, 7]], 1, SamplingParams(8, 0.0), [0])
    wrong = {
        "mlp.*proj.weight has shape": {"mlp_width": shape.mlp_width + 32},
        "lacks .* tensors": {"qkv_bias": False},
        "has 1 tensors that the served model does not": {"tie_embeddings": False},
    }
    for said, change in wrong.items():
        other = empty(dataclasses.replace(shape, **change))
        with pytest.raises(ServerError, match=said):
            sampler.load(sampler.publish(other, 2))
        with pytest.raises(ServerError, match="no version of the weights"):
            sampler.generate([[5, 6, 7]], 1, SamplingParams(8, 0.0), [0])
    sampler.load(sampler.publish(model, 3))  # the server is as well as before
    assert sampler.generate([[5, 6, 7]], 1, SamplingParams(8, 0.0), [0]).tokens == before.tokens


def test_a_run_of_another_model_or_dtype_is_refused(settings, shape, stop_ids):
    for change, said in (
        ({"shape": dataclasses.replace(shape, mlp_width=128)}, "mlp_width=64 there, 128 here"),
        ({"dtype": "bfloat16"}, "--dtype=bfloat16"),
        ({"length": LENGTH + 1}, f"--max-model-len={LENGTH + 1}"),
    ):
        with pytest.raises(UserError, match=said):
            VllmSampler(dataclasses.replace(settings, **change), stop_ids)


def test_two_trainers_do_not_share_a_server(sampler, settings, shape, stop_ids, make_model, monkeypatch):
    sampler.update_weights(make_model(shape), 1)
    theirs = dataclasses.replace(settings, run="another run")
    with pytest.raises(UserError, match="is held by a test, which asked for something 0 s ago"):
        VllmSampler(theirs, stop_ids)
    assert sampler.generate([[5]], 1, SamplingParams(2), [0]).version == 1
    monkeypatch.setattr(weight_sync, "LEASE_SECONDS", 0.0)  # as if the first had been silent for long
    with sampler_of(theirs, stop_ids) as other:
        other.update_weights(make_model(shape, 9), 1)
        with pytest.raises(ServerError, match="holds version 1 of another run, not version 1 of a test"):
            sampler.generate([[5]], 1, SamplingParams(2), [0])


def test_a_prompt_that_is_too_long_is_refused_with_the_servers_reason(sampler, shape, make_model):
    sampler.update_weights(make_model(shape), 1)
    with pytest.raises(UserError, match="status 400, .*maximum"):
        sampler.generate([[5] * (LENGTH + 1)], 1, SamplingParams(8), [0])
    with pytest.raises(ServerError, match="cut after 5 of 8 tokens"):  # vLLM lowers the limit and says nothing
        sampler.generate([[5] * (LENGTH - 5)], 2, SamplingParams(8), [0])


@pytest.mark.parametrize("rank", [0, 4], ids=["all weights", "adapters"])
def test_a_run_trains_on_what_vllm_draws(trained, server, rewarded, tmp_path, monkeypatch, rank):
    """Every version that training makes reaches the server: its greedy answers are those of the JAX policy.

    Adapters stay apart from the weights here, and are merged with them on the way there.
    """
    folder = tmp_path / "weights"
    config = small(
        backend="vllm", servers=(server.address,), correction="token", mismatch_alarm=1e-3, folder=str(folder)
    )
    config.lora.rank, config.lora.stages = rank, ("grpo",)
    workdir, seen = copy_of(trained, tmp_path / "w", config), []
    update_weights = VllmSampler.update_weights

    def compared(self, params: Transformer, version: int) -> None:
        assert hasattr(params.layers, "adapters") == bool(rank)
        update_weights(self, params, version)
        asked, greedy = [[5, 6, 7], [9] * 40], SamplingParams(12, 0.0)
        theirs = self.generate(asked, 1, greedy, [0, 0])
        own = JaxSampler(params, self._stop_ids).generate(asked, 1, greedy, [0, 0])
        assert theirs.tokens == own.tokens and theirs.version == version
        seen.append(own.tokens)

    monkeypatch.setattr(VllmSampler, "update_weights", compared)
    run_grpo(config, workdir)
    assert len(seen) == 4 and any(a != b for a, b in itertools.pairwise(seen))
    rows = metrics(workdir)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row["mismatch_max"] < 1e-3 and row["mismatch_pearson"] > 0.999 and row["mismatch_alarm"] == 0
        assert row["ratio_first"] == 1 and row["staleness"] == 0
        assert row["correction_mean"] == pytest.approx(1, abs=1e-3)
    record = load_metadata(workdir.checkpoints("grpo") / "4")
    assert record.step == 4 and bool(record.lora) == bool(rank)
    assert not list(folder.iterdir())


def test_rollouts_may_be_drawn_while_an_update_runs(trained, server, rewarded, tmp_path):
    """The schedule decides which weights draw what, not the clock: two runs agree, and one that goes on with one that
    was not stopped."""
    config = small(backend="vllm", servers=(server.address,), max_staleness=1, correction="token")
    config.grpo.steps, config.grpo.checkpoint_every = 6, 3
    runs = [copy_of(trained, tmp_path / name, config) for name in "ab"]
    for workdir in runs:
        run_grpo(config, workdir)
    shutil.rmtree(runs[1].checkpoints("grpo") / "6")
    run_grpo(config, runs[1])
    rows = [metrics(workdir) for workdir in runs]
    assert [row["staleness"] for row in rows[0]] == [0, 1, 1, 0, 1, 1]
    for mine, theirs in zip(*rows, strict=True):
        for name in ("reward", "response_length", "staleness"):
            assert mine[name] == theirs[name]
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
    stale = [row["mismatch_mean"] for row in rows[0] if row["staleness"]]
    fresh = [row["mismatch_mean"] for row in rows[0] if not row["staleness"]]
    assert max(fresh) < 1e-4 < min(stale)


FIELDS = {
    "model.width": 64,
    "model.head_dim": 32,
    "limits.prompt": 288,
    "limits.response": 32,
    "sft.steps": 2,
    "grpo.steps": 4,
    "grpo.learning_rate": 1e-2,
    "grpo.resample": 0,
    "grpo.checkpoint_every": 4,
    "grpo.validate_every": 0,
    "grpo.loss": "climbing:loss",
    "rollout.backend": "vllm",
}
CLIMBING = """
def loss(inputs, coefficients):
    return -(inputs.weight * inputs.logp).sum(), {}
"""


@pytest.mark.parametrize("staleness", [0, 1])
def test_two_processes_train_on_what_vllm_draws_as_one_does(trained, server, tmp_path, staleness):
    """Process 0 speaks with the server, the other gets every sample; the weights that reach it are those of one."""
    (tmp_path / "climbing.py").write_text(CLIMBING)
    more = {"max_staleness": staleness, "correction": "token" if staleness else "none"}
    config = small(backend="vllm", servers=(server.address,), **more)
    config.grpo.loss = FIELDS["grpo.loss"]
    flags = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    flags += [f"--config.rollout.{name}={value}" for name, value in more.items()]
    flags += [f"--config.rollout.servers=('{server.address}',)", "--config=configs/tiny.py:smoke"]
    runs = []
    for count in (1, 2):
        workdir = copy_of(trained, tmp_path / f"of-{count}", config)
        words = ["grpo", *flags, f"--workdir={workdir.path}"]
        with running(words, count, 2 // count, PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}") as run:
            status, said = run.wait()
        assert status == [0] * count, said
        runs.append(workdir)
    for mine, theirs in zip(*map(metrics, runs), strict=True):
        for name in ("reward", "response_length", "staleness", "step"):
            assert mine[name] == theirs[name]
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert mine["mismatch_mean"] == pytest.approx(theirs["mismatch_mean"], abs=1e-5)
    # The server has drawn with each version.
    assert all(row["staleness"] or row["mismatch_mean"] < 1e-4 for row in metrics(runs[1]))
    sft, grpo = (newest_metadata(runs[1].checkpoints(stage)).fingerprint for stage in ("sft", "grpo"))
    assert sft != grpo
    assert (runs[0].path / "samples.jsonl").read_bytes() == (runs[1].path / "samples.jsonl").read_bytes()


def before_drawing(monkeypatch, version: int, act) -> None:
    """Does something once, in the middle of the rollout that a version draws."""
    draw, lock, done = VllmSampler._draw, threading.Lock(), []

    def drawing(self, body):
        with lock:
            if self.version == version and not done:
                done.append(act(self))
        return draw(self, body)

    monkeypatch.setattr(VllmSampler, "_draw", drawing)


def test_a_server_that_hangs_is_waited_for(trained, server, tmp_path, monkeypatch, capsys):
    config = small(backend="vllm", servers=(server.address,), timeout=5.0, server_wait_s=120.0)
    config.grpo.steps = 2
    workdir = copy_of(trained, tmp_path / "w", config)

    def hang(_):
        os.killpg(server._process.pid, signal.SIGSTOP)
        threading.Timer(8.0, os.killpg, (server._process.pid, signal.SIGCONT)).start()

    before_drawing(monkeypatch, 1, hang)
    run_grpo(config, workdir)
    said = capsys.readouterr().out
    assert "no answer within 5 s" in said and "the server is back" in said and "saved at step 1" in said
    assert len(metrics(workdir)) == 2


def test_a_server_of_the_run_is_started_again_when_it_is_killed(trained, python, tmp_path, monkeypatch, capsys):
    """Killed in the middle of a rollout, and again in the middle of a load; the run is as if nothing had been."""
    config = small(backend="vllm", python=python, server_wait_s=120.0)
    workdir, kills = copy_of(trained, tmp_path / "w", config), []

    def kill(sampler):
        kills.append(sampler._own._process.pid)
        os.killpg(kills[-1], signal.SIGKILL)
        return sampler

    before_drawing(monkeypatch, 1, kill)
    call, load = weight_sync.WeightSync._rpc, VllmSampler.load
    loading = []

    def remembered(self, published):
        loading[:] = [self]
        load(self, published)

    def calling(self, address, method, *arguments):
        if method == "stgrpo_load" and arguments[1] == "2" and len(kills) == 1:
            kill(loading[0])
        return call(self, address, method, *arguments)

    monkeypatch.setattr(VllmSampler, "load", remembered)
    monkeypatch.setattr(weight_sync.WeightSync, "_rpc", calling)
    run_grpo(config, workdir)
    said = capsys.readouterr().out
    assert len(kills) == 2 and said.count("the server is back") == 2
    assert "grpo: saved at step 1" in said and "grpo: saved at step 2" in said
    assert [row["step"] for row in metrics(workdir)] == [1, 2, 3, 4]
    assert all(row["mismatch_max"] < 1e-3 for row in metrics(workdir))
    deadline = time.monotonic() + 30
    while _alive(kills[-1]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _alive(kills[-1])


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def watch_requests(monkeypatch) -> dict[str, set]:
    """The versions that each address was asked to draw with, and those that it was given."""
    drawn, loaded, exchange = collections.defaultdict(set), collections.defaultdict(set), HttpClient._exchange

    def watched(self, request, address):
        answer = exchange(self, request, address)
        if request.path == "/v1/completions":
            drawn[address].add(request.body["cache_salt"])
        elif request.path == "/collective_rpc" and request.body["method"] == "stgrpo_load":
            loaded[address].add(f"v{request.body['args'][1]}")
        return answer

    monkeypatch.setattr(HttpClient, "_exchange", watched)
    return {"drawn": drawn, "loaded": loaded}


def test_two_servers_share_a_run_and_one_is_killed(trained, server, start_server, tmp_path, monkeypatch, capsys):
    """Last of all: it ends the server that the others use.

    Both draw with every version. The other one has answered what the dead one was asked, but a run does not go on with
    fewer servers than it was given by itself: it saves and ends with the reason, and goes on with those it is given.
    """
    other = start_server()
    config = small(backend="vllm", servers=(server.address, other.address), server_wait_s=1.0, timeout=60.0)
    workdir, seen = copy_of(trained, tmp_path / "w", config), watch_requests(monkeypatch)
    before_drawing(monkeypatch, 2, lambda _: os.killpg(server._process.pid, signal.SIGKILL))
    with pytest.raises(ServerError, match=f"{server.address}.*not back within 1 s"):
        run_grpo(config, workdir)
    assert "waiting up to 1 s for the server" in capsys.readouterr().out
    assert load_metadata(workdir.checkpoints("grpo") / "2").step == 2 and len(metrics(workdir)) == 2
    assert seen["loaded"] == {address: {"v0", "v1", "v2"} for address in config.rollout.servers}
    assert seen["drawn"][server.address] >= {"v0", "v1"} and seen["drawn"][other.address] == {"v0", "v1", "v2"}
    config.rollout.servers = (other.address,)
    run_grpo(config, workdir)
    assert [row["step"] for row in metrics(workdir)] == [1, 2, 3, 4]
    assert all(row["mismatch_max"] < 1e-3 for row in metrics(workdir))
    jax.clear_caches()
