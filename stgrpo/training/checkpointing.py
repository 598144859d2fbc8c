"""Orbax checkpoints that carry all that is needed to go on or to evaluate: state, position, config, shape, tokenizer.

A step folder holds `params` (nested dict of arrays), `opt_state` (flat dict) and `record` (JSON). A checkpoint that is
damaged, even by a single bit, is passed over for the one before it, and the run says so.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from stgrpo.errors import DamagedCheckpoint, UserError
from stgrpo.models.lora import Adapters, Lora
from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.training.step import TrainState

log = logging.getLogger(__name__)
Loaded = TypeVar("Loaded")
# Of a file that is cut off or changed Orbax says so in a plain `Exception`, tensorstore in several others.
DAMAGE = Exception


@dataclasses.dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint says of itself.

    Attributes:
        stage: "sft" or "grpo".
        step: updates (SFT) or rollouts (GRPO) done.
        total: of how many.
        shape: of the model.
        config: of the run, as JSON.
        tokenizer: its files, name to content.
        position: where the data goes on.
        reference: fingerprint of the frozen reference; empty for SFT.
        fingerprint: of the parameters, see `fingerprint`.
        lora: how the adapters are made that are all the checkpoint holds; None where it holds the whole model.
        base: identity of the frozen model under them.
    """

    stage: str
    step: int
    total: int
    shape: ModelShape
    config: Mapping[str, object]
    tokenizer: Mapping[str, str]
    position: int = 0
    reference: str = ""
    fingerprint: str = ""
    lora: Lora | None = None
    base: str = ""

    @property
    def identity(self) -> str:
        """Of the policy, as a base or a reference: its fingerprint, after that of the base under its adapters."""
        return f"{self.base}+{self.fingerprint}" if self.lora else self.fingerprint


class Checkpoints:
    """The checkpoints of one stage, one folder a step."""

    def __init__(self, folder: Path, *, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self.folder = Path(folder).absolute()
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def steps(self) -> list[int]:
        """Steps that were written whole, in order."""
        return sorted(self._manager.all_steps())

    def newest(self) -> int:
        """The newest step, 0 where there is none."""
        return max(self.steps(), default=0)

    def save(self, state: TrainState, record: CheckpointMetadata) -> None:
        """Writes one checkpoint; it appears only when it is whole. A damaged one of the same step is replaced."""
        if record.step in self.steps():
            self._manager.delete(record.step)
        record = dataclasses.replace(record, fingerprint=fingerprint(state.params))
        self._manager.save(
            record.step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(to_dict(state.params)),
                opt_state=ocp.args.StandardSave(to_dict((state.opt_state, state.step))),
                record=ocp.args.JsonSave(dataclasses.asdict(record)),
            ),
        )
        self._manager.wait_until_finished()

    def restore(self, abstract: TrainState) -> tuple[TrainState, CheckpointMetadata] | None:
        """The newest undamaged checkpoint, on the shardings of `abstract`; None where none was written.

        A frozen base is not in it: the state has none.

        Raises:
            DamagedCheckpoint: there are some and none can be read. To start anew is for the user to decide.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self._restore(step, abstract)
            except DAMAGE as error:
                log.warning("checkpoint %s/%d is damaged (%s) and passed over", self.folder, step, _reason(error))
        if steps:
            raise DamagedCheckpoint(f"no checkpoint in {self.folder} can be read: delete the folder to start anew")
        return None

    def _restore(self, step: int, abstract: TrainState) -> tuple[TrainState, CheckpointMetadata]:
        wanted = (abstract.opt_state, abstract.step)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(to_dict(abstract.params)),
                opt_state=ocp.args.StandardRestore(to_dict(wanted)),
                record=ocp.args.JsonRestore(),
            ),
        )
        opt_state, count = from_dict(wanted, restored["opt_state"])
        params = _checked(from_dict(abstract.params, restored["params"]), restored["record"]["fingerprint"])
        return TrainState(params, opt_state, count), _record(restored["record"])

    def close(self) -> None:
        self._manager.close()


def load_metadata(folder: Path) -> CheckpointMetadata:
    """The record of one step folder.

    Raises:
        UserError: the folder is no checkpoint (DamagedCheckpoint: it is a damaged one).
    """
    file = folder / "record" / "metadata"
    if not file.is_file():
        raise UserError(f"{folder} is not a checkpoint: give the folder of one step, such as RUN/checkpoints/grpo/100")
    try:
        return _record(json.loads(file.read_text(encoding="utf-8")))
    except DAMAGE as error:
        raise DamagedCheckpoint(f"{file} is damaged ({_reason(error)}): use another step") from error


Params = TypeVar("Params", Transformer, Adapters)


def load_params(folder: Path, abstract: Params) -> Params:
    """The parameters of one step folder, the whole model or its adapters, with the shardings and dtypes of `abstract`.

    Raises:
        DamagedCheckpoint: they are damaged or of another shape.
    """
    record = load_metadata(folder)
    checkpointer = ocp.StandardCheckpointer()
    try:
        whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding), abstract)
        restored = checkpointer.restore(folder.absolute() / "params", to_dict(whole))
        params = _checked(from_dict(abstract, restored), record.fingerprint)
    except DAMAGE as error:
        reason = _reason(error)
        raise DamagedCheckpoint(f"the parameters in {folder} cannot be read ({reason}): use another step") from error
    finally:
        checkpointer.close()
    return place(params, abstract)


def place(params: Params, abstract: Params) -> Params:
    """Parameters in the form, dtypes and shardings of `abstract`, one at a time; those that change are used up."""

    def one(leaf: jax.Array, wanted: jax.ShapeDtypeStruct) -> jax.Array:
        if leaf.dtype == wanted.dtype and leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim):
            return leaf
        placed = jax.device_put(leaf.astype(wanted.dtype), wanted.sharding)
        leaf.delete()
        return placed

    leaves, form = jax.tree.flatten(abstract)
    return form.unflatten(map(one, jax.tree.leaves(params), leaves))


def step_folders(folder: Path) -> list[Path]:
    """The step folders of a stage, newest first.

    Raises:
        UserError: there is none.
    """
    steps = [int(p.name) for p in folder.glob("*") if p.name.isdigit()] if folder.is_dir() else []
    if not steps:
        raise UserError(f"{folder} holds no checkpoint: run `stgrpo {folder.name}` with this work directory first")
    return [folder / str(step) for step in sorted(steps, reverse=True)]


def newest_metadata(folder: Path) -> CheckpointMetadata:
    """The record of a stage's newest checkpoint that can be read."""
    return newest(folder, load_metadata)


