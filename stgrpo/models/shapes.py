"""The sizes of a decoder, and every one of its parameters declared once: shape, logical axes, initialiser.

Abstract shapes, shardings, initial values and the Hugging Face names are all derived from these tables.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from stgrpo.models.random import truncated_normal


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How Llama 3.1 and later stretch rotary positions beyond the length they were first trained on.

    Frequencies whose wavelength is over `original_position / low` are divided by `factor`, those under
    `original_position / high` stay, and between the two the division sets in linearly in the inverse wavelength
    (arXiv 2407.21783; `rope_type` "llama3" of Hugging Face).
    """

    factor: float
    low: float
    high: float
    original_position: int


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """The architecture of a decoder with grouped-query attention, RMSNorm and SwiGLU.

    With `qkv_bias` it is Qwen2/2.5 (arXiv 2412.15115), with `qk_norm` Qwen3 (arXiv 2505.09388), with neither Llama 2/3
    (arXiv 2407.21783; from 3.1 on with `rope_scaling`).

    A published vocabulary is often padded: Qwen2.5 has 151,936 rows for 151,665 tokens. The rows beyond `tokens` mean
    nothing: they are carried along unchanged, and have probability 0 in sampling and in training. 0: all have a token.
    """

    vocab_size: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    rope_theta: float = 1_000_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    tie_embeddings: bool = True
    max_position: int = 32_768
    qk_norm: bool = False
    rope_scaling: RopeScaling | None = None
    tokens: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelShape":
        """The shape that `dataclasses.asdict` gave these values, be it read back from JSON."""
        fields, scaling = dict(values), values.get("rope_scaling")
        fields["rope_scaling"] = RopeScaling(**scaling) if scaling else None
        return cls(**fields)

    @property
    def real_vocab(self) -> int:
        """Ids below this have a token."""
        return self.tokens or self.vocab_size

    def with_tokens(self, count: int) -> "ModelShape":
        """The same for a tokenizer whose ids are below `count`; 0 where it is not known."""
        return dataclasses.replace(self, tokens=count if 0 < count < self.vocab_size else 0)

    def errors(self) -> list[str]:
        """What is wrong with these sizes, one line each; empty when nothing is."""
        found = []
        if self.heads % self.kv_heads:
            found.append(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}: use a divisor of heads")
        if self.head_dim % 2:
            found.append(f"head_dim={self.head_dim} is odd, rotary positions need pairs: use {self.head_dim + 1}")
        if self.qkv_bias and self.qk_norm:
            found.append("qkv_bias and qk_norm are of two families, Qwen2 and Qwen3: use one of them")
        sizes = ("vocab_size", "width", "depth", "heads", "kv_heads", "head_dim", "mlp_width", "max_position")
        found += [f"{name}={getattr(self, name)} must be at least 1" for name in sizes if getattr(self, name) < 1]
        return found

    def parameter_count(self) -> int:
        """Number of parameters, a tied head counted once."""
        specs = {**top_specs(self), **{f"layers.{k}": v for k, v in layer_specs(self).items()}}
        return sum(spec.size for spec in specs.values())


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """One parameter: its shape, the logical name of each axis, and how it starts.

    `fan_in` is the number of inputs summed into one output; 0 stands for a constant start.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    fan_in: int = 0
    constant: float = 0.0

    @property
    def size(self) -> int:
        """Number of its values."""
        return math.prod(self.shape)

    def initial(self, key: jax.Array) -> jax.Array:
        """A float32 start: a normal cut off at two standard deviations, with variance 1 / fan_in; or the constant."""
        if not self.fan_in:
            return jnp.full(self.shape, self.constant, jnp.float32)
        return truncated_normal(key, self.shape) * self.fan_in**-0.5


def layer_specs(shape: ModelShape) -> Mapping[str, ParameterSpec]:
    """The parameters of all layers, stacked on a leading axis of length L."""
    c = shape
    specs = {
        "attention_norm": ParameterSpec((c.width,), ("norm",), constant=1.0),
        "q": ParameterSpec((c.width, c.heads, c.head_dim), ("embed", "heads", "head_dim"), c.width),
        "k": ParameterSpec((c.width, c.kv_heads, c.head_dim), ("embed", "kv_heads", "head_dim"), c.width),
        "v": ParameterSpec((c.width, c.kv_heads, c.head_dim), ("embed", "kv_heads", "head_dim"), c.width),
        "o": ParameterSpec((c.heads, c.head_dim, c.width), ("heads", "head_dim", "embed"), c.heads * c.head_dim),
        "mlp_norm": ParameterSpec((c.width,), ("norm",), constant=1.0),
        "gate": ParameterSpec((c.width, c.mlp_width), ("embed", "mlp"), c.width),
        "up": ParameterSpec((c.width, c.mlp_width), ("embed", "mlp"), c.width),
        "down": ParameterSpec((c.mlp_width, c.width), ("mlp", "embed"), c.mlp_width),
    }
    if c.qkv_bias:
        specs |= {
            "q_bias": ParameterSpec((c.heads, c.head_dim), ("heads", "head_dim")),
            "k_bias": ParameterSpec((c.kv_heads, c.head_dim), ("kv_heads", "head_dim")),
            "v_bias": ParameterSpec((c.kv_heads, c.head_dim), ("kv_heads", "head_dim")),
        }
    if c.qk_norm:
        specs |= {
            "q_norm": ParameterSpec((c.head_dim,), ("head_dim",), constant=1.0),
            "k_norm": ParameterSpec((c.head_dim,), ("head_dim",), constant=1.0),
        }
    return {
        name: dataclasses.replace(spec, shape=(c.depth, *spec.shape), axes=("layers", *spec.axes))
        for name, spec in specs.items()
    }


TABLE_AXES = ("vocab", "embed")  # of the embedding and of the head


# The linear maps of a layer, and how many axes of each are inputs.
def parameter_name(path: Sequence[object]) -> str:
    """Of the parameter that a leaf is, or is kept for, by its path in a tree: the last name on it but NNX's "value"."""
    names = (str(getattr(key, "name", getattr(key, "key", ""))) for key in reversed(path))
    return next(name for name in names if name != "value")


