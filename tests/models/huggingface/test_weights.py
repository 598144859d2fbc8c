"""Folders in and out against `transformers`: random small Qwen2, Qwen3 and Llama models, float32 on the CPU."""

import dataclasses
import gc
import json
import re
import shutil
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.envs.robotouille.kitchen.names import OBJECT_NAMES
from stgrpo.errors import UserError
from stgrpo.models.attention.xla import attend_causal
from stgrpo.models.grouped import GroupRows, row_hidden
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.huggingface.weights import load_folder, save_folder
from stgrpo.models.shapes import ModelShape, RopeScaling, named_shapes
from stgrpo.models.sharding import make_mesh, tree_shardings
from stgrpo.models.transformer import Transformer, dense_hidden

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

FAMILIES = ("qwen2 tied", "qwen2 untied", "qwen3 tied", "llama tied", "llama untied", "llama3 untied")
# Heads of 8 with this base have wavelengths of 6, 94, 1405 and 21,000: one kept, one between, two divided.
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 50_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


def theirs(family, noise=0.1, **changes):
    """A random model of `transformers`, every parameter off its constant start."""
    kind, tied = family.split()
    sizes = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": tied == "tied",
        "rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0},
        "rms_norm_eps": 1e-5,
    }
    config_class, model_class = {
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    }[kind.removesuffix("3") if kind == "llama3" else kind]
    if kind == "qwen3":
        sizes["head_dim"] = 16  # its heads together are wider than the model
    if kind == "llama3":
        sizes["rope_parameters"] = LLAMA3_ROPE
    torch.manual_seed(0)
    model = model_class(config_class(**sizes | changes)).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    """Their model, the folder it wrote, and ours read from it."""
    folder = tmp_path_factory.mktemp("theirs")
    model = theirs(request.param)
    model.save_pretrained(folder)
    return model, folder, ours(folder)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(train_tokenizer(["table1 is empty"], vocab_size=512, names=OBJECT_NAMES))


def abstract_model(shape, mesh):
    model = jax.eval_shape(lambda: Transformer(shape, jax.random.key(0)))
    place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)  # noqa: E731
    return jax.tree.map(place, model, tree_shardings(model, shape, mesh))


def ours(folder, sizes=(1, 1, 1)):
    mesh = make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
    return load_folder(folder, abstract_model(read_shape(folder), mesh))


@jax.jit
def our_logits(model, tokens):
    return dense_hidden(model, tokens) @ model.head_VD.T


def their_logits(model, tokens, **options):
    with torch.no_grad():
        options = {name: torch.from_numpy(np.array(value)) for name, value in options.items()}
        return model(torch.from_numpy(np.array(tokens, np.int64)), **options).logits.numpy()


def test_logits_of_a_ragged_batch(pair):
    model, _, mine = pair
    tokens = np.random.default_rng(0).integers(0, 96, (3, 17))
    lengths = np.array([17, 5, 11])
    mask = (np.arange(17) < lengths[:, None]).astype(np.int64)
    expected, got = their_logits(model, tokens, attention_mask=mask), our_logits(mine, tokens)
    for row, other, length in zip(got, expected, lengths, strict=True):
        np.testing.assert_allclose(row[:length], other[:length], atol=1e-4)
    assert np.abs(expected).max() > 1  # the logits are no small numbers


def test_long_positions(pair):
    """Far apart too: only differences of positions matter to the attention."""
    model, _, mine = pair
    tokens = np.random.default_rng(1).integers(0, 96, (1, 12))
    positions = np.array([[0, 1, 2, 500, 1000, 1001, 2047, 2048, 3000, 3001, 4094, 4095]])
    causal = np.tril(np.ones((12, 12), bool))[None, None]
    expected = their_logits(model, tokens, attention_mask=causal, position_ids=positions)
    hidden, _ = mine.hidden(tokens, positions, lambda q, kv: (attend_causal(q, kv), None))
    np.testing.assert_allclose(hidden @ mine.head_VD.T, expected, atol=1e-4)


def test_shared_prefix_groups_against_a_packed_row(pair):
    """Their 4-D mask lets one row hold a prompt and its responses, as ours does."""
    model, _, mine = pair
    P, G, R, prompt_len = 8, 3, 5, 6
    rng = np.random.default_rng(2)
    prompt, responses = rng.integers(0, 96, (1, P)), rng.integers(0, 96, (1, G, R))
    segment = np.repeat(np.arange(G + 1), [prompt_len, *[R] * G])  # 0 is the prompt
    place = np.concatenate([np.arange(prompt_len), *[prompt_len + np.arange(R)] * G])
    order = np.arange(len(segment))
    seen = (order <= order[:, None]) & ((segment == 0) | (segment == segment[:, None]))
    row = np.concatenate([prompt[:, :prompt_len], responses.reshape(1, -1)], axis=1)
    expected = their_logits(model, row, attention_mask=seen[None, None], position_ids=place[None])[0]
    hidden = row_hidden(mine, GroupRows(prompt, np.array([prompt_len]), responses))[1]
    got = np.asarray(hidden @ mine.head_VD.T)[0]
    for g in range(G):
        start = prompt_len + g * R
        np.testing.assert_allclose(got[g, 0], expected[prompt_len - 1], atol=1e-4)
        np.testing.assert_allclose(got[g, 1:], expected[start : start + R - 1], atol=1e-4)


