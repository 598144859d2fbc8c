"""A model that answers by a sampler, and tells how probable answers are by the one path for log-probabilities."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stgrpo.analysis.answers import Ids
from stgrpo.data.padding import pad_rows
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.models.sharding import BATCH_AXES, batch_sharding
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import Message
from stgrpo.sampling.base import Sampler
from stgrpo.sampling.policy import TokenPolicy
from stgrpo.training.logprobs import response_logprobs

GROUP, ROWS = 8, 8
"""Answers of a prompt and prompts that are scored in one call, both padded to it: one program."""


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How answers are scored.

    Attributes:
        params: the sampler's: its limit and temperature.
        max_prompt_len: tokens.
        dtype: of the computation.
        mesh: of the parameters.
    """

    params: SamplingParams
    max_prompt_len: int
    dtype: jnp.dtype
    mesh: Mesh


class ModelPolicy(TokenPolicy):
    """See `analysis.answers.ScoringPolicy`.

    Args:
        sampler: that draws, with the same weights.
        model: the weights.
        tokenizer: the model's.
        scoring: how.
    """

    def __init__(self, sampler: Sampler, model: Transformer, tokenizer: Tokenizer, scoring: Scoring):
        super().__init__(sampler, tokenizer, scoring.params, scoring.max_prompt_len)
        self._model, self._scoring, self._words = model, scoring, tokenizer
        self.max_tokens = scoring.params.max_tokens
        self._rows = math.lcm(ROWS, math.prod(scoring.mesh.shape[axis] for axis in BATCH_AXES))

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of whole answers, the end of the turn included."""
        return [tuple(ids) for ids in self._words.encode_responses(texts)]

    def score(self, asked: Sequence[tuple[list[Message], Sequence[Ids]]]) -> list[list[float]]:
        """Log-probability of each whole answer to each conversation, at the temperature of the sampler."""
        prompts = self._words.encode_prompts([messages for messages, _ in asked])
        rows = [(i, at) for i, (_, answers) in enumerate(asked) for at in range(0, len(answers), GROUP)]
        found: list[list[float]] = [[] for _ in asked]
        for start in range(0, len(rows), self._rows):
            part = rows[start : start + self._rows]
            groups = [asked[i][1][at : at + GROUP] for i, at in part]
            sums_BG = self._sums([prompts[i] for i, _ in part], groups)
            for (i, _), group, sums_G in zip(part, groups, sums_BG, strict=False):
                found[i] += sums_G[: len(group)].tolist()
        return found

    def _sums(self, prompts: Sequence[Sequence[int]], groups: Sequence[Sequence[Ids]]) -> np.ndarray:
        """Summed log-probabilities [B, G] of padded rows."""
        scoring = self._scoring
        prompt_BP, prompt_len_B = pad_rows(prompts, rows_to=self._rows, length=scoring.max_prompt_len)
        flat = [ids for group in groups for ids in (*group, *[()] * (GROUP - len(group)))]
        response_NR, length_N = pad_rows(flat, rows_to=self._rows * GROUP, length=self.max_tokens)
        arrays = (
            prompt_BP,
            np.maximum(prompt_len_B, 1),
            response_NR.reshape(self._rows, GROUP, -1),
            length_N.reshape(self._rows, GROUP),
        )
        placed = jax.device_put(arrays, batch_sharding(scoring.mesh))
        return np.asarray(_answer_logprobs(self._model, *placed, scoring.params.temperature, scoring.dtype))


@functools.partial(jax.jit, static_argnums=(5, 6))
def _answer_logprobs(
    model: Transformer,
    prompt_BP: jax.Array,
    prompt_len_B: jax.Array,
    response_BGR: jax.Array,
    length_BG: jax.Array,
    temperature: float,
    dtype: jnp.dtype,
) -> jax.Array:
    logp_BGR, _ = response_logprobs(model, prompt_BP, prompt_len_B, response_BGR, temperature=temperature, dtype=dtype)
    mask_BGR = jnp.arange(response_BGR.shape[-1]) < length_BG[..., None]
    return jnp.where(mask_BGR, logp_BGR, 0.0).sum(-1)
