"""Weights on their way to servers: the file, its checksums, and what keeps a server from taking them."""

import dataclasses
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors import safe_open

from stgrpo.errors import ServerError, UserError
from stgrpo.models.huggingface import weights
from stgrpo.models.huggingface.weights import named_arrays, named_pieces, tensors
from stgrpo.models.sharding import make_mesh, tree_shardings
from stgrpo.sampling.vllm.weight_sync import WeightFolder, WeightSync, differences, differing, word_sum
from stgrpo.sampling.vllm.worker import word_sum as served_sum
from stgrpo.serving.client import ClientSettings, HttpClient


@pytest.fixture(scope="module")
def model(tiny_shape, make_model):
    return make_model(tiny_shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_version_is_what_the_safetensors_library_reads(tmp_path, tiny_shape, make_model, dtype, tied):
    shape = dataclasses.replace(tiny_shape, tie_embeddings=tied, mlp_width=49)  # rows that end within a 64-bit word
    model = make_model(shape)
    published = WeightFolder(tmp_path, "me", dtype).publish(model, 7)
    with safe_open(published.path, "pt") as file:
        assert set(file.keys()) == {t.name for t in tensors(shape)} == published.sums.keys()
        for tensor in tensors(shape):
            found = file.get_tensor(tensor.name)
            leaf = getattr(model if tensor.layer is None else model.layers, tensor.ours)[...]
            mine = tensor.write(np.asarray(leaf if tensor.layer is None else leaf[tensor.layer]))
            assert found.equal(torch.from_numpy(mine.copy()).to(getattr(torch, dtype)))
            assert served_sum(found) == published.sums[tensor.name]  # the server's arithmetic
    assert published.path.stat().st_size == published.size


def test_sharded_parameters_are_written_alike(tmp_path, tiny_shape, model):
    split = jax.device_put(model, tree_shardings(model, tiny_shape, make_mesh(2, 2, 2)))
    files = [WeightFolder(tmp_path, run, "bfloat16").publish(m, 1).path for run, m in (("a", model), ("b", split))]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("limit", [1, 1000])
def test_pieces_are_the_tensors(model, monkeypatch, limit):
    """Cut within tensors here, where a tensor is one piece otherwise."""
    monkeypatch.setattr(weights, "_PIECE", limit)
    pieces = list(named_pieces(model, "bfloat16"))
    whole = dict(named_arrays(model, "bfloat16"))
    assert len(pieces) > 2 * len(whole) and [*dict.fromkeys(name for name, _ in pieces)] == list(whole)
    for name, array in whole.items():
        mine = [piece for other, piece in pieces if other == name]
        assert all(piece.flags.c_contiguous for piece in mine) and not any(p.nbytes % 8 for p in mine[:-1])
        np.testing.assert_array_equal(np.concatenate(mine), array)


def test_zeros_have_no_sign(model):
    for factor in (0.0, 1e-41):
        tiny = jax.tree.map(lambda x, f=factor: f * x, model)
        assert not any(np.signbit(array).any() for _, array in named_pieces(tiny, "bfloat16"))


def test_what_is_no_number_is_not_hidden(model):
    broken = jax.tree.map(lambda x: jnp.nan * x, model)
    assert all(np.isnan(array.astype(np.float32)).all() for _, array in named_pieces(broken, "bfloat16"))


def test_checksums_do_not_depend_on_how_a_tensor_is_split():
    data = np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)
    assert word_sum(data) == (word_sum(data[:1024]) + word_sum(data[1024:])) % 2**64
    assert word_sum(data) != word_sum(np.where(np.arange(4096) == 77, data ^ 1, data))
    assert word_sum(np.array([1, 2, 3], np.uint8)) == 0x030201


def test_older_versions_and_those_of_a_killed_process_are_removed(tmp_path, model):
    folder, other = WeightFolder(tmp_path, "me", "float32"), WeightFolder(tmp_path, "you", "float32")
    theirs = other.publish(model, 1)
    first, second = folder.publish(model, 1), folder.publish(model, 2)
    folder.remove_before(second)
    assert not first.path.exists() and second.path.exists() and theirs.path.exists()
    WeightFolder(tmp_path, "me", "float32")  # the next process of the same run
    assert not second.path.exists() and theirs.path.exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path, model):
    folder = WeightFolder(tmp_path, "me", "float32")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match="version 3 of the weights needs 0.00 GiB in .*set rollout.folder"):
            folder.publish(model, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="rollout.folder=.*file/x cannot be used"):
        WeightFolder(tmp_path / "file" / "x", "me", "float32")


SENT = {"model.embed_tokens.weight": 10, "a": 2**64 - 1, "b": 6}
GOOD = {"model.embed_tokens.weight": "a", "lm_head.weight": "a", "a": "ffffffffffffffff", "b": "6"}


