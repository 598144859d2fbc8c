"""Collection looks at the length of every prompt that it can know, and says what to set before anything is trained."""

import pathlib

import pytest
from commands import call

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"


@pytest.mark.parametrize("limit", ["prompt", "response"])
def test_an_example_over_a_limit_is_refused(limit, tmp_path, capsys):
    assert call("collect", SMOKE, f"--workdir={tmp_path / 'w'}", f"--config.limits.{limit}=20") == 2
    error = capsys.readouterr().err
    assert f"is longer than limits.{limit}=20: set --config.limits.{limit} to at least" in error
    assert error.rstrip().endswith("in another --workdir, since this one is of the old limit")


def test_of_an_episode_over_the_limit_a_warning_is_given(tmp_path, caplog):
    """The benchmark's kitchens are larger than those that are trained in."""
    suites = ("--config.limits.prompt=200", "--config.evaluation.suites=('unseen', 'benchmark')")
    assert call("collect", SMOKE, f"--workdir={tmp_path / 'w'}", *suites) == 0
    (said,) = [record.getMessage() for record in caplog.records if "limits.prompt" in record.getMessage()]
    assert said.startswith("the first prompt of burger ") and "(benchmark) has " in said


@pytest.mark.parametrize("environment", ["webshop", "alfworld"])
def test_data_that_are_named_are_to_be_there_even_for_layouts_that_need_none(environment, tmp_path, capsys):
    config = SMOKE.replace("tiny.py", f"{environment}.py")
    assert call("collect", config, f"--workdir={tmp_path / 'w'}", f"--config.env.data={tmp_path / 'none'}") == 2
    assert capsys.readouterr().err.startswith(f"stgrpo: env.data='{tmp_path / 'none'}' is not there: correct it")
