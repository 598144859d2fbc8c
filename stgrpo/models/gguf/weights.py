"""The shape and the tensors of a GGUF file, as those of a Hugging Face folder."""

import dataclasses
import functools
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from stgrpo.errors import UserError
from stgrpo.models.attention.xla import rotary_frequencies
from stgrpo.models.gguf.file import AGAIN, GgufFile
from stgrpo.models.huggingface.config import parse_shape
from stgrpo.models.huggingface.weights import Tensor, Weights, tensors
from stgrpo.models.shapes import ModelShape, RopeScaling

FAMILIES = ("llama", "qwen2", "qwen3")  # alike in GGUF and in config.json
_EMBEDDING, _HEAD, _ROPE_FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"
_SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}


def read_weights(file: GgufFile) -> Weights:
    """The shape of the model in a file, and its tensors, each dequantised when it is asked for.

    Raises:
        UserError: this decoder does not do what the file asks for, or a tensor is missing, left over or of another
            shape.
    """
    family = file.need("general.architecture", str)
    if family not in FAMILIES:
        raise UserError(
            f"{file.source}: the architecture {family!r} is not supported: use one of {', '.join(FAMILIES)}"
        )
    file.check_types()
    shape = _shape(file, family)
    names = _names(shape, family)
    _check(file, shape, names)
    turned = {"q": shape.heads, "k": shape.kv_heads} if family == "llama" else {}
    return Weights(shape, functools.partial(_read, file, names, turned))


def _shape(file: GgufFile, family: str) -> ModelShape:
    known = {theirs: file.get(f"{family}.{ours}") for theirs, ours in _SIZES.items()}
    values = {name: value for name, value in known.items() if value is not None} | {
        "model_type": family,
        "vocab_size": int(file.tensors[_EMBEDDING].shape[-1]) if _EMBEDDING in file.tensors else None,
        "tie_word_embeddings": _HEAD not in file.tensors,
        "use_sliding_window": bool(file.get(f"{family}.attention.sliding_window")),
        "rope_scaling": {"rope_type": file.get(f"{family}.rope.scaling.type") or "none"},
    }
    if values["rope_scaling"] == {"rope_type": "none"}:
        del values["rope_scaling"]
    shape = parse_shape(values, file.source, AGAIN)
    turned = file.get(f"{family}.rope.dimension_count")
    if turned not in (None, shape.head_dim):
        raise UserError(
            f"{file.source}: rotary positions of {turned} of {shape.head_dim} values a head are not supported: "
            "use a model that turns all of them"
        )
    return dataclasses.replace(shape, rope_scaling=_rope_scaling(file, shape))


def _rope_scaling(file: GgufFile, shape: ModelShape) -> RopeScaling | None:
    """The scaling of Llama 3.1 and later, of which a file keeps what each frequency is divided by.

    All published models have the same but for the factor, which is the largest of these.
    """
    if _ROPE_FACTORS not in file.tensors:
        return None
    factors = file.array(_ROPE_FACTORS)
    scaling = RopeScaling(float(factors.max()), low=1.0, high=4.0, original_position=8192)
    scaled = rotary_frequencies(dataclasses.replace(shape, rope_scaling=scaling))
    expected = rotary_frequencies(shape) / scaled
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-4):
        raise UserError(f"{file.source}: {_ROPE_FACTORS} is not the scaling of Llama 3: use a model with that or none")
    return scaling


def _names(shape: ModelShape, family: str) -> Mapping[str, str]:
    """The name in GGUF of every tensor of a folder, by its name there."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    (kind,) = (kind for kind in MODEL_ARCH if MODEL_ARCH_NAMES[kind] == family)
    known = get_tensor_name_map(kind, shape.depth)
    return {t.name: known.get_name(t.name, (".weight", ".bias")) or t.name for t in tensors(shape)}


def _check(file: GgufFile, shape: ModelShape, names: Mapping[str, str]) -> None:
    for tensor in tensors(shape):
        name = names[tensor.name]
        if name not in file.tensors:
            raise UserError(f"{file.source} lacks the tensor {name}: {AGAIN}")
        found = tuple(int(size) for size in reversed(file.tensors[name].shape))
        if found != tensor.shape:
            raise UserError(f"{file.source}: {name} has shape {found}, its sizes ask for {tensor.shape}: {AGAIN}")
    for name in sorted(file.tensors.keys() - set(names.values()) - {_ROPE_FACTORS}):
        raise UserError(
            f"{file.source} holds the tensor {name}, which this decoder has no place for: use another model"
        )


def _read(
    file: GgufFile, names: Mapping[str, str], turned: Mapping[str, int], tensor: Tensor, dtype: jnp.dtype
) -> np.ndarray:
    values = file.array(names[tensor.name])
    if tensor.ours in turned:
        values = _halves(values, turned[tensor.ours])
    return np.ascontiguousarray(values, dtype=dtype)


def _halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows [heads * head size, ...] of a query or key map in the order of Hugging Face.

    Rotary positions turn pairs of values: llama.cpp keeps a pair's two beside each other, Hugging Face the first of all
    pairs and then the second of all.
    """
    pairs = weight.reshape(heads, -1, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape)
