"""Attention on TPU: JAX's splash kernel over one packed row a group, blocks that nobody sees skipped.

The row is [prompt | response 1 | ... | response G]. Its mask is a function of (P, G, R) that the kernel computes as it
goes, so no mask is kept in memory; which prompt positions are padding differs from row to row and goes in as segment
ids. Scores never leave the chip's own memory, forward or backward.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from stgrpo.errors import UserError
from stgrpo.models.attention.mesh import on_each_device
from stgrpo.models.attention.xla import KeyValues, packed_mask

_LANES = 128  # blocks are multiples of this
_BLOCKS = (512, 384, 256)  # tried in this order; the larger, the fewer passes over keys and values


class GroupMask(masks.Mask):
    """Who sees whom in a row [prompt | G responses | padding], as splash attention's computable mask.

    A query sees what is before it in the prompt and in its own response. The kernel knows of each query one number
    alone, `q_sequence`: its position and, in the low bits, how far it is into its response.
    """

    def __init__(self, P: int, R: int, G: int, length: int):
        """A square of `length` positions, at least P + G * R of them.

        Raises:
            UserError: the row is too long for the numbers to fit 31 bits.
        """
        position = np.arange(length, dtype=np.int32)
        into = np.where(position < P, 0, (position - P) % R)
        into = np.where(position < P + G * R, into, position - P - G * R)  # padding sees padding, and the prompt
        bits = int(into.max()).bit_length()
        if (length << bits) > 2**31:
            raise UserError(
                f"a prompt of {P} with {G} responses of {R} tokens is too long for model.attention='splash': "
                "lower limits.prompt, limits.response or grpo.group_size, or use model.attention='xla'"
            )
        self._key = (P, R, G, length)
        self.q_sequence = (position << bits) | into.astype(np.int32)

        def seen(q, k):
            before = (q >> bits) - k
            return (before >= 0) & ((k < P) | (before <= (q & ((1 << bits) - 1))))

        self.mask_function = seen

    @property
    def shape(self) -> tuple[int, int]:
        """Queries, keys."""
        return (len(self.q_sequence),) * 2

    def __getitem__(self, idx: tuple[slice, slice]) -> np.ndarray:
        rows, columns = idx
        keys = np.arange(len(self.q_sequence), dtype=np.int32)[columns]
        return self.mask_function(self.q_sequence[rows][:, None], keys[None])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupMask) and self._key == other._key

    def __hash__(self) -> int:
        return hash((GroupMask, self._key))


def attend_packed(
    q_BSNH: jax.Array, own: KeyValues, group_BS: jax.Array | None, branch_BS: jax.Array | None, emulated: bool
) -> jax.Array:
    """See `attention.attend_packed`; with `emulated` the kernel is interpreted, without a TPU.

    Groups go in as segment ids behind a static causal mask. Branches are no equality of two numbers, all that the
    kernel can ask of a packed row: rows with branches bring their whole mask, of which empty blocks are skipped.
    """
    S = q_BSNH.shape[1]
    length, block = _row_length(S)

    def kernel(q, kv, group, branch):
        if branch is None:
            mask = masks.CausalMask((length, length))
            return _attend_rows(q, kv, mask, None if group is None else (group, group), block=block, interpret=emulated)
        group, branch = (jnp.pad(x, ((0, 0), (0, length - S))) for x in (group, branch))
        seen_BSS = packed_mask(group, branch, slice(0, length), length)
        return _attend_rows(q, kv, seen_BSS, None, block=block, interpret=emulated)

    return on_each_device(kernel, q_BSNH, own, group_BS, branch_BS)


def attend_group(
    q_BSNH: jax.Array, own: KeyValues, prompt_len_B: jax.Array, *, P: int, G: int, emulated: bool
) -> jax.Array:
    """See `attention.attend_group`; with `emulated` the kernel is interpreted, without a TPU.

    Raises:
        UserError: the row is too long for the kernel's mask.
    """
    S = q_BSNH.shape[1]
    length, block = _row_length(S)
    mask = GroupMask(P, (S - P) // G, G, length)

    def kernel(q, kv, prompt_len):
        position = jnp.arange(S)
        real_BS = (position < prompt_len[:, None]) | (position >= P)
        return _attend_rows(q, kv, mask, (jnp.ones_like(real_BS), real_BS), block=block, interpret=emulated)

    return on_each_device(kernel, q_BSNH, own, prompt_len_B)


def _row_length(S: int) -> tuple[int, int]:
    """The length to which rows are padded and the block that divides it: the largest that costs at most an eighth."""
    least = -(-S // _LANES) * _LANES
    for block in _BLOCKS:
        length = -(-S // block) * block
        if 8 * (length - least) <= least:
            return length, block
    return least, _LANES


def _attend_rows(
    q_BSNH: jax.Array,
    own: KeyValues,
    mask: masks.Mask | jax.Array,
    segment_ids: tuple[jax.Array, jax.Array] | None,
    *,
    block: int,
    interpret: bool,
) -> jax.Array:
    """One mask for all rows, with segment ids of queries and of keys; or a mask a row, [B, length, length]."""
    S, N, H = q_BSNH.shape[1:]
    pad = mask.shape[-1] - S
    make = functools.partial(
        kernels.make_splash_mha, block_sizes=_blocks(block), head_shards=1, q_seq_shards=1, interpret=interpret
    )

    def heads_first(x_BSNH: jax.Array) -> jax.Array:
        return jnp.pad(x_BSNH.swapaxes(1, 2), ((0, 0), (0, 0), (0, pad), (0, 0)))

    qkv = tuple(heads_first(x) for x in (q_BSNH * H**-0.5, own.k, own.v))  # the kernel does not scale
    if isinstance(mask, jax.Array):
        out = jax.lax.map(lambda row: _traced(make(row[0][None]))(*row[1:]), (mask, *qkv))  # each skips its own blocks
    elif segment_ids is None:
        out = jax.vmap(make(masks.MultiHeadMask([mask] * N)))(*qkv)
    else:
        ids = kernels.SegmentIds(*(jnp.pad(x.astype(jnp.int32), ((0, 0), (0, pad))) for x in segment_ids))
        out = jax.vmap(make(masks.MultiHeadMask([mask] * N)))(*qkv, ids)
    assert isinstance(out, jax.Array)  # the kernel returns residuals too where they are asked for
    return out[:, :, :S].swapaxes(1, 2)


def _traced(kernel: kernels.SplashAttentionKernel) -> kernels.SplashAttentionKernel:
    """With a mask that is an array, `make_splash_mha` leaves a traced flag where the kernel then branches on it."""
    kernel.fwd_mask_info = kernel.fwd_mask_info._replace(is_dynamic_mask=True)
    return kernel


def _blocks(size: int) -> kernels.BlockSizes:
    """Blocks of one size, forward and backward."""
    return kernels.BlockSizes(
        block_q=size,
        block_kv=size,
        block_kv_compute=size,
        block_q_dkv=size,
        block_kv_dkv=size,
        block_kv_dkv_compute=size,
        block_q_dq=size,
        block_kv_dq=size,
    )
