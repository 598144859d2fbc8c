"""Model folders that somebody broke: read right, or refused in one line that names what is wrong.

A broken folder that is read all the same must be what `transformers` makes of it: its tensors, and the numbers of its
configuration. Where what is read is what the whole folder holds, the change did not matter.
"""

import dataclasses
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable

import jax
import numpy as np
import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError

from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.errors import UserError
from stgrpo.models.huggingface.config import check_end_tokens, read_shape
from stgrpo.models.huggingface.weights import load_folder, save_folder
from stgrpo.models.shapes import ModelShape, RopeScaling
from stgrpo.models.sharding import make_mesh
from stgrpo.react.prompt import PromptStyle
from stgrpo.training.start import abstract_model

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SAID = [{"role": "user", "content": "table1 holds patty2\n\nGoal: cook patty2 on stove1"}]
ODD = (
    None, True, False, 0, 1, -1, 3, 2.5, 1e308, 10**400, 2**31, 2**63, float("nan"), float("inf"), "", "32", "x" * 300,
    "\ud800", [], [1, 2], [None], {}, {"a": 1}, {"rope_type": "yarn"}, {"full_attention": {"rope_theta": 1.0}},
    {"rope_type": "linear", "factor": 2.0}, {"type": "llama3", "factor": 8.0}, "../x", "\n",
)  # fmt: skip
UNUSED = ("use_cache", "attention_dropout", "initializer_range", "pad_token_id", "max_window_layers", "architectures")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


@pytest.fixture(scope="module")
def folders(make_model, tmp_path_factory) -> list:
    """Whole folders of two families, one of them in shards, with tokenizers."""
    text = ["table1 holds patty2", "Reasoning: cook it.\nAction: Move robot1 from table1 to stove1"] * 4
    tokenizer = Tokenizer(train_tokenizer(text, vocab_size=320))
    root = tmp_path_factory.mktemp("whole")
    sizes = (tokenizer.vocab_size, 16, 2, 2, 1, 8, 24)
    llama = RopeScaling(8.0, 1.0, 4.0, 256)
    shapes = (
        ModelShape(*sizes, rope_theta=10_000.0, max_position=512),
        ModelShape(*sizes, qkv_bias=False, tie_embeddings=False, rope_scaling=llama, norm_eps=1e-5, max_position=512),
    )
    for number, shape in enumerate(shapes):
        save_folder(make_model(shape, number), tokenizer, root / str(number), shard=(2**31, 20_000)[number])
    return [root / "0", root / "1"]


def files(folder) -> list:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def truncate(file, rng: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def flip(file, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 8))):
        content[rng.randrange(min(len(content), 3000))] = rng.randrange(256)
    file.write_bytes(content)


def replace(file, rng: random.Random) -> None:
    pointer, whole = POINTER.encode(), file.read_bytes()
    others = (
        pointer,
        b"",
        b"[]",
        b"null",
        b"\x00" * 100,
        b"\xef\xbb\xbf" + whole,
        b"[" * 5000,
        b'{"a": ' * 5000,
        b"{}",
    )
    file.write_bytes(rng.choice(others))


def recode(file, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes().decode("latin-1").encode(rng.choice(("utf-16", "utf-16-le", "utf-32"))))


def unmake(file, rng: random.Random) -> None:
    file.unlink()
    how = rng.randrange(3)
    if how == 0:
        file.mkdir()
    elif how == 1:
        file.symlink_to("nowhere/else")


def change_json(file, rng: random.Random) -> None:
    values = json.loads(file.read_text())
    for _ in range(rng.choice((1, 1, 1, 2))):
        at = values
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.7:
                at = at[key]
                continue
            if rng.random() < 0.25:
                del at[key]
            else:
                at[key] = rng.choice(ODD)
            break
    file.write_text(json.dumps(values))


def change_tensors(file, rng: random.Random) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    value, how = tensors[name], rng.randrange(7)
    if how == 0:
        del tensors[name]
    elif how == 1:
        tensors[name] = value[:-1]
    elif how == 2:
        tensors[name] = value.T[..., None] if rng.random() < 0.5 else value.reshape(-1)
    elif how == 3:
        tensors[name] = value.astype(rng.choice((np.float64, np.int32, np.float16, np.bool_, np.uint8)))
    elif how == 4:
        tensors[rng.choice(("lm_head.weight", "extra.weight", f"{name}.1"))] = value
    elif how == 5:
        tensors[name.removeprefix("model.")] = tensors.pop(name)
    else:
        tensors[name] = value[:0]
    save_file({key: np.ascontiguousarray(array) for key, array in tensors.items()}, file)


def change_index(file, rng: random.Random) -> None:
    index = json.loads(file.read_text())
    where = index["weight_map"]
    name = rng.choice(sorted(where))
    others = (
        "../model-00001-of-00002.safetensors",
        "/etc/passwd",
        "nowhere.safetensors",
        "config.json",
        "",
        "..",
        "\0.safetensors",
    )
    where[name] = rng.choice((*others, *sorted(set(where.values()))))
    file.write_text(json.dumps(index))


