"""The critic of PPO: a decoder with a scalar head, which says before each token how much reward is still to come."""

import jax
import jax.numpy as jnp
from flax import nnx

from stgrpo.models.transformer import Transformer


class Critic(nnx.Module):
    """A decoder whose final hidden states have a value each. Its head is 0 at the start, and so is every value."""

    value_head: nnx.Param[jax.Array]

    def __init__(self, model: Transformer):
        """Takes the parameters of a model as they are; an output embedding of its own has no use and is left out."""
        self.model = jax.tree.map(lambda x: x, model)
        if not model.shape.tie_embeddings:
            del self.model.head
        self.value_head = nnx.Param(jnp.zeros(model.shape.width, jnp.float32))

    def values(self, hidden: jax.Array) -> jax.Array:
        """Of hidden states [..., D], in float32."""
        return jnp.einsum("...d,d->...", hidden.astype(jnp.float32), self.value_head[...])
