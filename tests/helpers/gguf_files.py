"""Small GGUF files, written by `gguf` from models of `transformers` as llama.cpp's converter does."""

import json

import gguf
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXTS = (
    "The robot1 isn't at table12, it's at stove3 with 1024 patties.\n\n\n  Reasoning: So go on.",
    "Ångström 2026 naïve cafe\u0301 東京 x1y2   tables\t\tWE'LL don't\r\n!!! $1,234.56",
    "Action: Move robot1 from table14 to stove2\n1) Cook patty1 on stove1 \n",
)
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def vocabulary(size: int = 600) -> tuple[list[str], list[str]]:
    """Tokens and merges that were learned without any splitting, so that how a text is split decides its ids."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(CONTROL), initial_alphabet=alphabet, show_progress=False
    )
    short = [text[at : at + 12] for text in TEXTS for at in range(len(text))]
    backend.train_from_iterator(short, trainer)
    tokens = sorted(backend.get_vocab(), key=backend.get_vocab().get)
    return tokens, [" ".join(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]


def write(path, model, *, pre="qwen2", quantised=gguf.GGMLQuantizationType.F32, change=lambda fields, arrays: None):
    """Writes a model of `transformers`, whose vocabulary may be larger than that of the tokenizer.

    Args:
        path: of the file.
        model: of the Llama, Qwen2 or Qwen3 class.
        pre: name of the pre-tokenizer.
        quantised: type of the linear maps.
        change: is given the fields by name, and the tensors, to spoil them.
    """
    config = model.config
    tokens, merges = vocabulary()
    unused = [f"[PAD{i}]" for i in range(len(tokens), config.vocab_size)]
    at, rope = f"{config.model_type}.", config.rope_parameters
    fields = {
        "general.architecture": config.model_type,
        f"{at}block_count": config.num_hidden_layers,
        f"{at}context_length": config.max_position_embeddings,
        f"{at}embedding_length": config.hidden_size,
        f"{at}feed_forward_length": config.intermediate_size,
        f"{at}attention.head_count": config.num_attention_heads,
        f"{at}attention.head_count_kv": config.num_key_value_heads,
        f"{at}attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{at}rope.freq_base": float(rope["rope_theta"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*tokens, *unused],
        "tokenizer.ggml.token_type": [3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL)) + [5] * len(unused),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }
    if getattr(config, "head_dim", None):
        fields[f"{at}attention.key_length"] = config.head_dim
    arrays = _arrays(model)
    if rope["rope_type"] == "llama3":
        arrays["rope_freqs.weight"] = _factors(model, rope["rope_theta"])
    change(fields, arrays)
    _write(path, fields, arrays, quantised)
    return path


def _arrays(model) -> dict[str, np.ndarray]:
    kind = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}[model.config.model_type]
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    tied, found = model.config.tie_word_embeddings, {}
    for name, values in model.state_dict().items():
        values = values.numpy()
        if model.config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = model.config.num_attention_heads if "q_proj" in name else model.config.num_key_value_heads
            pairs = values.reshape(heads, 2, len(values) // heads // 2, -1)
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        if not (tied and name == "lm_head.weight"):
            found[names.get_name(name, (".weight", ".bias"))] = values
    return found


def _factors(model, theta) -> np.ndarray:
    """What the frequencies of a Llama 3 are divided by, from those that its own class has computed."""
    scaled = model.model.rotary_emb.inv_freq.numpy()
    plain = theta ** -(np.arange(0, 2 * len(scaled), 2) / (2 * len(scaled)))
    return (plain / scaled).astype(np.float32)


def _write(path, fields, arrays, quantised) -> None:
    writer = gguf.GGUFWriter(path, fields.pop("general.architecture"))
    add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}
    for name, value in fields.items():
        add[type(value)](name, value)
    for name, values in arrays.items():
        kind = quantised if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        if values.dtype == np.int8:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
