"""What an evaluation will be is written down before it is played, and what was not played alike is told apart."""

import json
import pathlib

import pytest

from stgrpo.cli import parse
from stgrpo.evaluation.registration import PROTOCOLS, protocol_of, read_registrations, register
from stgrpo.evaluation.suites import Suite, play_settings
from stgrpo.files import json_digest
from stgrpo.workdir.keys import KEY

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
SUITE = Suite("unseen", "small", "test", 3, ("burger", "cheese_sandwich"))


def config(**fields):
    found = parse(["run", SMOKE, "--dry_run"]).config
    found.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return found


def registered(directory, name="sft_unseen", suite=SUITE, policy="a", **fields):
    c = config(**fields)
    return register(directory, name, c, suite, {"fingerprint": policy, KEY: {"x": 1}, **play_settings(c, suite)})


def test_a_line_a_protocol_and_policy_and_the_first_stays_as_it_is(tmp_path):
    first = registered(tmp_path)
    before = (tmp_path / PROTOCOLS).read_bytes()
    assert registered(tmp_path) == first and (tmp_path / PROTOCOLS).read_bytes() == before
    hashes = [
        first,
        *(registered(tmp_path, policy="b"), registered(tmp_path, evaluation__on_invalid="retry")),
        *(registered(tmp_path, seed=1), registered(tmp_path, suite=Suite("unseen", "small", "test", 4, ("burger",)))),
    ]
    lines = list(read_registrations(tmp_path))
    assert len(set(hashes)) == 5 and [line.hash for line in lines] == hashes
    assert (tmp_path / PROTOCOLS).read_bytes().startswith(before)
    assert lines[0].policy == {"fingerprint": "a", "seed": 0, "limits": {"prompt": 256, "response": 48}}
    assert lines[0].hash == json_digest({"protocol": lines[0].protocol, "policy": lines[0].policy})
    registered(tmp_path, "grpo_unseen")
    assert [line.evaluation for line in read_registrations(tmp_path)][-2:] == ["sft_unseen", "grpo_unseen"]


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"seed": 3}, True),
        ({"limits__prompt": 999, "grpo__kl_coef": 1.0, "prompt__history": "last_action"}, True),
        ({"limits__response": 99}, False),
        ({"evaluation__temperature": 0.5}, False),
        ({"evaluation__on_invalid": "retry"}, False),
        ({"env__failure": 0.1}, False),
    ],
)
def test_a_protocol_is_what_has_to_be_the_same_to_compare_policies(fields, same):
    assert (protocol_of(config(**fields), SUITE) == protocol_of(config(), SUITE)) is same


def test_layouts_count_by_what_they_show_task_by_task(tmp_path, monkeypatch):
    registered(tmp_path)
    registered(tmp_path, suite=Suite("unseen", "small", "test", 3, ("burger",)))
    both, alone = read_registrations(tmp_path)
    assert both.protocol["layouts"]["burger"]["count"] == 3 and both.hash != alone.hash
    assert both.of_task("burger") == alone.of_task("burger") != both.of_task("cheese_sandwich")
    observation = "stgrpo.envs.robotouille.kitchen.engine.RobotouilleProblem.observation"
    monkeypatch.setattr(observation, lambda problem, state: "another kitchen of this name")
    assert protocol_of(config(), SUITE)["layouts"]["burger"] != both.protocol["layouts"]["burger"]


def test_lines_of_another_form_are_passed_over(tmp_path):
    assert list(read_registrations(tmp_path)) == []
    registered(tmp_path)
    text = (tmp_path / PROTOCOLS).read_text()
    (tmp_path / PROTOCOLS).write_text(json.dumps({"stage": "evaluate", "hash": "x"}) + "\n" + text)
    assert len(list(read_registrations(tmp_path))) == 1
