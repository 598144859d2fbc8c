"""The config.json of Hugging Face folders, read into a `ModelShape` and written from one."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from stgrpo.data.tokenizer import MOST_TOKENS, Tokenizer
from stgrpo.errors import UserError
from stgrpo.files import read_object, refuse_gguf, to_json
from stgrpo.models.shapes import ModelShape, RopeScaling

_FAMILIES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
FOLDER = "give a Hugging Face folder with config.json and safetensors files"
_NULLS = (
    "num_key_value_heads",
    "head_dim",
    "rope_theta",
    "original_max_position_embeddings",
)  # null: follows from others
_OWN = "use the config.json that came with the weights"


def read_shape(folder: str | Path) -> ModelShape:
    """The shape of the model in a Hugging Face folder, from its config.json.

    Raises:
        UserError: there is none, or it asks for something this decoder does not do.
    """
    refuse_gguf(Path(folder))
    file = Path(folder) / "config.json"
    return parse_shape(read_object(file, FOLDER), str(file))


def parse_shape(values: Mapping[str, object], source: str, fix: str = _OWN) -> ModelShape:
    """The shape of a model from the contents of its config.json.

    What transformers has defaults for may be left out. The dtype and the class that are named there do not count: the
    tensors say their own dtype, and `model_type` the family.

    Args:
        values: of config.json.
        source: what an error begins with.
        fix: what an error on a value that cannot be ends with.

    Raises:
        UserError: see `read_shape`.
    """
    for reason in _unsupported(values):
        raise UserError(f"{source}: {reason}")
    given, rope = Values(values, source, fix), Values(_rope(values), source, fix)
    width, heads = given.size("hidden_size", 2**17), given.size("num_attention_heads", 2**12)
    if width % heads and values.get("head_dim") is None:
        raise UserError(f"{source}: hidden_size={width} is not a multiple of num_attention_heads={heads}: {fix}")
    shape = ModelShape(
        vocab_size=given.size("vocab_size", MOST_TOKENS),
        width=width,
        depth=given.size("num_hidden_layers", 2**10),
        heads=heads,
        kv_heads=given.size("num_key_value_heads", 2**12, heads),
        head_dim=given.size("head_dim", 2**12, width // heads),
        mlp_width=given.size("intermediate_size", 2**20),
        rope_theta=rope.number("rope_theta", 1e15, given.number("rope_theta", 1e15, 10_000.0)),
        norm_eps=given.number("rms_norm_eps", 1.0, 1e-6),
        qkv_bias=values["model_type"] == "qwen2",
        tie_embeddings=given.switch("tie_word_embeddings", default=False),
        max_position=given.size("max_position_embeddings", 2**31 - 1),
        qk_norm=values["model_type"] == "qwen3",
        rope_scaling=_rope_scaling(values, rope),
    )
    for reason in shape.errors():
        raise UserError(f"{source}: {reason}")
    return shape


@dataclasses.dataclass(frozen=True)
class Values:
    """The values of a file from elsewhere, each held to what it must be.

    Attributes:
        found: by name.
        source: what an error begins with.
        fix: what it ends with.
    """

    found: Mapping[str, object]
    source: str
    fix: str = _OWN

    def size(self, name: str, most: int, default: int | None = None) -> int:
        """A whole number from 1 on."""
        value = self._get(name, default)
        if type(value) is not int or not 1 <= value <= most:
            raise UserError(f"{self.source}: {name}={_shown(value)} is no whole number from 1 to {most}: {self.fix}")
        return value

    def number(self, name: str, most: float, default: float | None = None) -> float:
        """A number above 0 and below `most`."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < most:
            raise UserError(
                f"{self.source}: {name}={_shown(value)} is no number above 0 and below {most:g}: {self.fix}"
            )
        return float(value)

    def switch(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if type(value) is not bool:
            raise UserError(f"{self.source}: {name}={_shown(value)} is neither true nor false: {self.fix}")
        return value

    def _get(self, name: str, default: object) -> object:
        value = self.found.get(name)
        if value is None and default is None:
            raise UserError(f"{self.source} has no {name!r}: {self.fix}")
        left_out = name not in self.found or (value is None and name in _NULLS)
        return default if left_out else value


def config_json(shape: ModelShape, tokenizer: Tokenizer, dtype: str) -> dict[str, object]:
    """What config.json says of a model of this shape."""
    c, kind = shape, "qwen2" if shape.qkv_bias else "qwen3" if shape.qk_norm else "llama"
    extra = {
        "qwen2": {"use_sliding_window": False},
        "qwen3": {"use_sliding_window": False, "attention_bias": False},
        "llama": {"attention_bias": False, "mlp_bias": False},
    }[kind]
    return {
        "architectures": [_FAMILIES[kind]],
        "model_type": kind,
        "vocab_size": c.vocab_size,
        "hidden_size": c.width,
        "intermediate_size": c.mlp_width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "max_position_embeddings": c.max_position,
        "rms_norm_eps": c.norm_eps,
        **_rope_config(c),
        "tie_word_embeddings": c.tie_embeddings,
        "torch_dtype": dtype,
        "use_cache": True,
        **extra,
        **special_tokens(tokenizer),
    }


def special_tokens(tokenizer: Tokenizer) -> dict[str, object]:
    """The tokens that begin, end and pad a text, as config.json and generation_config.json name them."""
    ids: dict[str, object] = {"eos_token_id": list(tokenizer.stop_ids), "pad_token_id": tokenizer.pad_id}
    first = tokenizer.base.bos_token_id
    return ids if first is None else {"bos_token_id": first, **ids}


def check_end_tokens(folder: str | Path, tokenizer: Tokenizer) -> None:
    """Looks at the ids that a folder says end a text; what ends a turn is what the chat template writes.

    Raises:
        UserError: one of them is no special token of the tokenizer, so that a server would stop anywhere or never.
    """
    special = tokenizer.base.added_tokens_decoder
    for name in ("config.json", "generation_config.json"):
        file = Path(folder) / name
        given = read_object(file, FOLDER).get("eos_token_id") if file.exists() else None
        for token in given if isinstance(given, list) else [] if given is None else [given]:
            if type(token) is not int or token not in special:
                end = tokenizer.end_of_turn_id
                raise UserError(
                    f"{file}: eos_token_id={_shown(token)} is no special token of the tokenizer, whose chat template "
                    f"ends a turn with {end} ({special[end]}): set it to {end}"
                )


def write_json(file: Path, values: Mapping[str, object]) -> None:
    """Writes a JSON file for people to read."""
    file.write_text(to_json(values, indent=2) + "\n", encoding="utf-8")


def _unsupported(values: Mapping[str, object]) -> Iterator[str]:
    kind, layers = values.get("model_type"), values.get("layer_types")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        yield f"model_type={_shown(kind)} is not supported: use one of {', '.join(_FAMILIES)}"
    yield from _unsupported_rope(values)
    if not isinstance(layers, list | None) or any(layer != "full_attention" for layer in layers or ()):
        yield f"layer_types={_shown(layers)} is not supported: use a model with full attention in all layers"
    if values.get("use_sliding_window"):
        yield "a sliding attention window is not supported: use a model without it (use_sliding_window=false)"
    plain = {"hidden_act": "silu", "partial_rotary_factor": 1.0, "mlp_bias": False, "quantization_config": None}
    if kind != "qwen2":
        plain["attention_bias"] = False
    for name, value in plain.items():
        if values.get(name, value) not in (value, None):
            yield f"{name}={_shown(values[name])} is not supported: use a model with {value!r}"


def _unsupported_rope(values: Mapping[str, object]) -> Iterator[str]:
    for name in ("rope_scaling", "rope_parameters"):
        if not isinstance(values.get(name), dict | None):
            yield f"{name}={_shown(values[name])} is no JSON object: {_OWN}"
            return
    rope = _rope(values)
    if any(isinstance(value, dict | list) for value in rope.values()):
        yield f"rope parameters that differ by layer ({_shown(rope)}) are not supported: use a model with one kind"
    elif _rope_type(rope) not in ("default", "llama3"):
        yield f"rope scaling {_shown(_rope_type(rope))} is not supported: use a model with 'llama3' scaling or none"
    elif rope.get("partial_rotary_factor") not in (None, 1):
        yield f"partial_rotary_factor={_shown(rope['partial_rotary_factor'])} is not supported: use a model with 1.0"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _rope(values: Mapping[str, object]) -> Mapping[str, object]:
    """The rope section by its old name or its new one; the old one counts, as it does for transformers."""
    rope = values.get("rope_scaling") or values.get("rope_parameters")
    return rope if isinstance(rope, Mapping) else {}


def _rope_type(rope: Mapping[str, object]) -> object:
    return rope.get("rope_type") or rope.get("type") or "default"


def _rope_scaling(values: Mapping[str, object], rope: Values) -> RopeScaling | None:
    if _rope_type(rope.found) != "llama3":
        return None
    return RopeScaling(
        factor=rope.number("factor", 1e6),
        low=rope.number("low_freq_factor", 1e6),
        high=rope.number("high_freq_factor", 1e6),
        original_position=rope.size(
            "original_max_position_embeddings",
            2**31 - 1,
            Values(values, rope.source, rope.fix).size("max_position_embeddings", 2**31 - 1),
        ),
    )


def _rope_config(shape: ModelShape) -> dict[str, object]:
    """Both spellings: `rope_theta` and `rope_scaling` for transformers 4 and vLLM, `rope_parameters` for the fifth."""
    if shape.rope_scaling is None:
        kind = {"rope_type": "default"}
    else:
        factor, low, high, original = dataclasses.astuple(shape.rope_scaling)
        kind = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        }
    old = {"rope_scaling": kind} if shape.rope_scaling else {}
    return {"rope_theta": shape.rope_theta, **old, "rope_parameters": {**kind, "rope_theta": shape.rope_theta}}