LINEAR = {"q": 1, "k": 1, "v": 1, "o": 2, "gate": 1, "up": 1, "down": 1}


def adapter_specs(shape: ModelShape, rank: int, targets: Iterable[str] = LINEAR) -> Mapping[str, ParameterSpec]:
    """The low-rank pair of each target in all layers: NAME_a [L, inputs, rank] and NAME_b [L, rank, outputs]."""
    specs, layers = {}, layer_specs(shape)
    for name in targets:
        whole, cut = layers[name], 1 + LINEAR[name]
        inputs, outputs = whole.axes[1:cut], whole.axes[cut:]
        a_axes, b_axes = ("layers", *inputs, _rank_axis(inputs)), ("layers", _rank_axis(outputs), *outputs)
        specs[f"{name}_a"] = ParameterSpec((*whole.shape[:cut], rank), a_axes, whole.fan_in)
        specs[f"{name}_b"] = ParameterSpec((whole.shape[0], rank, *whole.shape[cut:]), b_axes)
    return specs


def _rank_axis(others: tuple[str, ...]) -> str:
    """The rank is cut as the width would be, in the half of a pair that does not have the width."""
    return "rank" if "embed" in others else "rank_for_embed"


def top_specs(shape: ModelShape) -> Mapping[str, ParameterSpec]:
    """The parameters outside the layers."""
    specs = {
        "embedding": ParameterSpec((shape.vocab_size, shape.width), TABLE_AXES, shape.width),
        "final_norm": ParameterSpec((shape.width,), ("norm",), constant=1.0),
    }
    if not shape.tie_embeddings:
        specs["head"] = ParameterSpec((shape.vocab_size, shape.width), TABLE_AXES, shape.width)
    return specs


