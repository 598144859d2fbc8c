"""Hugging Face folders in and out: Qwen2/2.5, Qwen3 and Llama, as config.json and safetensors.

A folder is read tensor by tensor, and of each tensor only the slices that this process's devices hold, so loading
needs room for one parameter beside the model. Nothing is unpickled and no code of the folder is run.

Hugging Face keeps a linear map as [outputs, inputs] of one layer; here it is [layers, *inputs, *outputs].
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import glob
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.files import check_readable, is_leftover, read_object, remove, replacing
from stgrpo.models.finite import are_finite
from stgrpo.models.huggingface.config import FOLDER, config_json, special_tokens, write_json
from stgrpo.models.huggingface.tokenizer import save_tokenizer
from stgrpo.models.lora import layer_weight
from stgrpo.models.shapes import ModelShape, layer_specs, parameter_name, top_specs
from stgrpo.models.transformer import Transformer
from stgrpo.processes.exchange import on_host

log = logging.getLogger(__name__)
DTYPES = ("float32", "bfloat16")
SHARD_BYTES = 2 * 2**30  # of a file; a larger model is written as several
_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
_SHARD = re.compile(r"[^/\\\0]+\.safetensors")
_AGAIN = "copy the folder again, or save it again with transformers"
_ROWS = 8192  # read at one time where two tensors are compared
_PIECE = 2**22  # bytes that are made, written and summed while they are in the processor's cache
_PIECES = 4  # that wait to be looked at
_Item = TypeVar("_Item")

# Our name: theirs, and how many axes of ours are inputs of a linear map (0: the same order of axes).
_TOP = {
    "embedding": ("model.embed_tokens.weight", 0),
    "final_norm": ("model.norm.weight", 0),
    "head": ("lm_head.weight", 0),
}
_LAYER = {
    "attention_norm": ("input_layernorm.weight", 0),
    "q": ("self_attn.q_proj.weight", 1),
    "k": ("self_attn.k_proj.weight", 1),
    "v": ("self_attn.v_proj.weight", 1),
    "o": ("self_attn.o_proj.weight", 2),
    "q_bias": ("self_attn.q_proj.bias", 0),
    "k_bias": ("self_attn.k_proj.bias", 0),
    "v_bias": ("self_attn.v_proj.bias", 0),
    "q_norm": ("self_attn.q_norm.weight", 0),
    "k_norm": ("self_attn.k_norm.weight", 0),
    "mlp_norm": ("post_attention_layernorm.weight", 0),
    "gate": ("mlp.gate_proj.weight", 1),
    "up": ("mlp.up_proj.weight", 1),
    "down": ("mlp.down_proj.weight", 1),
}


class Slices(Protocol):
    """An open tensor of a file, as safetensors gives it, which reads what it is indexed with."""

    def get_shape(self) -> list[int]:
        """Of the whole."""
        ...

    def get_dtype(self) -> str:
        """In letters of its own: "F32"."""
        ...

    def __getitem__(self, index: slice | tuple[slice, ...]) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a folder and the parameter of ours that it is.

    Attributes:
        name: theirs.
        ours: name of our parameter.
        layer: its place on our leading axis; None outside the layers.
        sizes: of our axes, the leading one left out.
        inputs: how many of these are inputs of a linear map.
    """

    name: str
    ours: str
    layer: int | None
    sizes: tuple[int, ...]
    inputs: int

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """For each of their axes, those of ours that it holds, flattened."""
        axes = tuple(range(len(self.sizes)))
        if self.inputs:
            return [axes[self.inputs :], axes[: self.inputs]]
        return [axes] if self.ours.endswith("_bias") else [(axis,) for axis in axes]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of theirs."""
        return tuple(math.prod(self.sizes[axis] for axis in group) for group in self.groups)

    def read(self, source: Slices, index: tuple[slice, ...]) -> np.ndarray:
        """Our slice `index`, with start and stop for each axis, out of an open tensor; only what holds it is read."""
        ranges, sizes, inner = [], [], []
        for first, *rest in self.groups:
            stride = math.prod(self.sizes[axis] for axis in rest)
            start, stop = index[first].start, index[first].stop
            ranges.append(slice(start * stride, stop * stride))
            sizes += [stop - start, *(self.sizes[axis] for axis in rest)]
            inner += [slice(None), *(index[axis] for axis in rest)]
        block = source[tuple(ranges)].reshape(sizes)[tuple(inner)]
        return block.transpose(np.argsort(self.order))

    def write(self, values: np.ndarray) -> np.ndarray:
        """Our parameter (of one layer) in their order of axes."""
        return values.transpose(self.order).reshape(self.shape)

    @property
    def order(self) -> list[int]:
        """Our axes as theirs hold them."""
        return [axis for group in self.groups for axis in group]


def tensors(shape: ModelShape) -> list[Tensor]:
    """Every tensor of a folder with this shape, in the order of a forward pass."""
    found = []
    for ours, spec in top_specs(shape).items():
        name, inputs = _TOP[ours]
        found.append(Tensor(name, ours, None, spec.shape, inputs))
    for layer in range(shape.depth):
        for ours, spec in layer_specs(shape).items():
            name, inputs = _LAYER[ours]
            found.append(Tensor(f"model.layers.{layer}.{name}", ours, layer, spec.shape[1:], inputs))
    return found


def check_folder(folder: str | Path, shape: ModelShape) -> None:
    """Holds the weights of a Hugging Face folder to a shape, without reading them.

    Raises:
        UserError: see `load_folder`.
    """
    with contextlib.ExitStack() as stack:
        _check(Path(folder), _open(Path(folder), stack), tensors(shape), shape)


def load_folder(folder: str | Path, abstract: Transformer) -> Transformer:
    """The parameters of a Hugging Face folder, each device reading its own shard.

    Args:
        folder: with config.json and model.safetensors, or its shards and their index.
        abstract: the model as shapes with shardings; see `TrainProgram.abstract`.

    Raises:
        UserError: a tensor is missing, left over, of another shape, or has numbers that are not finite; it is named.
    """
    folder, wanted = Path(folder), tensors(abstract.shape)
    with contextlib.ExitStack() as stack:
        sources = _open(folder, stack)
        _check(folder, sources, wanted, abstract.shape)

        def load(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
            mine = [t for t in wanted if t.ours == parameter_name(path)]
            array = _load(mine, sources, leaf)
            if not are_finite(array):
                raise UserError(f"{folder}: {_broken(mine, array)} has numbers that are not finite: copy it again")
            return array

        return jax.tree_util.tree_map_with_path(load, abstract)


@dataclasses.dataclass(frozen=True)
class Weights:
    """A model whose tensors are made one at a time.

    Attributes:
        shape: of the model.
        read: gives the values of one of its `tensors` in a dtype, in their order of axes.
    """

    shape: ModelShape
    read: Callable[[Tensor, jnp.dtype], np.ndarray]


def save_folder(
    params: Transformer, tokenizer: Tokenizer, folder: str | Path, *, dtype: str = "float32", shard: int = SHARD_BYTES
) -> None:
    """Writes a model as a folder that `transformers` and vLLM load; see `write_folder`."""
    weights = Weights(params.shape, functools.partial(_fetch, params))
    write_folder(weights, tokenizer, folder, dtype=dtype, shard=shard)


def write_folder(
    weights: Weights, tokenizer: Tokenizer, folder: str | Path, *, dtype: str = "float32", shard: int = SHARD_BYTES
) -> None:
    """Writes a folder that `transformers` and vLLM load; it appears only when it is whole.

    Args:
        weights: of the model.
        tokenizer: its files go beside the weights, its stop tokens into the configuration.
        folder: must not exist, or be empty.
        dtype: of the weights; "float32" loses nothing, "bfloat16" is half the size.
        shard: bytes a file; every tensor is in one file.

    Raises:
        UserError: the folder holds something.
        RunError: the disk does not take it.
    """
    folder = Path(folder).resolve()  # a link to a folder stays one
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: give a new one")
    for path in folder.parent.glob(f"{glob.escape(folder.name)}.*.part"):  # of an export that was killed
        if is_leftover(path):
            remove(path)
    with replacing(folder) as unfinished:
        unfinished.mkdir()
        _write(weights, unfinished, jnp.dtype(dtype), shard)
        save_description(weights.shape, tokenizer, unfinished, dtype=dtype)


def _write(weights: Weights, folder: Path, dtype: jnp.dtype, shard: int) -> None:
    from safetensors.numpy import save_file

    files = list(_shards(tensors(weights.shape), dtype.itemsize, shard))
    names = (
        [_WHOLE] if len(files) == 1 else [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))]
    )
    for name, part in zip(names, files, strict=True):
        arrays = {t.name: weights.read(t, dtype) for t in part}
        save_file(arrays, folder / name, metadata={"format": "pt"})
    if len(files) > 1:
        where = {t.name: name for name, part in zip(names, files, strict=True) for t in part}
        size = sum(math.prod(t.shape) for part in files for t in part) * dtype.itemsize
        write_json(folder / _INDEX, {"metadata": {"total_size": size}, "weight_map": where})


def save_description(shape: ModelShape, tokenizer: Tokenizer, folder: Path, *, dtype: str) -> None:
    """Writes all of a folder but the weights: enough for a server that gets these later."""
    write_json(folder / "config.json", config_json(shape, tokenizer, dtype))
    write_json(folder / "generation_config.json", special_tokens(tokenizer))
    save_tokenizer(tokenizer, folder)


def named_arrays(params: Transformer, dtype: str = "float32") -> Iterator[tuple[str, jax.Array]]:
    """Every tensor under its Hugging Face name, in the order of `tensors`, one at a time.

    Cast and reordered where the parameters lie, one tensor ahead of the one that is looked at. What is too
    small for a normal number is 0, and no zero is negative: what a kernel makes of a weight of -0.0 has the other sign,
    which would look like another weight.
    """

    def made() -> Iterator[tuple[str, jax.Array]]:
        for tensor in tensors(params.shape):
            array = _theirs(params, tensor, dtype)
            yield tensor.name, array if isinstance(array, jax.Array) else _copied(array)

    return _ahead(made(), 1)


def named_pieces(params: Transformer, dtype: str = "float32") -> Iterator[tuple[str, np.ndarray]]:
    """The same on the host, each tensor as runs of its rows: contiguous, and about as much as a cache holds.

    All but the last piece of a tensor are a multiple of eight bytes. Two threads share the work: one makes pieces while
    the other one looks at them.
    """
    return _ahead(((t.name, piece) for t in tensors(params.shape) for piece in _pieces(params, t, dtype)), _PIECES)


def _pieces(params: Transformer, tensor: Tensor, dtype: str) -> Iterator[np.ndarray]:
    array = np.asarray(_theirs(params, tensor, dtype))  # is freed before the next one is made, which takes its place
    rows = max(1, _PIECE * len(array) // array.nbytes // 8) * 8
    for at in range(0, len(array), rows):
        piece = array[at : at + rows]
        yield piece if piece.flags.c_contiguous else np.asarray(_copied(piece))


def _ahead(items: Iterator[_Item], count: int) -> Iterator[_Item]:
    """The same; a thread makes so many of them beyond the one that is looked at."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        coming = collections.deque(thread.submit(next, items, None) for _ in range(count))
        while (item := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, items, None))
            yield item


