"""The loss that docs/losses.md shows is a loss: it is taken from the page, found by its import path, and trains."""

import dataclasses
import json
import pathlib
import re
import shlex

import jax
import numpy as np

from stgrpo.cli import main
from stgrpo.rl.losses import Coefficients, find_loss
from stgrpo.training.batch import LossTerms
from stgrpo.training.loss import LossInputs

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "losses.md").read_text(encoding="utf-8")


def write_example(folder):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (folder / "my_losses.py").write_text(example, encoding="utf-8")


def test_the_page_names_every_field_of_the_inputs():
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## What a loss may look at")[2].partition("\n## ")[0]))
    assert {field.name for field in dataclasses.fields(LossInputs)} <= named


def test_the_example_is_the_gradient_that_it_says(tmp_path, monkeypatch):
    write_example(tmp_path)
    monkeypatch.chdir(tmp_path)
    loss = find_loss("my_losses:sapo")
    logp, old = np.log([[0.9, 0.5]]).astype(np.float32), np.log([[0.3, 0.5]]).astype(np.float32)
    mask, adv = np.ones_like(logp), np.array([[2.0, -1.0]], np.float32)
    terms = dataclasses.replace(LossTerms(*(mask,) * 7, old_logp=old), weight=mask / 2, adv=adv)

    def total(logp):
        return loss(LossInputs.of(terms, logp=logp, entropy=mask), Coefficients(options=(("down", 2.0),)))

    gradient, sums = jax.grad(total, has_aux=True)(logp)
    # The ratio 3 has slope 4 * s * (1 - s) * 3 with s = sigmoid(2); the ratio 1 that of no gate.
    slope = 12 * np.exp(-2) / (1 + np.exp(-2)) ** 2
    np.testing.assert_allclose(gradient, [[-slope * 2.0 / 2, 1.0 / 2]], rtol=1e-5)
    np.testing.assert_allclose(sums["gate"], 4 / (1 + np.exp(-2)) + 1.0, rtol=1e-5)


def test_the_command_of_the_page_runs(tmp_path, monkeypatch):
    """From the folder that holds the example, with fewer steps."""
    write_example(tmp_path)
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"```\nstgrpo (run .*)\n```", PAGE)
    given = [option for option in shlex.split(command) if option.startswith("--config.")]
    assert [o.partition("=")[0] for o in given] == ["--config.grpo.loss", "--config.grpo.loss_options"]
    few = ["--config.sft.steps=1", "--config.grpo.steps=1", "--config.grpo.validate_every=0"]
    for stage in ("collect", "sft", "grpo"):
        main([stage, f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke", "--workdir=run", *few, *given])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (grpo,) = [line for line in lines if line["stage"] == "grpo"]
    assert 1 <= grpo["gate"] <= 2 and "clip_fraction" not in grpo  # at ratio 1 the gate is 2 / sharpness
