"""Folders from elsewhere that are not whole: each is read as transformers reads it, or refused in one line."""

import json
import pathlib
import resource
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from stgrpo.data.tokenizer import CHAT_TEMPLATE, Tokenizer, train_tokenizer
from stgrpo.errors import RunError, UserError
from stgrpo.files import check_readable, read_object
from stgrpo.models.huggingface.config import check_end_tokens, config_json, read_shape
from stgrpo.models.huggingface.weights import check_folder, load_folder, save_folder
from stgrpo.models.sharding import make_mesh
from stgrpo.training.start import abstract_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_tokenizer(["table1 is empty. Move robot1"] * 4, vocab_size=300))


@pytest.fixture(scope="module")
def saved(make_model, tiny_shape, tokenizer, tmp_path_factory):
    """A whole folder and one in shards of the same model."""
    import dataclasses

    shape = dataclasses.replace(tiny_shape, vocab_size=tokenizer.vocab_size)
    root = tmp_path_factory.mktemp("saved")
    for name, shard in (("whole", 2**31), ("shards", 30_000)):
        save_folder(make_model(shape), tokenizer, root / name, shard=shard)
    return root


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved / "whole", tmp_path / "model")


@pytest.fixture
def shards(saved, tmp_path):
    return shutil.copytree(saved / "shards", tmp_path / "model")


