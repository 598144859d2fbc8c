"""Where every array lives: one table from logical axes to mesh axes, and the shardings derived from it.

The mesh has three axes: `data` (replicas of the parameters), `fsdp` (their shards along the width) and `tensor`
(their shards along heads, MLP and vocabulary). Batches are split over data × fsdp.
"""

import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from stgrpo.errors import UserError
from stgrpo.models.shapes import ModelShape, ParameterSpec, adapter_specs, layer_specs, top_specs

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# A logical axis stands once. An axis whose size the mesh axis does not divide stays whole (see `_fit`).
# The embedding is cut along the vocabulary only: a lookup in a table cut along its width makes XLA gather all of it.
RULES: dict[str, str | tuple[str, ...] | None] = {
    "layers": None,
    "vocab": ("fsdp", "tensor"),
    "vocab_width": None,
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "norm": None,
    "rank": None,
    "rank_for_embed": "fsdp",
}


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices; one of the sizes may be -1, "what is left".

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    devices = devices if devices is not None else jax.devices()
    sizes = [data, fsdp, tensor]
    known = math.prod(s for s in sizes if s != -1)
    text = f"mesh data={data}, fsdp={fsdp}, tensor={tensor}"
    if sizes.count(-1) > 1 or known < 1 or len(devices) % known:
        raise UserError(f"{text} does not fit {len(devices)} devices: use sizes with that product, one may be -1")
    sizes = [len(devices) // known if s == -1 else s for s in sizes]
    if math.prod(sizes) != len(devices):
        raise UserError(f"{text} uses {known} of {len(devices)} devices: set one size to -1 to use all")
    return jax.make_mesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def batch_shards() -> int:
    """Over how many devices the batch axis is split in the mesh of the context; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.prod(mesh.shape[a] for a in BATCH_AXES)


def constrain_batch(x: jax.Array) -> jax.Array:
    """Keeps the leading axis split over the batch axes of the mesh; does nothing without a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))


def tree_shardings(tree: object, shape: ModelShape, mesh: Mesh) -> object:
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


def abstract_tree(tree: object, shape: ModelShape, mesh: Mesh) -> object:
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


def _fit(sizes: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh) -> PartitionSpec:
    def place(size: int, axis: str) -> str | tuple[str, ...] | None:
        rule = RULES[axis]
        names = (rule,) if isinstance(rule, str) else rule or ()
        while names and size % math.prod(mesh.shape[n] for n in names):
            names = names[:-1]
        return names or None

    return PartitionSpec(*(place(size, axis) for size, axis in zip(sizes, axes, strict=True)))
