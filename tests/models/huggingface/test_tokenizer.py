"""What AutoTokenizer makes of the folders that we write, here and in an environment that has vLLM."""

import dataclasses
import json
import os
import subprocess

import pytest

from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.envs.robotouille.kitchen.names import OBJECT_NAMES
from stgrpo.models.huggingface.tokenizer import auto_reads_alike, save_tokenizer
from stgrpo.models.huggingface.weights import save_description

TEXTS = (
    "table1 holds patty2, and the robot isn't at stove1.\n\n1) Move robot1 from table1 to stove1",
    "<|im_start|>user\nCook patty1 on stove2  now<|im_end|>\n<|im_start|>assistant\n",
    "Ångström 12345 naïve cafe\u0301 東京 \U0001f373\t x1y2 tables table14 table99",
)
FAMILIES = {"qwen2": {}, "qwen3": {"qkv_bias": False, "qk_norm": True}, "llama": {"qkv_bias": False}}
SCRIPT = """
import json, sys
from transformers import AutoTokenizer
folder, texts, trusted = json.loads(sys.stdin.read())
auto = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
ids = [auto.encode(text, add_special_tokens=False) for text in texts]
print(json.dumps([ids, [auto.decode(row) for row in ids]]))
"""


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["table1 is empty", "patty1 is at table3", "Move robot1 from table1 to stove1"]
    return Tokenizer(train_tokenizer(texts * 4, vocab_size=600, names=OBJECT_NAMES))


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tokenizer, tiny_shape, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    shape = dataclasses.replace(tiny_shape, vocab_size=tokenizer.vocab_size, **FAMILIES[request.param])
    save_description(shape, tokenizer, path, dtype="float32")
    assert json.loads((path / "config.json").read_text())["model_type"] == request.param
    return path


def expected(tokenizer) -> list:
    ids = [tokenizer.base.encode(text, add_special_tokens=False) for text in TEXTS]
    return [ids, [tokenizer.base.decode(row) for row in ids]]


def test_auto_tokenizer_reads_ours_beside_every_family(folder, tokenizer):
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = [auto.encode(text, add_special_tokens=False) for text in TEXTS]
    assert [ids, [auto.decode(row) for row in ids]] == expected(tokenizer)
    messages = [{"role": "user", "content": TEXTS[0]}]
    assert auto.apply_chat_template(messages, tokenize=False) == tokenizer.base.apply_chat_template(
        messages, tokenize=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("trusted", [False, True])
def test_so_does_that_of_the_environment_of_vllm(folder, tokenizer, vllm_python, trusted, tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    asked = json.dumps([str(folder), TEXTS, trusted])
    done = subprocess.run([vllm_python, "-c", SCRIPT], env=environment, input=asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == expected(tokenizer)


def test_without_it_they_are_read_as_qwen2s(folder, tokenizer, tmp_path):
    """What is written besides is still needed; where this fails, a new transformers has made it needless."""
    plain = Tokenizer.load(folder)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    plain.save(tmp_path)
    needed = json.loads((folder / "config.json").read_text())["model_type"] == "qwen2"
    assert auto_reads_alike(tmp_path, tokenizer) is not needed
    assert bool(list(folder.glob("*.py"))) is needed


def test_ours_reads_it_too_and_carries_no_name_of_a_file_that_it_lacks(folder, tokenizer):
    again = Tokenizer.load(folder)
    messages = [{"role": "user", "content": TEXTS[0]}]
    assert again.encode_prompt(messages) == tokenizer.encode_prompt(messages)
    assert "auto_map" not in again.files()["tokenizer_config.json"]
    before = sorted(path.name for path in folder.iterdir())
    save_tokenizer(again, folder)
    assert sorted(path.name for path in folder.iterdir()) == before and auto_reads_alike(folder, tokenizer)