_QWEN2_5 = {
    # name: width, depth, heads, kv_heads, mlp_width, vocab_size, tied
    "qwen2.5-0.5b": (896, 24, 14, 2, 4864, 151_936, True),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 8960, 151_936, True),
    "qwen2.5-3b": (2048, 36, 16, 2, 11_008, 151_936, True),
    "qwen2.5-7b": (3584, 28, 28, 4, 18_944, 152_064, False),
    "qwen2.5-14b": (5120, 48, 40, 8, 13_824, 152_064, False),
    "qwen2.5-32b": (5120, 64, 40, 8, 27_648, 152_064, False),
    "qwen2.5-72b": (8192, 80, 64, 8, 29_568, 152_064, False),
}
_QWEN3 = {
    # name: width, depth, heads, mlp_width, tied; 8 key heads, heads of 128
    "qwen3-0.6b": (1024, 28, 16, 3072, True),
    "qwen3-1.7b": (2048, 28, 16, 6144, True),
    "qwen3-4b": (2560, 36, 32, 9728, True),
    "qwen3-8b": (4096, 36, 32, 12_288, False),
    "qwen3-14b": (5120, 40, 40, 17_408, False),
    "qwen3-32b": (5120, 64, 64, 25_600, False),
}
_LLAMA3 = {
    # name: width, depth, heads, head_dim, mlp_width, tied, factor of the rope (0: as trained); 8 key heads
    "llama3-8b": (4096, 32, 32, 128, 14_336, False, 0.0),
    "llama3.2-1b": (2048, 16, 32, 64, 8192, True, 32.0),
    "llama3.2-3b": (3072, 28, 24, 128, 8192, True, 32.0),
    "llama3.1-8b": (4096, 32, 32, 128, 14_336, False, 8.0),
    "llama3.3-70b": (8192, 80, 64, 128, 28_672, False, 8.0),
}

_SMOLLM2_135M = ModelShape(
    *(49_152, 576, 30, 9, 3, 64, 1536),
    rope_theta=100_000.0,
    norm_eps=1e-5,
    qkv_bias=False,
    max_position=8192,
)


def named_shapes() -> dict[str, ModelShape]:
    """The Qwen2.5, Qwen3 (dense) and Llama 3 families as published, and a model that a CPU can train, by name."""
    qwen2_5 = {name: _qwen2_5(*sizes) for name, sizes in _QWEN2_5.items()}
    qwen3 = {name: _qwen3(*sizes) for name, sizes in _QWEN3.items()}
    llama3 = {name: _llama3(*sizes) for name, sizes in _LLAMA3.items()}
    return qwen2_5 | qwen3 | llama3 | {"smollm2-135m": _SMOLLM2_135M}


def _qwen2_5(
    width: int, depth: int, heads: int, kv_heads: int, mlp_width: int, vocab_size: int, tied: bool
) -> ModelShape:
    eps = 1e-6 if width != 5120 and width != 8192 else 1e-5
    sizes = (vocab_size, width, depth, heads, kv_heads, width // heads, mlp_width)
    return ModelShape(*sizes, norm_eps=eps, tie_embeddings=tied)


def _qwen3(width: int, depth: int, heads: int, mlp_width: int, tied: bool) -> ModelShape:
    sizes = (151_936, width, depth, heads, 8, 128, mlp_width)
    return ModelShape(*sizes, qkv_bias=False, qk_norm=True, tie_embeddings=tied, max_position=40_960)


def _llama3(width: int, depth: int, heads: int, head_dim: int, mlp_width: int, tied: bool, factor: float) -> ModelShape:
    scaling = RopeScaling(factor, low=1.0, high=4.0, original_position=8192) if factor else None
    return ModelShape(
        *(128_256, width, depth, heads, 8, head_dim, mlp_width),
        rope_theta=500_000.0,
        norm_eps=1e-5,
        qkv_bias=False,
        tie_embeddings=tied,
        max_position=131_072 if scaling else 8192,
        rope_scaling=scaling,
    )