def _theirs(params: Transformer, tensor: Tensor, dtype: str) -> jax.Array | np.ndarray:
    """A tensor in their order of axes: on a CPU only a view that reads it so, elsewhere on the device."""
    values = _cast(params, None if tensor.layer is None else np.int32(tensor.layer), tensor.ours, dtype=dtype)
    if not values.is_fully_addressable:
        return tensor.write(on_host(values))
    on_cpu = next(iter(values.devices())).platform == "cpu"
    return tensor.write(np.asarray(values) if on_cpu else values)


def _copied(view: np.ndarray) -> jax.Array:
    """A view in the order in which it reads.

    JAX goes through a strided array in blocks; NumPy and a transposition that XLA compiles for a CPU go column by
    column, which takes three to ten times as long.
    """
    return jax.device_put(view, jax.local_devices(backend="cpu")[0])


@functools.partial(jax.jit, static_argnames=("ours", "dtype"))
def _cast(params: Transformer, layer: np.int32 | None, ours: str, *, dtype: str) -> jax.Array:
    values = _values(params, layer, ours)
    too_small = jnp.abs(values) < jnp.finfo(jnp.float32).tiny
    return jnp.where(too_small, 0, values).astype(dtype)


def _values(params: Transformer, layer: int | np.int32 | None, ours: str) -> jax.Array:
    """One parameter, of one layer where it is stacked, with its adapter added."""
    return getattr(params, ours)[...] if layer is None else layer_weight(params.layers, ours, layer)


