"""The page docs/other_trainers.md: its table of columns, and its script for TRL, by which a tiny model is trained."""

import collections
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from commands import call
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.models.huggingface.tokenizer import save_tokenizer
from stgrpo.react.response import format_response
from stgrpo.react.reward import GroundTruth

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "other_trainers.md").read_text(encoding="utf-8")
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"
SMALLER = {
    "max_steps=160": "max_steps=2",
    "per_device_train_batch_size=32": "per_device_train_batch_size=16",
    "gradient_accumulation_steps=4": "gradient_accumulation_steps=2",
    "warmup_steps=8": "warmup_steps=0",
    "max_completion_length=48": "max_completion_length=24",
    "logging_steps=1": "logging_steps=1, log_completions=True",
}


@pytest.fixture
def trl():
    """The folder that TRL and what it needs are in: $STGRPO_TRL, or .trl."""
    folder = pathlib.Path(os.environ.get("STGRPO_TRL") or REPOSITORY / ".trl")
    if not (folder / "trl").is_dir():
        pytest.skip(f"no TRL: {folder} is not there (make slow brings it)")
    return folder


def script(name: str) -> str:
    """A file of the page."""
    return re.search(rf"^```python {re.escape(name)}\n(.*?)^```$", PAGE, re.M | re.S)[1]


def test_the_page_has_every_column_and_no_other(tmp_path):
    assert call("collect", SMOKE, f"--workdir={tmp_path}", "--config.expert.trajectories=1") == 0
    assert call("export-data", f"--workdir={tmp_path}", "--format=jsonl") == 0
    row = json.loads((tmp_path / "export" / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    table = re.search(r"\| column \| \|\n\|[-|]+\n(.*?)\n\n", PAGE, re.S)[1]
    named = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines()]
    assert [name for names in named for name in names] == list(row)
    truth = re.search(r"`ground_truth` has (.*?)\. Another", PAGE, re.S)[1]
    assert set(json.loads(row["reward_model"]["ground_truth"])) == set(re.findall(r"`(\w+)`", truth))


def test_what_is_not_run_can_be_read():
    compile(script("stgrpo_problems/stgrpo_problems/__init__.py"), "page", "exec")
    for text in re.findall(r"^```toml \S+\n(.*?)^```$", PAGE, re.M | re.S):
        assert tomllib.loads(text)


def write_model(folder: pathlib.Path, tokenizer: Tokenizer, action: str) -> None:
    """A random Qwen2 whose next token depends on the last alone: it gives an answer with the action, or none.

    Embeddings are the identity and attention and MLP add nothing yet, so the output matrix is a table of what follows.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    size = -(-tokenizer.vocab_size // 64) * 64
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.end_of_turn_id,
    )
    model = Qwen2ForCausalLM(config)
    first = tokenizer.encode_prompt([{"role": "user", "content": "?"}])[-1]
    path = [first, *tokenizer.encode_response(format_response("so.", action))]
    assert len(set(path)) == len(path)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        for token, after in [*itertools.pairwise(path), (first, path[-1])]:
            model.lm_head.weight[after, token] = 30 / size**0.5
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


@pytest.mark.slow
def test_trl_trains_by_the_script_of_the_page_and_rewards_as_we_do(trl, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run, model = tmp_path / "runs" / "tiny", tmp_path / "models" / "tiny_sft"
    assert call("collect", SMOKE, f"--workdir={run}") == 0
    assert call("export-data", f"--workdir={run}") == 0
    rows = parquet.read_table(run / "export" / "train.parquet").to_pylist()
    truths = {row["messages"][-1]["content"]: json.loads(row["reward_model"]["ground_truth"]) for row in rows}
    ((action, _),) = collections.Counter(action for row in rows for action in row["valid_actions"]).most_common(1)
    tokenizer = Tokenizer.load(run / "tokenizer")
    write_model(model, tokenizer, action)
    before = load_file(model / "model.safetensors")

    train(tmp_path, trl)

    files = sorted((tmp_path / "trl" / "completions").iterdir())
    drawn = [sample for file in files for sample in parquet.read_table(file).to_pylist()]
    assert len(drawn) == 2 * 2 * 16
    for sample in drawn:
        text = sample["completion"][-1]["content"]
        ours = GroundTruth(**truths[sample["prompt"][-1]["content"]]).reward(text).total
        assert sample["trl_reward"] == pytest.approx(ours, abs=1e-6)
    assert {0.0, 0.1} <= {round(sample["trl_reward"], 6) for sample in drawn}
    after = load_file(tmp_path / "trl" / "model.safetensors")
    assert np.abs(after["lm_head.weight"] - before["lm_head.weight"]).max() > 1e-5
    prompts = AutoTokenizer.from_pretrained(tmp_path / "trl")
    for row in rows[:5]:
        ids = prompts.apply_chat_template(row["messages"], add_generation_prompt=True)["input_ids"]
        assert ids == tokenizer.encode_prompt(row["messages"])


def train(folder: pathlib.Path, trl: pathlib.Path) -> None:
    """Runs the page's script in a folder, smaller, in an interpreter that knows TRL and not this package."""
    text = script("train_trl.py")
    for page, here in SMALLER.items():
        assert page in text
        text = text.replace(page, here)
    (folder / "train_trl.py").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(trl), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    command = [sys.executable, "train_trl.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