def add_beside(file, rng: random.Random) -> None:
    """A second file with weights: an index that is out of date, or the tensors of a shard once more."""
    index = {"weight_map": {"model.norm.weight": "gone.safetensors"}}
    if file.name == "model.safetensors":
        (file.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        others = [path for path in file.parent.glob("*.safetensors") if path != file]
        shutil.copy(file, rng.choice([*others, file.parent / "model.safetensors"]))


ANY = (truncate, flip, replace, recode, unmake)


def break_one(folder, rng: random.Random) -> str:
    file = rng.choice([*files(folder), *[folder / "config.json"] * 4])
    kinds = list(ANY)
    if file.suffix == ".json":
        kinds += [change_json] * 6
    if file.suffix == ".safetensors":
        kinds += [change_tensors] * 5 + [add_beside] * 2
    if file.name.endswith(".index.json"):
        kinds += [change_index] * 6
    kind: Callable = rng.choice(kinds)
    kind(file, rng)
    return f"{kind.__name__} of {file.relative_to(folder)}"


def read(folder):
    shape = read_shape(folder)
    tokenizer = Tokenizer.load(folder)
    tokenizer.check_style(PromptStyle("none", "none"))
    check_end_tokens(folder, tokenizer)
    model = load_folder(folder, abstract_model(shape, make_mesh(1, 1, 1, devices=jax.devices()[:1])))
    return shape, [np.asarray(leaf) for leaf in jax.tree.leaves(model)], tokenizer.encode_prompt(SAID)


def assert_as_theirs(folder, shape, ids, tmp_path) -> None:
    """What was read is what transformers reads: it writes the tensors again, and names its numbers."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs, rope = model.config, model.config.rope_parameters
    assert (shape.vocab_size, shape.width, shape.depth) == (
        theirs.vocab_size,
        theirs.hidden_size,
        theirs.num_hidden_layers,
    )
    assert (shape.heads, shape.kv_heads) == (theirs.num_attention_heads, theirs.num_key_value_heads)
    assert shape.head_dim == (getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads)
    assert shape.norm_eps == theirs.rms_norm_eps and shape.tie_embeddings == theirs.tie_word_embeddings
    assert shape.rope_theta == rope["rope_theta"] and theirs.hidden_act == "silu"
    assert (shape.rope_scaling is None) == (rope["rope_type"] == "default"), rope
    if shape.rope_scaling:
        mine = dataclasses.astuple(shape.rope_scaling)
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        assert mine == tuple(rope.get(name, theirs.max_position_embeddings) for name in names)
    model.save_pretrained(tmp_path / "theirs")
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    again = load_folder(tmp_path / "theirs", abstract_model(shape, mesh))
    mine = load_folder(folder, abstract_model(shape, mesh))
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    auto = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    text = auto.apply_chat_template(SAID, tokenize=False, add_generation_prompt=True)
    base = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert ids == base.encode(text, add_special_tokens=False)


def fuzz(folders, tmp_path, seeds) -> Counter:
    whole, outcomes = [read(folder) for folder in folders], Counter()
    for seed in seeds:
        rng = random.Random(seed)
        number = rng.randrange(2)
        broken = tmp_path / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.rmtree(tmp_path / "theirs", ignore_errors=True)
        shutil.copytree(folders[number], broken)
        what = f"seed {seed}: {break_one(broken, rng)}"
        try:
            shape, leaves, ids = read(broken)
        except UserError as error:
            assert "\n" not in str(error) and str(broken) in str(error) and len(str(error)) < 700, f"{what}: {error}"
            outcomes["refused"] += 1
            continue
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        same = all(map(np.array_equal, leaves, whole[number][1])) and (shape, ids) == (
            whole[number][0],
            whole[number][2],
        )
        outcomes["no matter" if same else "read as transformers does"] += 1
        if not same:
            try:
                assert_as_theirs(broken, shape, ids, tmp_path)
            except StrictDataclassFieldValidationError as error:
                assert any(f"'{name}'" in str(error) for name in UNUSED), f"{what}: read, but {error}"
            except BaseException as error:
                raise AssertionError(f"{what}: read, but {type(error).__name__}: {error}") from error
    return outcomes


def test_some_broken_folders_are_read_right_or_refused_in_one_line(folders, tmp_path):
    assert fuzz(folders, tmp_path, range(40))["refused"] > 10


@pytest.mark.slow
def test_five_hundred_broken_folders_are_read_right_or_refused_in_one_line(folders, tmp_path, capsys):
    outcomes = fuzz(folders, tmp_path, range(1000, 1500))
    assert sum(outcomes.values()) == 500 and outcomes["refused"] > 150
    with capsys.disabled():
        print(dict(outcomes))
