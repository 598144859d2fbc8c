"""`stgrpo plan`: compiles for a mesh without running, and says in one line what does not fit."""

import pathlib
import re

import pytest

from stgrpo.cli import main, parse
from stgrpo.errors import UserError
from stgrpo.plan.update import plan

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"


def test_the_plan_counts_tokens_and_memory_by_itself(capsys):
    main(["plan", SMOKE])
    shown = capsys.readouterr().out
    assert "8 x cpu" in shown and f"{8 * (256 + 4 * 48):,} tokens" in shown
    assert float(re.search(r"arguments ([\d.]+) MiB", shown).group(1)) > 0
    peak, arguments = (float(re.search(rf"{p}([\d.]+) MiB", shown).group(1)) for p in ("a device: ", "arguments "))
    assert peak > arguments


def test_packed_rows_are_planned_for_the_longest_groups():
    text = plan(parse(["plan", SMOKE, "--config.grpo.row_tokens=1024", "--config.grpo.micro_batches=2"]).config)
    # Two groups of 256 + 4 * 48 tokens a row; eight devices in two micro-batches take sixteen rows.
    assert "16 rows of 1024 tokens, 384 of them predicted" in text


def test_fsdp_shrinks_the_arguments():
    def arguments(*overrides: str) -> float:
        text = plan(parse(["plan", SMOKE, *overrides]).config)
        return float(re.search(r"arguments ([\d.]+) MiB", text).group(1))

    assert arguments("--config.mesh.data=1", "--config.mesh.fsdp=8") < 0.5 * arguments()


@pytest.mark.parametrize(("override", "says"), [("mesh.fsdp=3", "mesh data"), ("grpo.prompts=4", "grpo.prompts=4")])
def test_what_does_not_fit_the_mesh_is_said(override, says):
    with pytest.raises(UserError, match=says):
        plan(parse(["plan", SMOKE, f"--config.{override}"]).config)