def test_every_mesh_reads_the_same(pair):
    _, folder, mine = pair
    split = ours(folder, (2, 2, 2))
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(split), strict=True):
        np.testing.assert_array_equal(a, b)
    assert split.layers.q[...].addressable_shards[0].data.size * 4 == split.layers.q[...].size


@pytest.mark.parametrize("shard", [2**31, 20_000])
def test_what_is_saved_is_what_transformers_loads(pair, tokenizer, tmp_path, shard):
    model, _, mine = pair
    save_folder(mine, tokenizer, tmp_path / "out", shard=shard)
    assert (len(list((tmp_path / "out").glob("*.safetensors"))) > 1) == (shard == 20_000)
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert type(back) is type(model)
    expected = model.state_dict()
    assert set(expected) == set(back.state_dict())
    for name, value in back.state_dict().items():
        assert torch.equal(value, expected[name]), name
    tokens = np.random.default_rng(3).integers(0, 96, (2, 9))
    np.testing.assert_array_equal(their_logits(back.eval(), tokens), their_logits(model, tokens))
    assert read_shape(tmp_path / "out") == mine.shape
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(ours(tmp_path / "out")), strict=True):
        np.testing.assert_array_equal(a, b)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == tokenizer.base.get_vocab()
    assert back.generation_config.eos_token_id == list(tokenizer.stop_ids)


@pytest.mark.parametrize("pair", ["qwen2 tied"], indirect=True)
def test_bfloat16_rounds_once(pair, tokenizer, tmp_path):
    _, _, mine = pair
    save_folder(mine, tokenizer, tmp_path / "out", dtype="bfloat16")
    back = ours(tmp_path / "out")
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a.astype(jnp.bfloat16).astype(jnp.float32), b)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    save_folder(back, tokenizer, tmp_path / "again", dtype="bfloat16")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "out/model.safetensors").read_bytes()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_a_weight_that_is_no_number_is_named(tmp_path, name, value):
    model = theirs("qwen2 tied")
    model.state_dict()[name].view(-1)[-1] = value
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"{re.escape(name)} has numbers that are not finite"):
        ours(tmp_path)


def test_rows_that_the_tokenizer_does_not_use_are_kept(pair, tokenizer, tmp_path):
    _, _, mine = pair
    few = jax.tree.map(lambda x: x, mine)
    few.shape = nnx.static(mine.shape.with_tokens(50))
    for name, params in {"all": mine, "few": few}.items():
        save_folder(params, tokenizer, tmp_path / name)
    for file in (tmp_path / "all").iterdir():
        assert file.read_bytes() == (tmp_path / "few" / file.name).read_bytes(), file.name


def test_real_head_sizes_and_wide_heads(tmp_path):
    """Heads that together are wider than the model, seven query heads a key head as in Qwen2.5-0.5B."""
    model = theirs("qwen2 tied", num_attention_heads=7, num_key_value_heads=1, head_dim=64, hidden_size=64)
    model.save_pretrained(tmp_path)
    tokens = np.random.default_rng(4).integers(0, 96, (2, 9))
    np.testing.assert_allclose(our_logits(ours(tmp_path), tokens), their_logits(model, tokens), atol=1e-4)


def test_loading_needs_room_for_one_parameter_beside_the_model(tmp_path):
    """In NumPy's memory, of which JAX may take over some; nothing waits for a garbage collection."""
    model = theirs("qwen2 untied", vocab_size=4096, hidden_size=256, intermediate_size=1024, num_hidden_layers=8)
    model.save_pretrained(tmp_path)
    abstract = abstract_model(read_shape(tmp_path), make_mesh(1, 1, 1, devices=jax.devices()[:1]))
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract)]
    load_folder(tmp_path, abstract)  # imports what it needs
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        loaded = load_folder(tmp_path, abstract)
        kept, peak = tracemalloc.get_traced_memory()
        gc.collect()
        garbage = kept - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert sum(x.nbytes for x in jax.tree.leaves(loaded)) == sum(sizes)
    assert max(sizes) < peak < sum(sizes) + 1.5 * max(sizes)  # the parameter, and one layer of it as it is read
    assert garbage < 0.1 * max(sizes)


@pytest.fixture
def folder(tmp_path):
    """A folder to break."""
    theirs("qwen2 untied").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_tensors(folder, change):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors")


