"""The one path for log-probabilities: policy, old policy, reference and the SFT loss all go through here.

No tensor of the size of the vocabulary is made over a whole batch: tokens are taken in chunks, forward and backward.
"""

import jax
import jax.numpy as jnp

from stgrpo.models.sharding import batch_shards
from stgrpo.models.transformer import Transformer, group_hidden, packed_hidden
from stgrpo.training.grpo import GroupBatch
from stgrpo.training.packing import Batch

CHUNK = 1024  # tokens a device whose logits exist at one time; at a vocabulary of 151,936 that is 0.6 GB in float32


def token_logprobs(
    hidden_BTD: jax.Array, head_VD: jax.Array, target_BT: jax.Array, *, temperature: float, chunk: int = CHUNK
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each target and entropy of each distribution, both [B, T] float32, in chunks of tokens.

    Chunks are cut along T, so that B keeps its sharding over devices.

    Args:
      hidden_BTD: hidden states that predict the targets.
      head_VD: output embedding.
      target_BT: token ids.
      temperature: logits are divided by it, as in sampling.
      chunk: tokens a device and chunk.
    """
    B, T, D = hidden_BTD.shape
    size = max(1, min(T, chunk * batch_shards() // B))
    pad = -T % size
    hidden = jnp.pad(hidden_BTD, ((0, 0), (0, pad), (0, 0))).reshape(B, -1, size, D).swapaxes(0, 1)
    target = jnp.pad(target_BT, ((0, 0), (0, pad))).reshape(B, -1, size).swapaxes(0, 1)
    head = head_VD.astype(hidden_BTD.dtype)

    @jax.checkpoint
    def one(hidden_BCD, target_BC):
        logits_BCV = jnp.einsum("bcd,vd->bcv", hidden_BCD, head, preferred_element_type=jnp.float32) / temperature
        logp_BCV = jax.nn.log_softmax(logits_BCV)
        entropy_BC = -jnp.sum(jnp.exp(logp_BCV) * logp_BCV, axis=-1)  # no difference of two large numbers
        return jnp.take_along_axis(logp_BCV, target_BC[..., None], axis=-1)[..., 0], entropy_BC

    both = jax.lax.map(lambda xs: one(*xs), (hidden, target))
    logp_BT, entropy_BT = (x.swapaxes(0, 1).reshape(B, -1)[:, :T] for x in both)
    return logp_BT, entropy_BT


def response_logprobs(
    model: Transformer,
    prompt_BP: jax.Array,
    prompt_len_B: jax.Array,
    response_BGR: jax.Array,
    *,
    temperature: float = 1.0,
    dtype: jnp.dtype = jnp.float32,
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and entropies of response tokens, both [B, G, R] float32, from P + G * R tokens a group."""
    B, G, R = response_BGR.shape
    hidden_BGRD = group_hidden(model, prompt_BP, prompt_len_B, response_BGR, dtype)
    both = token_logprobs(
        hidden_BGRD.reshape(B, G * R, -1), model.head_VD, response_BGR.reshape(B, G * R), temperature=temperature
    )
    logp_BGR, entropy_BGR = (x.reshape(B, G, R) for x in both)
    return logp_BGR, entropy_BGR


def batch_logprobs(
    model: Transformer, batch: Batch, *, temperature: float = 1.0, dtype: jnp.dtype = jnp.float32
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and entropies in the layout of the batch's loss terms, float32."""
    if isinstance(batch, GroupBatch):
        rows = (batch.prompt_BP, batch.prompt_len_B, batch.response_BGR)
        return response_logprobs(model, *rows, temperature=temperature, dtype=dtype)
    hidden_XSD = packed_hidden(model, batch.token_XS, batch.position_XS, (batch.group_XS, batch.branch_XS), dtype)
    hidden_XMD = jnp.take_along_axis(hidden_XSD, batch.source_XM[..., None], axis=1)
    return token_logprobs(hidden_XMD, model.head_VD, batch.target_XM, temperature=temperature)