def _open(folder: Path, stack: contextlib.ExitStack) -> dict[str, Slices]:
    """Every tensor of a folder by name, unread."""
    found: dict[str, Slices] = {}
    for name in _files(folder):
        for key, source in _tensors_of(folder / name, stack).items():
            if key in found:
                raise UserError(f"{folder / name} holds {key}, which another file of the folder holds too: {_AGAIN}")
            found[key] = source
    # Tables that very old Llama folders carry; they follow from rope_theta.
    return {key: source for key, source in found.items() if not key.endswith("rotary_emb.inv_freq")}


def _files(folder: Path) -> list[str]:
    """The names of the files with the weights: the whole one if there is one, as transformers has it, else shards."""
    index = folder / _INDEX
    if not index.is_file():
        return [_WHOLE]
    if (folder / _WHOLE).is_file():
        log.warning("%s is read, as transformers does; the shards of %s beside it are not", folder / _WHOLE, index.name)
        return [_WHOLE]
    names = read_object(index, FOLDER).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(f"{index} has no weight_map, a JSON object of tensors and their files: {_AGAIN}")
    for name in names.values():
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise UserError(f"{index} names {name!r}: every file must be a .safetensors in the folder itself")
    return sorted(set(names.values()))


def _tensors_of(file: Path, stack: contextlib.ExitStack) -> dict[str, Slices]:
    from safetensors import SafetensorError, safe_open

    check_readable(
        file, "give a folder with all of its safetensors files (other formats: convert them with transformers)"
    )
    try:
        opened = stack.enter_context(safe_open(file, "numpy"))
        return {key: opened.get_slice(key) for key in opened.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): copy it again") from error


