"""Where every array lives: one table from logical axes to mesh axes, and the shardings derived from it.

The mesh has three axes: `data` (replicas of the parameters), `fsdp` (their shards along the width) and `tensor`
(their shards along heads, MLP and vocabulary). Batches are split over data × fsdp.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from stgrpo.errors import UserError
from stgrpo.models.shapes import TABLE_AXES, ModelShape, ParameterSpec, adapter_specs, layer_specs, top_specs

Tree = TypeVar("Tree")
MESH_AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# A logical axis stands once. An axis whose size the mesh axis does not divide stays whole (see `_fit`).
RULES: dict[str, str | None] = {
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "norm": None,
    "rank": None,
    "rank_for_embed": "fsdp",
}


def all_devices() -> list[jax.Device]:
    """The devices of all processes.

    Raises:
        UserError: JAX_PLATFORMS names a platform that this machine does not have.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError: for cuda without a GPU, JAX says no more
        wanted = os.environ.get("JAX_PLATFORMS")
        if not wanted:
            raise
        why = str(error).partition(" (set JAX_PLATFORMS")[0] or "there is no such device"
        fix = "set it to what this machine has, or unset it"
        raise UserError(f"JAX_PLATFORMS={wanted} cannot be used ({' '.join(why.split())}): {fix}") from error


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices; one of the sizes may be -1, "what is left".

    Neighbours on the mesh are neighbours in the network: a TPU's axes are split where that is needed, and where devices
    lie in several slices, `data` goes across them before `fsdp` does.

    Raises:
        UserError: the sizes do not multiply to the number of devices, or the network has no such form.
    """
    devices = devices if devices is not None else all_devices()
    sizes = [data, fsdp, tensor]
    known = math.prod(s for s in sizes if s != -1)
    text = f"mesh data={data}, fsdp={fsdp}, tensor={tensor}"
    if sizes.count(-1) > 1 or known < 1 or len(devices) % known:
        raise UserError(f"{text} does not fit {len(devices)} devices: use sizes with that product, one may be -1")
    sizes = [len(devices) // known if s == -1 else s for s in sizes]
    if math.prod(sizes) != len(devices):
        raise UserError(f"{text} uses {known} of {len(devices)} devices: set one size to -1 to use all")
    try:
        return Mesh(_arranged(sizes, devices), MESH_AXES, axis_types=(AxisType.Auto,) * 3)
    except (AssertionError, NotImplementedError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{text} cannot be laid over these devices ({reason}): use other mesh sizes") from error


def _arranged(sizes: list[int], devices: list[jax.Device]) -> np.ndarray:
    """Devices as an array [data, fsdp, tensor]."""
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    across = [math.gcd(sizes[0], slices)]
    across += [math.gcd(sizes[1], slices // across[0]), 1]
    if math.prod(across) != slices:
        raise ValueError(f"{slices} slices: data x fsdp must be a multiple of that")
    inside = [size // apart for size, apart in zip(sizes, across, strict=True)]
    return mesh_utils.create_hybrid_device_mesh(inside, across, devices, allow_split_physical_axes=True)


def constrain_batch(x: jax.Array) -> jax.Array:
    """Keeps the leading axis split over the batch axes of the mesh; does nothing without a mesh.

    Rows that do not split evenly, such as the one of `transformer.keys_values`, lie whole on every device: XLA would
    pad them, and what it pads with comes back as NaN in the gradient of an embedding.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    even = x.shape[0] % math.prod(mesh.shape[axis] for axis in BATCH_AXES) == 0
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES if even else None))


