"""Numbers that are none: found in the update, said in one line, and never saved; also what was saved by others."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import call

from stgrpo.errors import DamagedCheckpoint, RunError
from stgrpo.models.finite import are_finite
from stgrpo.models.lora import Lora
from stgrpo.models.random import random_key
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training import checkpointing
from stgrpo.training.checkpointing import CheckpointMetadata, Checkpoints, load_metadata, load_params
from stgrpo.training.divergence import NotFinite, finite_metrics
from stgrpo.training.loss import Loss, token_sums
from stgrpo.training.optimiser import OptimiserSettings, make_optimiser
from stgrpo.training.start import abstract_model
from stgrpo.training.step import build_program

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"
PLAIN = OptimiserSettings(1e-3, 0, 10, schedule="constant", clip_norm=0.0)


@pytest.fixture(scope="module")
def build(tiny_shape):
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])

    def made(loss=None, **options):
        return build_program(tiny_shape, mesh, make_optimiser(PLAIN), loss=loss or make_loss("sft"), **options)

    return made


def poisoned(tree, value=jnp.nan):
    """The tree with one number of its first array of numbers replaced."""
    leaves, form = jax.tree.flatten(tree)
    at = next(i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating))
    leaves[at] = leaves[at].at[(0,) * leaves[at].ndim].set(value)
    return form.unflatten(leaves)


def a_batch(make_groups, size=4):
    return make_groups([5] * size, [[4, 3]] * size)


def own_loss(inputs):
    """A loss whose figure alone is none."""
    return -jnp.sum(inputs.logp * inputs.weight), token_sums(inputs, mine=jnp.full_like(inputs.logp, jnp.inf))


def test_a_sound_update_says_nothing_of_the_flags(build, make_groups):
    program = build()
    _, metrics = program.update(program.init(random_key(0)), a_batch(make_groups))
    values = finite_metrics(metrics)
    assert "loss" in values and not any(name.endswith("_finite") for name in values)


@pytest.mark.parametrize("where", ["params", "optimiser", "adapters", "micro-batch", "loss", "figure"])
def test_an_update_with_numbers_that_are_none_is_told_from_others(build, make_groups, where):
    options, batch = {}, a_batch(make_groups)
    if where == "adapters":
        options["lora"] = Lora(2, 4.0)
    if where == "micro-batch":
        options["micro_batches"] = 2
    if where == "loss":
        options["loss"] = Loss(lambda inputs: (jnp.sum(inputs.logp) * jnp.nan, token_sums(inputs)))
    if where == "figure":
        options["loss"] = Loss(own_loss)
    program = build(**options)
    state = program.init(random_key(0))
    if where in ("params", "adapters"):
        state = dataclasses.replace(state, params=poisoned(state.params))
    if where == "optimiser":
        state = dataclasses.replace(state, opt_state=poisoned(state.opt_state, jnp.inf))
    if where == "micro-batch":
        weight = np.array(batch.weight_BGR)
        weight[1, 0, 0] = np.inf
        batch = dataclasses.replace(batch, weight_BGR=weight)
    _, metrics = program.update(state, batch)
    said = {"figure": "mine=inf", "optimiser": "optimiser", "micro-batch": "loss=inf"}.get(where, "loss=nan")
    with pytest.raises(NotFinite, match=said) as caught:
        finite_metrics(metrics, 3)
    assert caught.value.update == 3


def test_what_is_not_finite_is_neither_saved_nor_read(build, tmp_path, tiny_shape, monkeypatch):
    program, checkpoints = build(), Checkpoints(tmp_path / "sft", keep=5)
    record = CheckpointMetadata("sft", 1, 9, tiny_shape, {}, {})
    state = program.init(random_key(0))
    checkpoints.save(state, record)
    second = dataclasses.replace(record, step=2)
    for part in ("params", "opt_state"):
        bad = dataclasses.replace(state, **{part: poisoned(getattr(state, part))})
        with pytest.raises(RunError, match="sft step 2 has numbers that are not finite"):
            checkpoints.save(bad, second)
    assert checkpoints.steps() == [1]
    with monkeypatch.context() as older:  # that did not look
        older.setattr(checkpointing, "are_finite", lambda tree: True)
        checkpoints.save(dataclasses.replace(state, params=poisoned(state.params)), second)
        checkpoints.save(
            dataclasses.replace(state, opt_state=poisoned(state.opt_state)), dataclasses.replace(record, step=3)
        )
    assert checkpoints.steps() == [1, 2, 3]
    assert checkpoints.restore(program.abstract)[1].step == 1
    with pytest.raises(DamagedCheckpoint, match="not finite"):
        load_params(tmp_path / "sft" / "2", program.model)
    checkpoints.close()


BREAKING = """
import jax.numpy as jnp
from stgrpo.rl.losses import sft_loss

def below(inputs, coefficients):
    total, figures = sft_loss(inputs, coefficients)
    return jnp.where(figures["response_loss"] / figures["tokens"] < 6.9, jnp.nan, total), figures
"""


def test_a_run_that_diverges_stops_before_it_saves(tmp_path, monkeypatch, capsys):
    (tmp_path / "breaking.py").write_text(BREAKING)
    monkeypatch.chdir(tmp_path)
    workdir, folder = tmp_path / "w", tmp_path / "w" / "checkpoints" / "sft"
    options = [SMOKE, f"--workdir={workdir}", "--config.sft.loss=breaking:below", "--config.sft.steps=40"]
    options += ["--config.sft.checkpoint_every=1", "--config.sft.keep=100"]
    assert call("collect", *options) == 0
    capsys.readouterr()
    assert call("sft", *options) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("stgrpo: ")]
    steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = max(x["step"] for x in lines if x["stage"] == "sft")
    assert steps[-1] == last >= 1
    for part in (
        f"sft step {last + 1}: loss=nan",
        f"last finite step is {last}",
        f"sft/{last}",
        "burger",
        "a lower sft.lea",
    ):
        assert part in line, line
    (report,) = (workdir / "faults").iterdir()
    assert line.endswith(f" (report: {report})") and report.name.endswith("-sft-process-0.txt")
    assert f"the last finite step is {last}" in report.read_text() and '"sft", "step": ' in report.read_text()
    assert "NaN" not in (workdir / "metrics.jsonl").read_text()
    abstract = abstract_model(load_metadata(folder / str(last)).shape, make_mesh(1, 1, 1, jax.devices()[:1]))
    assert are_finite(load_params(folder / str(last), abstract))
