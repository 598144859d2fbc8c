"""The config.json of Hugging Face folders, read into a `ModelShape` and written from one."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.models.shapes import ModelShape, RopeScaling

_FAMILIES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}


def read_shape(folder: str | Path) -> ModelShape:
    """The shape of the model in a Hugging Face folder, from its config.json.

    Raises:
        UserError: there is none, or it asks for something this decoder does not do.
    """
    file = Path(folder) / "config.json"
    return parse_shape(read_json(file), str(file))


def parse_shape(values: Mapping[str, object], source: str) -> ModelShape:
    """The shape of a model from the contents of its config.json.

    Raises:
        UserError: see `read_shape`; it begins with `source`.
    """
    for reason in _unsupported(values):
        raise UserError(f"{source}: {reason}")
    try:
        width, heads = values["hidden_size"], values["num_attention_heads"]
        shape = ModelShape(
            vocab_size=values["vocab_size"],
            width=width,
            depth=values["num_hidden_layers"],
            heads=heads,
            kv_heads=values.get("num_key_value_heads") or heads,
            head_dim=values.get("head_dim") or width // heads,
            mlp_width=values["intermediate_size"],
            rope_theta=float(_rope(values).get("rope_theta") or values.get("rope_theta") or 10_000.0),
            norm_eps=values.get("rms_norm_eps", 1e-6),
            qkv_bias=values["model_type"] == "qwen2",
            tie_embeddings=values.get("tie_word_embeddings", False),
            max_position=values["max_position_embeddings"],
            qk_norm=values["model_type"] == "qwen3",
            rope_scaling=_rope_scaling(values),
        )
    except KeyError as error:
        raise UserError(f"{source} has no {error.args[0]!r}: use the config.json that came with the weights") from error
    for reason in shape.errors():
        raise UserError(f"{source}: {reason}")
    return shape


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
        **end_tokens(tokenizer),
    }


def end_tokens(tokenizer: Tokenizer) -> dict[str, object]:
    """The tokens that end and pad a text, as config.json and generation_config.json name them."""
    return {"eos_token_id": list(tokenizer.stop_ids), "pad_token_id": tokenizer.pad_id}


def read_json(file: Path) -> dict:
    """A JSON file of a folder.

    Raises:
        UserError: it is not there, or is no JSON.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist: give a Hugging Face folder with config.json and safetensors files")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}): copy it again") from error


def write_json(file: Path, values: Mapping[str, object]) -> None:
    """Writes a JSON file for people to read."""
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _unsupported(values: Mapping[str, object]) -> Iterator[str]:
    kind, rope = values.get("model_type"), _rope(values)
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in _FAMILIES:
        yield f"model_type={kind!r} is not supported: use one of {', '.join(_FAMILIES)}"
    if rope_type not in ("default", "llama3"):
        yield f"rope scaling {rope_type!r} is not supported: use a model with 'llama3' scaling or none"
    if values.get("use_sliding_window") or "sliding_attention" in (values.get("layer_types") or ()):
        yield "a sliding attention window is not supported: use a model without it (use_sliding_window=false)"
    plain = {"hidden_act": "silu", "partial_rotary_factor": 1.0, "mlp_bias": False, "quantization_config": None}
    if kind != "qwen2":
        plain["attention_bias"] = False
    for name, value in plain.items():
        if values.get(name, value) != value:
            yield f"{name}={values[name]!r} is not supported: use a model with {value!r}"


def _rope(values: Mapping[str, object]) -> Mapping[str, object]:
    """The rope section by its new name or its old one."""
    return values.get("rope_parameters") or values.get("rope_scaling") or {}


def _rope_scaling(values: Mapping[str, object]) -> RopeScaling | None:
    rope = _rope(values)
    if "llama3" not in (rope.get("rope_type"), rope.get("type")):
        return None
    original = rope.get("original_max_position_embeddings") or values["max_position_embeddings"]
    return RopeScaling(
        float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"]), int(original)
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