def change(file: pathlib.Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(match: str, read, *arguments) -> None:
    with pytest.raises(UserError, match=match) as error:
        read(*arguments)
    assert "\n" not in str(error.value)


def check(folder) -> None:
    check_folder(folder, read_shape(folder))


SPOILED = {
    "git-lfs pointer.*git lfs pull": POINTER.encode(),
    "byte order mark": b"\xef\xbb\xbf{}",
    "save it as UTF-8": '{"a": 1}'.encode("utf-16"),
    "not JSON": b"{",
    "is not JSON": '{"a": "\xe9"}'.encode("latin-1"),
    "holds a list": b"[]",
    "holds null": b"null",
    "holds a number": b"3",
    "not JSON .it is nested too deeply": b"[" * 100_000,
}


@pytest.mark.parametrize("said", SPOILED)
@pytest.mark.parametrize("name", ["config.json", INDEX, "tokenizer_config.json", "generation_config.json"])
def test_a_json_file_that_is_none_is_named(shards, tokenizer, name, said):
    (shards / name).write_bytes(SPOILED[said])

    def read() -> None:
        check(shards)
        check_end_tokens(shards, Tokenizer.load(shards))

    refused(f"{name} .*{said.removeprefix('is ')}", read)


def test_a_file_that_is_a_folder_or_a_link_to_nowhere_is_named(folder):
    for name in ("config.json", WHOLE, "tokenizer.json"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).mkdir()
        read = Tokenizer.load if name.startswith("tokenizer") else check
        refused(f"{name} is a folder", read, folder)
        (folder / name).rmdir()
        (folder / name).symlink_to("../blobs/gone")
        refused(f"{name} is a link to ../blobs/gone, which does not exist", read, folder)
        (folder / name).unlink()
        (folder / name).write_bytes(content)
    check(folder)


def test_links_to_elsewhere_are_followed(folder, tmp_path):
    (tmp_path / "blobs").mkdir()
    for file in list(folder.iterdir()):
        file.rename(tmp_path / "blobs" / file.name)
        file.symlink_to(tmp_path / "blobs" / file.name)
    check(folder)
    Tokenizer.load(folder)


def test_what_may_not_be_read_is_named(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    refused(r"config.json cannot be read \(Permission denied\)", read_shape, folder)


@pytest.mark.parametrize("name", ["\0", "x" * 5000])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path, name):
    for read in (check_readable, read_object):
        refused("cannot be read|does not exist", read, tmp_path / name, "give one")


WRONG = [
    *[
        ({name: value}, f"{name}=")
        for name in ("hidden_size", "vocab_size")
        for value in ("64", 0, -1, 1.5, 10**30, [], True)
    ],
    ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000 is no whole number from 1 to 1024"),
    ({"hidden_size": None}, "has no 'hidden_size'"),
    ({"num_attention_heads": 3, "head_dim": None}, "hidden_size=32 is not a multiple"),
    ({"rms_norm_eps": "1e-6"}, "rms_norm_eps="),
    ({"rms_norm_eps": 3}, "rms_norm_eps=3"),
    ({"rms_norm_eps": None}, "rms_norm_eps=None"),
    ({"tie_word_embeddings": None}, "neither true nor false"),
    ({"rope_parameters": None, "rope_theta": float("nan")}, "NaN is no number in JSON"),
    ({"rope_parameters": None, "rope_theta": 10**400}, "rope_theta=1000"),
    ({"rope_scaling": "linear"}, "rope_scaling='linear' is no JSON object"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope scaling 'yarn'"),
    ({"rope_scaling": {"rope_type": ["llama3"]}}, "differ by layer"),
    ({"rope_scaling": {"rope_type": "llama3"}}, "has no 'factor'"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": "8"}}, "factor='8'"),
    ({"rope_scaling": {"full_attention": {"rope_theta": 1e4}}}, "differ by layer"),
    ({"tie_word_embeddings": "false"}, "neither true nor false"),
    ({"model_type": ["qwen2"]}, r"model_type=\['qwen2'\]"),
    ({"model_type": None}, "model_type=None"),
    ({"layer_types": 3}, "layer_types=3"),
    ({"layer_types": ["full_attention", "sliding_attention"]}, "full attention in all layers"),
    ({"num_key_value_heads": 3}, "kv_heads=3"),
    ({"vocab_size": 299}, "config.json asks for"),
]


@pytest.mark.parametrize(("values", "said"), WRONG)
def test_a_wrong_value_is_named(folder, values, said):
    change(folder / "config.json", **values)
    refused(f"{folder}.*{said}", check, folder)


@pytest.mark.parametrize(
    "values",
    [
        {"architectures": None},
        {"architectures": ["Unheard"], "dtype": "float99", "torch_dtype": 3},
        {"head_dim": None, "rope_scaling": None, "quantization_config": None},
        {"transformers_version": "99", "auto_map": {"AutoModel": "evil.Evil"}},
    ],
)
def test_a_value_that_does_not_count_may_be_anything(folder, values):
    expected = read_shape(folder)
    change(folder / "config.json", **values)
    assert read_shape(folder) == expected
    check(folder)


def tensors(folder) -> list:
    shape = read_shape(folder)
    model = load_folder(folder, abstract_model(shape, make_mesh(1, 1, 1, devices=jax.devices()[:1])))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model)]


def test_the_whole_file_counts_where_an_index_is_beside_it(folder, saved, caplog):
    """As for transformers, which is asked here."""
    import torch
    import transformers

    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "gone.safetensors"}}))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    expected = load_file(folder / WHOLE)
    assert all(np.array_equal(theirs[name].numpy(), value) for name, value in expected.items())
    assert all(map(np.array_equal, tensors(folder), tensors(saved / "shards")))
    assert "model.safetensors is read" in caplog.text


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        (None, "has no weight_map"),
        ({}, "has no weight_map"),
        (["x"], "has no weight_map"),
        ({"x": 3}, "names 3"),
        ({"x": "../model.safetensors"}, "names '../model.safetensors'"),
        ({"x": "/etc/passwd"}, "names '/etc/passwd'"),
        ({"x": "a\0.safetensors"}, "every file must be a .safetensors in the folder itself"),
        ({"x": "pytorch_model.bin"}, "names 'pytorch_model.bin'"),
        ({"x": "gone.safetensors"}, "gone.safetensors does not exist"),
    ],
)
def test_an_index_is_held_to_the_folder(shards, weight_map, said):
    change(shards / INDEX, weight_map=weight_map)
    refused(f"{shards}.*{said}", check, shards)


def test_shards_are_held_to_each_other(shards):
    first, second, *_ = sorted(shards.glob("*.safetensors"))
    one = load_file(second)
    save_file(load_file(first) | one, first)
    refused(f"{second.name} holds .*, which another file of the folder holds too", check, shards)
    second.write_text(POINTER)
    refused(f"{second.name} is a git-lfs pointer", check, shards)
    second.unlink()
    refused(f"{second.name} does not exist", check, shards)


