"""Run by test_vllm.py with an interpreter that has both jax and vLLM: the engine in the trainer's process."""

import dataclasses
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.data.padding import pad_rows
from stgrpo.errors import ServerError
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.sampling.vllm.local import LocalVllmSampler
from stgrpo.sampling.vllm.server import ServerSettings
from stgrpo.training.logprobs import response_logprobs

STOPS = (2, 0)


def largest_difference(model: Transformer, prompts: list[list[int]], got) -> float:
    """Between the engine's log-probabilities and the trainer's."""
    prompt_BP, prompt_len_B = pad_rows(prompts)
    rows, lengths = pad_rows([ids for group in got.tokens for ids in group])
    logp, _ = response_logprobs(model, prompt_BP, prompt_len_B, rows.reshape(len(prompts), len(got.tokens[0]), -1))
    mine = np.asarray(logp).reshape(rows.shape)[np.arange(rows.shape[1]) < lengths[:, None]]
    return float(np.abs(mine - [x for group in got.logprobs for row in group for x in row]).max())


def main(folder: pathlib.Path) -> None:
    shape = read_shape(folder)
    sampler = LocalVllmSampler(ServerSettings(folder, shape, "float32", shape.max_position, sys.executable), STOPS)
    rng, found = np.random.default_rng(0), []
    prompts = [rng.integers(3, shape.vocab_size, n).tolist() for n in (1, 5, 40, 130)]
    for version in (1, 2):
        model = Transformer(shape, jax.random.key(version))
        sampler.update_weights(model, version)
        greedy = sampler.generate(prompts, 2, SamplingParams(12, 0.0), range(4))
        own = JaxSampler(model, STOPS).generate(prompts, 2, SamplingParams(12, 0.0), range(4))
        drawn = sampler.generate(prompts, 4, SamplingParams(16), range(4))
        again = sampler.generate(prompts, 4, SamplingParams(16), range(4))
        found.append(
            {
                "greedy": greedy.tokens == own.tokens and greedy.finish == own.finish,
                "difference": largest_difference(model, prompts, drawn),
                "repeats": drawn.tokens == again.tokens,
                "version": drawn.version,
                "tokens": greedy.tokens,
            }
        )
    other = dataclasses.replace(shape, mlp_width=shape.mlp_width + 32)
    wider = jax.eval_shape(lambda: Transformer(other, jax.random.key(0)))
    try:
        sampler.update_weights(jax.tree.map(lambda x: jnp.zeros(x.shape), wider), 3)
        refused = ""
    except ServerError as error:
        refused = str(error)
    print(json.dumps({"versions": found, "refused": refused}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