def load_newest(folder: Path, abstract: Transformer) -> Transformer:
    """The parameters of a stage's newest checkpoint that can be read."""
    return newest(folder, lambda step: load_params(step, abstract))


def newest(folder: Path, load: Callable[[Path], Loaded]) -> Loaded:
    """What `load` makes of the newest step folder of a stage that is not damaged; says which were passed over."""
    *newer, oldest = step_folders(folder)
    for step in newer:
        try:
            return load(step)
        except DamagedCheckpoint as error:
            log.warning("%s; the checkpoint before it is used", str(error).removesuffix(": use another step"))
    return load(oldest)


@jax.jit
def _checksum(leaves: list[jax.Array]) -> jax.Array:
    total = jnp.uint32(0)
    for i, leaf in enumerate(leaves):
        total += jnp.uint32(2 * i + 1) * jnp.sum(jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32))
    return total


def fingerprint(params: Transformer) -> str:
    """Eight hex digits that any changed bit of a parameter changes; the same on every mesh."""
    return f"{int(_checksum(jax.tree.leaves(params))):08x}"


def to_dict(tree: object) -> dict:
    """A pytree of modules and optimiser states as nested dicts of arrays by name, the form on disk."""
    nested: dict = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        *parents, last = _names(path)
        at = nested
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = leaf
    return nested


def from_dict(like: object, nested: dict) -> object:
    """The pytree of the form of `like` with the leaves of `to_dict`."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, _ in paths:
        at = nested
        for name in _names(path):
            at = at[name]
        leaves.append(at)
    return jax.tree_util.tree_unflatten(treedef, leaves)


def _names(path: tuple) -> list[str]:
    names = []
    for key in path:
        for attribute in ("name", "key", "idx"):
            if hasattr(key, attribute):
                names.append(str(getattr(key, attribute)))
                break
    return names[:-1] if names[-1] == "value" else names


def _checked(params: Transformer, expected: str) -> Transformer:
    found = fingerprint(params)
    if found != expected:
        raise ValueError(f"parameters have fingerprint {found}, the record says {expected}")
    return params


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _record(values: Mapping[str, object]) -> CheckpointMetadata:
    lora = values.get("lora")
    lora = Lora(**{**lora, "targets": tuple(lora["targets"])}) if lora else None
    return CheckpointMetadata(**{**values, "shape": ModelShape.from_dict(values["shape"]), "lora": lora})


def host_scalars(metrics: Mapping[str, jax.Array]) -> dict[str, float]:
    """Metrics as Python numbers, in one transfer."""
    return {name: float(np.asarray(value)) for name, value in jax.device_get(dict(metrics)).items()}