def _check(folder: Path, sources: Mapping[str, Slices], wanted: list[Tensor], shape: ModelShape) -> None:
    known = {t.name: t for t in wanted}
    for name, tensor in known.items():
        if name not in sources:
            raise UserError(f"{folder} lacks the tensor {name}: use the config.json that belongs to these weights")
        found = tuple(sources[name].get_shape())
        if found != tensor.shape:
            raise UserError(f"{folder}: {name} has shape {found}, config.json asks for {tensor.shape}")
        if sources[name].get_dtype() not in ("F32", "BF16", "F16"):
            raise UserError(
                f"{folder}: {name} is {sources[name].get_dtype()}: use float32, bfloat16 or float16 weights"
            )
    for name in sorted(sources.keys() - known.keys()):
        if name == _TOP["head"][0] and _equal(sources[name], sources[_TOP["embedding"][0]]):
            continue  # some folders hold a tied head twice
        raise UserError(f"{folder} holds the tensor {name}, which a model of this config.json does not have")


def _equal(a: Slices, b: Slices) -> bool:
    if a.get_shape() != b.get_shape():
        return False
    rows = a.get_shape()[0]
    parts = (slice(i, min(i + _ROWS, rows)) for i in range(0, rows, _ROWS))
    return all(np.array_equal(a[part], b[part]) for part in parts)


def _load(mine: list[Tensor], sources: Mapping[str, Slices], leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """One parameter of ours, stacked over layers where there are any."""
    known: dict[tuple, np.ndarray] = {}  # replicas of a shard share one copy

    def read(index: tuple[slice, ...] | None) -> np.ndarray:
        whole = (slice(None),) * len(leaf.shape)
        key = tuple(s.indices(n)[:2] for s, n in zip(index or whole, leaf.shape, strict=True))
        if key not in known:
            slices = tuple(slice(*bounds) for bounds in key)
            stacked = mine[0].layer is not None
            layers = mine[slices[0]] if stacked else mine
            shard = np.empty([stop - start for start, stop in key], leaf.dtype)
            rows = shard if stacked else shard[None]
            for row, tensor in zip(rows, layers, strict=True):
                row[...] = tensor.read(sources[tensor.name], slices[stacked:])
            known[key] = shard
        return known[key]

    array = jax.make_array_from_callback(leaf.shape, leaf.sharding, read)
    jax.block_until_ready(array)
    known.clear()  # what holds the callback inside JAX lives until the next garbage collection
    return array


def _broken(mine: list[Tensor], array: jax.Array) -> str:
    """The name of the first tensor, of those that an array was made from, that is not finite."""
    if mine[0].layer is None:
        return mine[0].name
    return next(t.name for t in mine if not are_finite(array[t.layer]))


def _fetch(params: Transformer, tensor: Tensor, dtype: jnp.dtype) -> np.ndarray:
    return np.asarray(_copied(tensor.write(np.asarray(_values(params, tensor.layer, tensor.ours)).astype(dtype))))


def _shards(wanted: list[Tensor], itemsize: int, limit: int) -> Iterator[list[Tensor]]:
    part, size = [], 0
    for tensor in wanted:
        needed = math.prod(tensor.shape) * itemsize
        if part and size + needed > limit:
            yield part
            part, size = [], 0
        part.append(tensor)
        size += needed
    yield part
