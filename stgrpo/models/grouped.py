"""Rows that hold a prompt once, with all responses to it: what they are, and their way through the model."""

import dataclasses

import jax
import jax.numpy as jnp

from stgrpo.models.attention.xla import AttentionCore, attend_group
from stgrpo.models.transformer import Attend, Transformer, behind


@dataclasses.dataclass(frozen=True)
class GroupRows:
    """Rows of a prompt and the responses to it, P + G * R tokens each.

    The first response token is predicted from the prompt's last real token; every response starts at the position
    after it. Prompts and responses are padded on the right; what padding holds does not matter.

    Attributes:
        prompt_BP: token ids.
        prompt_len_B: real lengths.
        response_BGR: token ids.
        below_BSD: what `row_below` gave for them, in place of going through those layers; None to go.
    """

    prompt_BP: jax.Array
    prompt_len_B: jax.Array
    response_BGR: jax.Array
    below_BSD: jax.Array | None = None

    @property
    def token_BS(self) -> jax.Array:
        """The prompt's, then those of each response."""
        return jnp.concatenate([self.prompt_BP, self.response_BGR.reshape(len(self.prompt_BP), -1)], axis=1)

    @property
    def position_BS(self) -> jax.Array:
        """Of each of them."""
        (B, P), (_, G, R) = self.prompt_BP.shape, self.response_BGR.shape
        response_pos_BS = self.prompt_len_B[:, None] + jnp.tile(jnp.arange(R), G)
        return jnp.concatenate([jnp.broadcast_to(jnp.arange(P), (B, P)), response_pos_BS], axis=1)

    def attend(self, core: AttentionCore) -> Attend:
        """Attention among them, behind what was read before, if anything."""
        P, G = self.prompt_BP.shape[1], self.response_BGR.shape[1]

        def attend(q, kv, before=None):
            return attend_group(q, kv, self.prompt_len_B, P=P, G=G, before=before, core=core), None

        return attend


def row_hidden(model: Transformer, rows: GroupRows, dtype=jnp.float32) -> tuple[jax.Array, jax.Array]:
    """Hidden states of the prompts, [B, P, D], and those that predict each response token, [B, G, R, D]."""
    (_, P), (B, G, R) = rows.prompt_BP.shape, rows.response_BGR.shape
    how = behind(model, rows.position_BS, dtype, rows.attend(model.core))
    hidden_BSD, _ = model.hidden(rows.token_BS, *how, below_BSD=rows.below_BSD)
    prompt_BPD = hidden_BSD[:, :P]
    last_B1D = jnp.take_along_axis(prompt_BPD, (rows.prompt_len_B - 1)[:, None, None], axis=1)
    own_BGRD = hidden_BSD[:, P:].reshape(B, G, R, -1)
    first_BG1D = jnp.broadcast_to(last_B1D[:, None], (B, G, 1, last_B1D.shape[-1]))
    return prompt_BPD, jnp.concatenate([first_BG1D, own_BGRD[:, :, :-1]], axis=2)


def row_below(model: Transformer, rows: GroupRows, dtype=jnp.float32) -> jax.Array:
    """What the layers below all adapters give for rows, [B, P + G * R, D]; see `Transformer.below`."""
    return model.below(rows.token_BS, *behind(model, rows.position_BS, dtype, rows.attend(model.core)))
