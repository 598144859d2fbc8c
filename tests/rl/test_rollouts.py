"""Which weights draw which rollout, and that drawing ahead keeps to it, whatever takes how long or fails."""

import dataclasses
import threading
import time

import pytest

from stgrpo.errors import ServerError
from stgrpo.rl.rollouts import PipelinedRollouts, Rollout, RolloutSchedule, SyncRollouts


@dataclasses.dataclass(frozen=True)
class Source:
    version: int


class Engine:
    """Publishes and loads numbers for weights; remembers the order of things, and that no two run at one time."""

    def __init__(self):
        self.version, self.events, self.fail_at = None, [], set()
        self._lock = threading.Lock()

    def publish(self, params, version):
        assert params == f"weights {version}"
        self.events.append(("publish", version))
        return Source(version)

    def load(self, source):
        assert self._lock.acquire(blocking=False)
        self.events.append(("load", source.version))
        self.version = source.version
        self._lock.release()

    def update_weights(self, params, version):
        self.load(self.publish(params, version))

    def draw(self, position):
        assert self._lock.acquire(blocking=False)
        time.sleep(0.002 * (position % 3))
        self.events.append(("draw", position))
        self._lock.release()
        if position in self.fail_at:
            self.fail_at.remove(position)
            raise ServerError("gone")
        return Rollout([self.version], [], position + 10, {})


@pytest.mark.parametrize(
    ("staleness", "start", "versions"),
    [
        (0, 0, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (1, 0, [0, 0, 1, 2, 4, 4, 5, 6, 8]),  # a checkpoint every four steps
        (2, 0, [0, 0, 0, 1, 4, 4, 4, 5, 8]),
        (9, 0, [0, 0, 0, 0, 4, 4, 4, 4, 8]),
        (1, 4, [4, 4, 5, 6, 8]),  # goes on from the checkpoint at 4: the same
        (1, 3, [3, 4, 4, 5, 6, 8]),  # from one out of turn
    ],
)
def test_versions_depend_on_numbers_alone(staleness, start, versions):
    schedule = RolloutSchedule(start, 9, 4, staleness)
    assert [schedule.version(step) for step in range(start, 9)] == versions
    drawn = [step for version in range(start, 9) for step in schedule.drawn_by(version)]
    assert drawn == list(range(start, 9))  # each once, and in order


@pytest.mark.parametrize("staleness", [1, 2, 5])
@pytest.mark.parametrize("failures", [set(), {0}, {30, 60}])
def test_rollouts_come_in_order_from_the_weights_of_the_schedule(staleness, failures):
    engine, schedule, got = Engine(), RolloutSchedule(0, 9, 4, staleness), []
    engine.fail_at = set(failures)
    ahead = PipelinedRollouts(engine, engine, schedule, 0)
    for step in range(9):
        for _ in range(3):
            try:
                rollout = ahead.next(step, f"weights {step}", -1)
                break
            except ServerError:
                engine.version = None  # as after a restart
        got.append((rollout.groups[0], rollout.position))
    ahead.close()
    assert got == [(schedule.version(step), 10 * step + 10) for step in range(9)]


def test_the_next_rollout_is_under_way_while_an_update_runs():
    engine = Engine()
    ahead = PipelinedRollouts(engine, engine, RolloutSchedule(0, 9, 9, 1), 0)
    ahead.next(0, "weights 0", 0)
    deadline = time.monotonic() + 5
    while ("draw", 10) not in engine.events and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ("draw", 10) in engine.events and ("draw", 20) not in engine.events
    ahead.close()


def test_something_else_waits_for_what_was_begun():
    engine = Engine()
    ahead = PipelinedRollouts(engine, engine, RolloutSchedule(0, 9, 9, 2), 0)
    ahead.next(0, "weights 0", 0)
    assert ahead.between(1, "weights 1", lambda: engine.version) == 1
    assert engine.events.index(("draw", 20)) < engine.events.index(("load", 1))
    ahead.next(1, "weights 1", 0)
    ahead.close()
    assert engine.events.count(("publish", 1)) == 1


def test_in_time_every_rollout_is_drawn_by_the_weights_it_updates():
    engine = Engine()
    in_time = SyncRollouts(engine, engine)
    got = [in_time.next(step, f"weights {step}", 10 * step).groups[0] for step in range(4)]
    assert got == [0, 1, 2, 3]
    assert in_time.between(7, "weights 7", lambda: engine.version) == 7