def test_rope_scaling_is_read_from_both_places(folder):
    expected = RopeScaling(8.0, 1.0, 4.0, 256)
    change_config(folder, rope_parameters=LLAMA3_ROPE)
    assert read_shape(folder).rope_scaling == expected
    change_config(folder, rope_parameters=None, rope_theta=5e5, rope_scaling=LLAMA3_ROPE | {"rope_theta": None})
    assert (read_shape(folder).rope_scaling, read_shape(folder).rope_theta) == (expected, 5e5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2.5-1.5b", "qwen3-0.6b", "llama3.2-1b"])
def test_published_widths_and_vocabularies(name, tmp_path):
    """Two layers of the real thing, the whole vocabulary, positions far apart."""
    kind = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama3"}[name[:5]]
    shape = dataclasses.replace(named_shapes()[name], depth=2)
    rope = {"rope_type": "default", "rope_theta": shape.rope_theta}
    if shape.rope_scaling:
        scaling = shape.rope_scaling
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low,
            "high_freq_factor": scaling.high,
            "original_max_position_embeddings": scaling.original_position,
        }
    sizes = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": 2,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.max_position,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": rope,
    }
    model = theirs(f"{kind} tied", noise=0.005, **sizes)
    model.save_pretrained(tmp_path)
    mine = ours(tmp_path)
    assert mine.shape == shape
    tokens = np.random.default_rng(5).integers(0, shape.vocab_size, (2, 24))
    expected = their_logits(model, tokens)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(our_logits(mine, tokens), expected, atol=1e-4)
    positions = np.broadcast_to(77 * np.arange(24), (1, 24))  # to 1771: the default limits end at 1792
    causal = np.tril(np.ones((24, 24), bool))[None, None]
    expected = their_logits(model, tokens[:1], attention_mask=causal, position_ids=positions)
    hidden, _ = mine.hidden(tokens[:1], positions, lambda q, kv: (attend_causal(q, kv), None))
    np.testing.assert_allclose(hidden @ mine.head_VD.T, expected, atol=1e-4)


def test_rope_theta_is_read_from_both_places(folder):
    assert read_shape(folder).rope_theta == 50_000.0
    change_config(folder, rope_parameters=None, rope_theta=123.0)
    assert read_shape(folder).rope_theta == 123.0


REFUSED = [
    ({"model_type": "gpt2"}, "gpt2"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}}, "yarn"),
    ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
    ({"use_sliding_window": True}, "sliding"),
    ({"hidden_act": "gelu"}, "gelu"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"num_key_value_heads": 3}, "kv_heads=3"),
]


@pytest.mark.parametrize(("values", "word"), REFUSED)
def test_what_it_cannot_do_is_refused_by_name(folder, values, word):
    change_config(folder, **values)
    with pytest.raises(UserError, match=word):
        read_shape(folder)


def test_a_missing_extra_or_misshapen_tensor_is_named(folder):
    name = "model.layers.1.self_attn.k_proj.bias"
    copies = [shutil.copytree(folder, folder.with_name(n)) for n in ("missing", "extra", "misshapen")]
    change_tensors(copies[0], lambda t: t.pop(name))
    change_tensors(copies[1], lambda t: t.update({"model.layers.3.mlp.up_proj.weight": t[name]}))
    change_tensors(copies[2], lambda t: t.update({name: t[name][:3]}))
    for copy, said in zip(
        copies, [f"lacks the tensor {name}", "layers.3.mlp.up_proj", f"{name} has shape"], strict=True
    ):
        with pytest.raises(UserError, match=said):
            ours(copy)


def test_a_tied_head_that_is_held_twice_must_be_the_same(folder, tmp_path):
    change_config(folder, tie_word_embeddings=True)
    with pytest.raises(UserError, match="lm_head.weight"):
        ours(folder)
    change_tensors(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]}))
    assert ours(folder).shape.tie_embeddings


def test_missing_and_damaged_files(folder):
    with pytest.raises(UserError, match="nowhere/config.json does not exist"):
        read_shape(folder / "nowhere")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match="model.safetensors cannot be read"):
        ours(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="model.safetensors does not exist"):
        ours(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_shape(folder)


def test_a_full_folder_is_left_alone(tiny_shape, make_model, tokenizer, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not an empty folder"):
        save_folder(make_model(tiny_shape), tokenizer, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("special", [{"qk_norm": True}, {"rope_scaling": RopeScaling(32.0, 1.0, 4.0, 8192)}])
def test_fields_of_the_shape_survive(tiny_shape, make_model, tokenizer, tmp_path, special):
    shape = dataclasses.replace(
        tiny_shape, norm_eps=1e-5, qkv_bias=False, tie_embeddings=False, rope_theta=7e4, **special
    )
    assert ModelShape.from_dict(json.loads(json.dumps(dataclasses.asdict(shape)))) == shape
    save_folder(make_model(shape), tokenizer, tmp_path / "out")
    assert read_shape(tmp_path / "out") == shape
