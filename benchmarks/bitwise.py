"""What it would take for sampler and trainer to agree to the bit: one JSON line for each dtype.

    python benchmarks/bitwise.py

The model is that of train_step.py; 8 responses of 32 tokens to each of 8 prompts of 128. `sampler_equal` is the share
of log-probabilities of the embedded sampler that are the trainer's to the bit, `sampler_max` the largest difference.
`forward_equal` is that share for tokens drawn from the trainer's own forward pass over the whole batch, made anew for
each token with those to come unknown; `ratio_cpu` what drawing so takes against the sampler, by CPU time.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
from peer import SHAPE, B, G, say, timed

from stgrpo.models.grouped import GroupRows, row_hidden
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.training.logprobs import response_logprobs

P, R = 128, 32
UNKNOWN = 7  # any token in the place of those to come
TOKENS = (0, 5, 31)


@functools.partial(jax.jit, static_argnames="dtype")
def next_logprobs(
    model: Transformer, prompt_BP: np.ndarray, response_BGR: np.ndarray, at: int, dtype: jnp.dtype
) -> jax.Array:
    """Of every token that could be drawn next, [B, G, V], by the forward pass of an update."""
    hidden_BGRD = row_hidden(model, GroupRows(prompt_BP, lengths(), response_BGR), dtype)[1]
    hidden_BGD = jax.lax.dynamic_index_in_dim(hidden_BGRD, at, 2, keepdims=False)
    head_VD = model.head_VD.astype(dtype)
    return jax.nn.log_softmax(jnp.einsum("bgd,vd->bgv", hidden_BGD, head_VD, preferred_element_type=jnp.float32))


def lengths() -> np.ndarray:
    return np.full(B, P, np.int32)


def figures(model: Transformer, dtype: jnp.dtype) -> dict[str, float]:
    prompt_BP = np.random.default_rng(0).integers(2, SHAPE.vocab_size, (B, P), np.int32)
    sampler = JaxSampler(model, (), dtype=dtype)
    draw = functools.partial(sampler.generate, prompt_BP.tolist(), G, SamplingParams(R), range(B))
    drawn = draw()
    token_BGR, logp_BGR = np.array(drawn.tokens, np.int32), np.array(drawn.logprobs, np.float32)
    score = jax.jit(functools.partial(response_logprobs, dtype=dtype))
    trainer_BGR = np.asarray(score(model, prompt_BP, lengths(), token_BGR)[0])
    differences = [_difference(model, prompt_BP, token_BGR, trainer_BGR, at, dtype) for at in TOKENS]
    one = timed(lambda: next_logprobs(model, prompt_BP, token_BGR, R - 1, dtype))
    return {
        "sampler_equal": float((logp_BGR == trainer_BGR).mean()),
        "sampler_max": float(np.abs(logp_BGR - trainer_BGR).max()),
        "forward_equal": float((np.array(differences) == 0).mean()),
        "ratio_cpu": R * one["cpu_s"] / timed(draw)["cpu_s"],
    }


def _difference(
    model: Transformer, prompt_BP: np.ndarray, token_BGR: np.ndarray, trainer_BGR: np.ndarray, at: int, dtype: jnp.dtype
) -> np.ndarray:
    known = np.where(np.arange(R) < at, token_BGR, UNKNOWN)
    logp_BGV = np.asarray(next_logprobs(model, prompt_BP, known, at, dtype))
    return np.take_along_axis(logp_BGV, token_BGR[:, :, at, None], 2)[..., 0] - trainer_BGR[:, :, at]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model = jax.jit(Transformer, static_argnums=0)(SHAPE, jax.random.key(0))
    for dtype in ("float32", "bfloat16"):
        say(dtype, **figures(model, jnp.dtype(dtype)))


if __name__ == "__main__":
    main()