def constrain_width(x_BSD: jax.Array) -> jax.Array:
    """Keeps rows of an embedding cut along their width, as they come from a table cut so: it need not be gathered.

    With `constrain_batch` after it each device looks up its part of the width for the tokens of all others, and they
    exchange: as much as the device's own tokens are wide, however many devices there are.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or x_BSD.shape[-1] % mesh.shape["fsdp"] or x_BSD.shape[0] % mesh.shape["data"]:
        return x_BSD
    return jax.lax.with_sharding_constraint(x_BSD, PartitionSpec("data", None, "fsdp"))


@dataclasses.dataclass(frozen=True)
class EmbeddingSharding:
    """How an embedding [V, D] is cut over the mesh of the context. Without a mesh every method is the identity.

    What XLA makes of products with such a table, left alone, grows with the number of devices: every one of them gets
    all tokens of the batch, and a part of the vocabulary. These methods are for functions that run on each device by
    `on_each_device`.

    Attributes:
        mesh: there is one, of more than one device.
        vocab: V is cut over `tensor`.
        width: D is cut over `fsdp`.
    """

    mesh: bool = False
    vocab: bool = False
    width: bool = False

    @classmethod
    def of(cls, table_VD: jax.Array) -> "EmbeddingSharding":
        """The cut of a table as `RULES` has it."""
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty or mesh.size == 1:
            return cls()
        return cls(
            True, *(name is not None and mesh.shape[name] > 1 for name in _fit(table_VD.shape, TABLE_AXES, mesh))
        )

    def on_each_device(self, function: Callable, table_VD: jax.Array, *rows: jax.Array) -> tuple:
        """`function(table, *rows)`, with a device's part of the table and of rows [B, ...]; so are its two results."""
        if not self.mesh:
            return function(table_VD, *rows)
        table = PartitionSpec("tensor" if self.vocab else None, "fsdp" if self.width else None)
        split = PartitionSpec(BATCH_AXES)
        specs = {"in_specs": (table, *[split] * len(rows)), "out_specs": (table, split)}
        return jax.shard_map(function, **specs, check_vma=False)(table_VD, *rows)

    def gather(self, part_VD: jax.Array) -> jax.Array:
        """The table in its whole width, of this device's part of the vocabulary."""
        return jax.lax.all_gather(part_VD, "fsdp", axis=1, tiled=True) if self.width else part_VD

    def reduce(self, d_table_DV: jax.Array) -> jax.Array:
        """This device's part of the sum of all devices' gradients of what `gather` returned, both turned round."""
        if self.width:
            d_table_DV = jax.lax.psum_scatter(d_table_DV, "fsdp", scatter_dimension=0, tiled=True)
        if self.mesh:
            d_table_DV = jax.lax.psum(d_table_DV, "data" if self.width else BATCH_AXES)
        return d_table_DV

    def own(self, ids: jax.Array | int, size: int) -> jax.Array | int:
        """Ids as rows of this device's part, which has `size` of them; those of others lie outside."""
        return ids - jax.lax.axis_index("tensor") * size if self.vocab else ids

    def sum(self, values: Tree) -> Tree:
        """Sums over the parts of the vocabulary."""
        return jax.lax.psum(values, "tensor") if self.vocab else values

    def max(self, values: jax.Array) -> jax.Array:
        """Maxima over the parts of the vocabulary."""
        return jax.lax.pmax(values, "tensor") if self.vocab else values


def gathered(tree: Tree, shape: ModelShape) -> Tree:
    """Parameters whole along `fsdp`, as a loop wants them that reads all of them for a few tokens each time.

    Still cut over `tensor`. XLA would gather them in every turn of the loop. Without a mesh, the tree as it is.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape["fsdp"] == 1:
        return tree

    def whole(spec: PartitionSpec) -> PartitionSpec:
        return PartitionSpec(*(None if name == "fsdp" else name for name in spec))

    specs = jax.tree.map(lambda s: whole(s.spec), tree_shardings(tree, shape, mesh))
    return jax.tree.map(jax.lax.with_sharding_constraint, tree, specs)


def tree_shardings(tree: object, shape: ModelShape, mesh: Mesh | AbstractMesh) -> Any:
    """Shardings for any pytree that holds copies of the parameters (a model, its gradient, an optimiser's moments).

    A leaf is known by the last name on its path. One that lacks an axis of its parameter, since it is a mean over it,
    is cut along the others as the parameter is; one that is no parameter at all (a step, a count) is replicated.
    """
    specs = {**top_specs(shape), **layer_specs(shape), **adapter_specs(shape, rank=1)}

    def place(path, leaf):
        names = [k.name for k in path if isinstance(k, jax.tree_util.GetAttrKey) and k.name in specs]
        axes = _axes_of(leaf.shape, specs[names[-1]]) if names else None
        return NamedSharding(mesh, _fit(leaf.shape, axes, mesh) if axes else PartitionSpec())

    return jax.tree_util.tree_map_with_path(place, tree)


def abstract_tree(tree: Tree, shape: ModelShape, mesh: Mesh) -> Tree:
    """A tree of shapes and dtypes with the shardings of `tree_shardings`, for arrays to be read onto."""
    shardings = tree_shardings(tree, shape, mesh)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis over data × fsdp."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def _axes_of(sizes: tuple[int, ...], spec: ParameterSpec) -> tuple[str, ...] | None:
    """The logical axes of a leaf of these sizes: all of its parameter's, or all but one; None for anything else."""
    if len(sizes) == len(spec.shape):
        return spec.axes
    for left_out in range(len(spec.shape)):
        if sizes == spec.shape[:left_out] + spec.shape[left_out + 1 :]:
            return spec.axes[:left_out] + spec.axes[left_out + 1 :]
    return None


def _fit(sizes: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    def place(size: int, axis: str) -> str | None:
        name = RULES[axis]
        return name if name and size % mesh.shape[name] == 0 else None

    return PartitionSpec(*(place(size, axis) for size, axis in zip(sizes, axes, strict=True)))
