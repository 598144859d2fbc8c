"""Episodes on disk one by one: back unchanged, whatever a kill cut off."""

import os

import pytest

from stgrpo.errors import RunError, UserError
from stgrpo.evaluation.journal import Journal, Usage, usage
from stgrpo.evaluation.records import Episode, TurnRecord

SETTINGS = {"model": "m", "tasks": ("burger",), "temperature": 0.7}


def episode(layout="small:1", turns=2):
    turn = dict(attempt=0, observation="at “1”\u2028", response="x", action=None, failure="reasoning", expert="Go")
    judged = dict(exact=False, optimal=False, distance=3, finish="stop", n_prompt_tokens=10, n_tokens=4)
    played = tuple(TurnRecord(step=i, **turn, **judged) for i in range(turns))
    return Episode("burger", layout, False, turns, 15, "format", 8, played, "the end")


def test_round_trip(tmp_path):
    path = tmp_path / "a" / "j.jsonl"
    journal = Journal(path, SETTINGS)
    added = {("burger", f"small:{i}", i % 2): episode(f"small:{i}", turns=i) for i in range(4)}
    for key, value in added.items():
        journal.add(key, value)
        assert path.read_bytes().endswith(b"\n")  # on disk before the next is played
    journal.close()
    again = Journal(path, SETTINGS)
    assert again.episodes == added
    again.delete()
    assert not path.exists()


@pytest.mark.parametrize("lost", [1, 40, 10**6])
def test_a_line_that_was_cut_off_is_dropped_and_written_over(tmp_path, lost):
    path = tmp_path / "j.jsonl"
    journal = Journal(path, SETTINGS)
    journal.add(("burger", "small:1", 0), episode())
    before = path.read_bytes()
    journal.add(("burger", "small:2", 0), episode("small:2"))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - lost, 5)])
    again = Journal(path, SETTINGS)
    assert set(again.episodes) == ({("burger", "small:1", 0)} if lost < 10**6 else set())
    again.add(("burger", "small:2", 0), episode("small:2"))
    again.close()
    if lost < 10**6:
        assert path.read_bytes() == whole and whole.startswith(before)
    assert ("burger", "small:2", 0) in Journal(path, SETTINGS).episodes


def test_other_settings_are_named(tmp_path):
    Journal(tmp_path / "j", SETTINGS).close()
    with pytest.raises(UserError, match=r"temperature: 0.0 here, 0.7 there\): finish that, or move the file away"):
        Journal(tmp_path / "j", {**SETTINGS, "temperature": 0.0})


def test_damage_is_named(tmp_path):
    path = tmp_path / "j"
    Journal(path, SETTINGS).close()
    path.write_bytes(path.read_bytes() + b"{nonsense}\n")
    with pytest.raises(UserError, match="j:2 is not JSON"):
        Journal(path, SETTINGS)


def test_an_episode_of_another_version_is_named(tmp_path):
    path = tmp_path / "j"
    Journal(path, SETTINGS).close()
    path.write_bytes(path.read_bytes() + b'{"try": 0, "episode": {"task": "burger"}, "turns": []}\n')
    with pytest.raises(UserError, match="another version"):
        Journal(path, SETTINGS)


def test_tokens_are_added_up_and_priced():
    used = usage([episode(turns=2), episode(turns=3)])
    assert used == Usage(requests=5, prompt_tokens=50, completion_tokens=20)
    assert used.cost(2.0, 10.0) == pytest.approx((50 * 2 + 20 * 10) / 1e6)


def test_a_line_that_a_full_disk_cut_off_is_followed_by_none(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j", SETTINGS)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(RunError, match=r"j takes no more \(No space left on device\): what .* stands; make room"):
            journal._append({"episode": 1})
    with pytest.raises(RunError, match="takes no more"):
        journal._append({"episode": 2})
    journal.close()
    assert b"2}" not in (tmp_path / "j").read_bytes()