@pytest.mark.parametrize("left", [0, 4, 100, 5000])
def test_a_file_that_was_cut_off_is_named(folder, left):
    (folder / WHOLE).write_bytes((folder / WHOLE).read_bytes()[:left])
    refused(f"{WHOLE} cannot be read .*: copy it again", check, folder)


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.bool_])
def test_a_dtype_that_weights_do_not_have_is_named(folder, dtype):
    values = load_file(folder / WHOLE)
    save_file(values | {"model.norm.weight": values["model.norm.weight"].astype(dtype)}, folder / WHOLE)
    refused("model.norm.weight is .*: use float32, bfloat16 or float16", check, folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("token", [10**6, -1, "<|im_end|>", 40, [40], True])
def test_an_end_that_is_no_special_token_is_named(folder, name, token):
    tokenizer = Tokenizer.load(folder)
    check_end_tokens(folder, tokenizer)
    change(folder / name, eos_token_id=token)
    refused(f"{name}: eos_token_id=.*ends a turn with {tokenizer.end_of_turn_id} ", check_end_tokens, folder, tokenizer)


def test_the_token_that_begins_a_text_is_kept(make_model, folder, tokenizer, tmp_path):
    """Qwen2.5's and Llama 3's folders name one; out again, and in by transformers, it is the same."""
    from transformers import AutoConfig, GenerationConfig

    change(folder / "tokenizer_config.json", bos_token="<|im_start|>")
    begun = Tokenizer.load(folder)
    save_folder(make_model(read_shape(folder)), begun, tmp_path / "out")
    for read in (AutoConfig, GenerationConfig):
        assert read.from_pretrained(tmp_path / "out").bos_token_id == begun.base.bos_token_id == 1
    assert "bos_token_id" not in config_json(read_shape(folder), tokenizer, "float32")


@pytest.mark.parametrize(
    "change_tokenizer",
    [
        lambda file: file | {"version": "9.9"},
        lambda file: file | {"pre_tokenizer": {"type": "Unheard"}},
        lambda file: file | {"model": {"type": "Unheard"}},
        lambda file: file | {"model": None},
        lambda file: file | {"added_tokens": 3},
        lambda file: {},
        lambda file: [],
    ],
)
def test_a_tokenizer_of_another_kind_is_one_line(folder, change_tokenizer):
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(change_tokenizer(json.loads(file.read_text()))))
    refused(f"the tokenizer in {folder} cannot be read", Tokenizer.load, folder)


def test_a_vocabulary_in_files_of_its_own_is_read(folder):
    """As old folders of Qwen2 have it: vocab.json, merges.txt and added_tokens.json, but no tokenizer.json."""
    said = [{"role": "user", "content": "table1 is empty"}]
    before = json.loads((folder / "tokenizer.json").read_text())
    model, ends = before["model"], ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    plain = [token for token in sorted(model["vocab"], key=model["vocab"].get) if token not in ends]
    for file in folder.iterdir():
        file.unlink()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(plain)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]))
    (folder / "added_tokens.json").write_text(json.dumps({token: len(plain) + i for i, token in enumerate(ends)}))
    named = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE}
    named |= {"additional_special_tokens": list(ends)}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.end_of_turn_id == len(plain) + 2
    assert Tokenizer.from_files(tokenizer.files()).encode_prompt(said) == tokenizer.encode_prompt(said)
    (folder / "vocab.json").rename(folder / "tokenizer.model")
    refused("tokenizer.model needs sentencepiece: install it", Tokenizer.load, folder)


def test_no_code_of_a_folder_is_run(folder, tmp_path):
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="Unheard",
        auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
    )
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Evil"})
    Tokenizer.load(folder)
    check(folder)
    assert not (tmp_path / "ran").exists()


def test_what_a_killed_export_left_is_replaced_folders_too(make_model, saved, tokenizer, tmp_path):
    base = Tokenizer.load(saved / "whole").base
    base.chat_template = {"default": CHAT_TEMPLATE, "tool_use": CHAT_TEMPLATE}
    (tmp_path / "out.0123abcd.part" / "additional_chat_templates").mkdir(parents=True)
    (tmp_path / "out.0123abcd.part" / "additional_chat_templates" / "old.jinja").touch()
    (tmp_path / "out.mine.part").touch()
    save_folder(make_model(read_shape(saved / "whole")), Tokenizer(base), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out" / "additional_chat_templates").iterdir()] == ["tool_use.jinja"]
    assert Tokenizer.load(tmp_path / "out").base.chat_template == base.chat_template
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.mine.part"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(make_model, saved, tmp_path, there):
    if there:
        (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    save_folder(make_model(read_shape(saved / "whole")), Tokenizer.load(saved / "whole"), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and read_shape(tmp_path / "out") == read_shape(saved / "whole")


@pytest.mark.parametrize("room", [0, 1000, 20_000])  # bytes: for nothing, for some files, for all but the weights
def test_a_disk_that_takes_no_more_leaves_no_export_and_one_line(make_model, saved, tmp_path, room):
    params, tokenizer = make_model(read_shape(saved / "whole")), Tokenizer.load(saved / "whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(RunError, match="cannot be written .*; make room, and the same command") as caught:
            save_folder(params, tokenizer, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