@pytest.mark.parametrize(
    ("held", "wrong"),
    [
        ([GOOD], []),
        ([{**GOOD, "b": "7"}], ["b"]),
        ([{**GOOD, "lm_head.weight": "9"}], ["lm_head.weight"]),  # a tied head that was packed before
        ([{k: v for k, v in GOOD.items() if k != "b"}], ["b"]),
        ([GOOD, GOOD], []),  # whole on each worker
        ([{**GOOD, "b": "4"}, {**GOOD, "b": "2"}], []),  # split over two
        ([{**GOOD, "b": "4"}, {**GOOD, "b": "3"}], ["b"]),
        ([{**GOOD, "b": x} for x in "4242"], []),  # two copies of two halves
    ],
)
def test_every_tensor_held_is_compared_with_what_was_sent(held, wrong):
    assert differing(SENT, held) == wrong


@pytest.fixture(scope="module")
def worker(tiny_shape):
    """What a worker says of itself that serves the tiny model."""
    c = tiny_shape
    return {
        "model": {
            "model_type": "qwen2",
            "vocab_size": c.vocab_size,
            "hidden_size": c.width,
            "num_hidden_layers": c.depth,
            "num_attention_heads": c.heads,
            "num_key_value_heads": c.kv_heads,
            "head_dim": c.head_dim,
            "intermediate_size": c.mlp_width,
            "rope_theta": c.rope_theta,
            "rms_norm_eps": c.norm_eps,
            "tie_word_embeddings": True,
            "max_position_embeddings": 999,
        },
        "dtype": "bfloat16",
        "max_model_len": 64,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "quantization": None,
        "pipeline": 1,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"dtype": "float32"}, "--dtype=bfloat16"),
        ({"max_model_len": 63}, "--max-model-len=64 or more"),
        ({"logprobs_mode": "raw_logprobs"}, "--logprobs-mode=processed_logprobs"),
        ({"generation_config": "auto"}, "--generation-config=vllm"),
        ({"quantization": "fp8"}, "quantised by fp8"),
        ({"pipeline": 2}, "--tensor-parallel-size"),
    ],
)
def test_a_server_with_other_settings_is_refused(worker, tiny_shape, change, said):
    found = list(differences({**worker, **change}, tiny_shape, "bfloat16", 64))
    assert (said in found[0] and len(found) == 1) if said else not found


def test_a_server_of_another_model_is_refused_with_what_differs(worker, tiny_shape):
    found = list(differences(worker, dataclasses.replace(tiny_shape, depth=3), "bfloat16", 64))
    assert len(found) == 1 and "depth=2 there, 3 here" in found[0]


def sync_with(serve, reply) -> WeightSync:
    client = HttpClient([serve(reply).address], ClientSettings(timeout=5, retries=0))
    return WeightSync(client, "me", timeout=5)


def test_an_old_vllm_is_refused(serve, tiny_shape):
    sync = sync_with(serve, lambda request: (200, {}, {"version": "0.19.1"}))
    with pytest.raises(UserError, match=r"runs vLLM 0\.19\.1: use 0\.26 or newer"):
        sync.connect(tiny_shape, "float32", 64)


@pytest.mark.parametrize(
    "answer",
    [
        (404, {}, {"detail": "Not Found"}),
        (500, {}, {"error": {"message": "'CPUWorker' object has no attribute 'stgrpo_describe'"}}),
    ],
)
def test_a_server_that_takes_no_weights_is_refused_with_the_way_to_start_it(serve, tiny_shape, answer):
    def reply(request):
        return (200, {}, {"version": "0.32.0"}) if request["path"] == "/version" else answer

    with pytest.raises(UserError, match="takes no weights: start it with `stgrpo serve`"):
        sync_with(serve, reply).connect(tiny_shape, "float32", 64)


def test_a_load_that_fails_is_tried_again_and_leaves_the_server_paused(serve, tmp_path, model, monkeypatch):
    monkeypatch.setattr("stgrpo.sampling.vllm.weight_sync.time.sleep", lambda seconds: None)
    paths = []

    def reply(request):
        paths.append(request["path"])
        failed = {"results": [{"error": "OutOfMemoryError: 3 GiB"}]}
        return 200, {}, failed if request["path"] == "/collective_rpc" else {"status": "paused"}

    sync = sync_with(serve, reply)
    with pytest.raises(ServerError, match="version 1 of the weights did not get through: .* OutOfMemoryError: 3 GiB"):
        sync.load(WeightFolder(tmp_path, "me", "float32").publish(model, 1))
    assert paths == ["/pause?mode=wait", "/collective_rpc"] * 3  # and no /resume
