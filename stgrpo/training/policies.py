"""Policies on disk: the parameters of a step folder, or its adapters on the base that they were trained on.

Adapters do not carry their base. That of SFT is what its run started from (`init_from` or `model.path`), that of GRPO
the policy in the SFT checkpoints beside it. Both are held to what the record says of them.
"""

from pathlib import Path

import jax

from stgrpo.errors import UserError
from stgrpo.models.huggingface.weights import load_folder
from stgrpo.models.lora import Adapters, Lora, adapted, frozen, merged
from stgrpo.models.sharding import abstract_tree
from stgrpo.models.transformer import Transformer
from stgrpo.training.checkpointing import CheckpointMetadata, fingerprint, load_metadata, load_params, newest, place


def read_policy(folder: Path, abstract: Transformer) -> Transformer:
    """The policy in one step folder, as it was trained: with adapters where there are some.

    Args:
        folder: step folder of a checkpoint.
        abstract: the model as shapes with shardings; with adapters the base has the dtypes that they were trained on.

    Raises:
        UserError: it is no checkpoint (DamagedCheckpoint: a damaged one), or the base of its adapters is not to be had.
    """
    record = load_metadata(folder)
    if record.lora is None:
        return load_params(folder, abstract)
    base, identity = _base(folder, record, frozen_like(abstract, record.lora))
    check_base(f"{folder}", record, identity)
    mesh = jax.tree.leaves(abstract)[0].sharding.mesh
    adapters = jax.eval_shape(lambda: Adapters(record.shape, record.lora))
    return adapted(base, load_params(folder, abstract_tree(adapters, record.shape, mesh)))


def read_merged(folder: Path, abstract: Transformer) -> tuple[Transformer, str]:
    """The policy in one step folder as a model without adapters, in the dtypes of `abstract`, and its identity."""
    return place(merged(read_policy(folder, abstract)), abstract), load_metadata(folder).identity


def read_start(init_from: str, path: str, abstract: Transformer) -> tuple[Transformer, str]:
    """The model that a run starts from, and its identity: that of a checkpoint, or of a Hugging Face folder."""
    if init_from:
        return read_merged(Path(init_from), abstract)
    model = load_folder(path, abstract)
    return model, fingerprint(model)


def check_base(whose: str, record: CheckpointMetadata, identity: str) -> None:
    """Raises a UserError if adapters were trained on another base than the one at hand."""
    if record.lora and record.base != identity:
        raise UserError(
            f"{whose}: these adapters were trained on base {record.base}, the one found is {identity}: "
            "put that model back where it was"
        )


def frozen_like(abstract: Transformer, lora: Lora) -> Transformer:
    """The same shapes and shardings in the dtypes of a frozen base."""
    kinds = jax.eval_shape(lambda model: frozen(model, lora.base_dtype), abstract)
    return jax.tree.map(lambda x, k: jax.ShapeDtypeStruct(x.shape, k.dtype, sharding=x.sharding), abstract, kinds)


def _base(folder: Path, record: CheckpointMetadata, abstract: Transformer) -> tuple[Transformer, str]:
    if record.stage == "sft":
        return read_start(record.config["init_from"], record.config["model"]["path"], abstract)
    beside = folder.absolute().parents[1] / "sft"
    if not beside.is_dir():
        raise UserError(
            f"{folder} holds adapters, and their base is not in {beside}: leave it in its work directory, "
            "or `stgrpo export` it there to have the whole model"
        )
    return newest(beside, lambda step: read_merged(step, abstract))
