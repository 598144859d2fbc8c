"""Rollouts of the GRPO stage: groups drawn and rewarded, in time or ahead of their update."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar, runtime_checkable

from ml_collections import ConfigDict

from stgrpo.data.examples import Example, stream_indices
from stgrpo.errors import ServerError
from stgrpo.models.transformer import Transformer
from stgrpo.react.overlong import Overlong
from stgrpo.react.policy import SamplingParams
from stgrpo.react.reward import RewardWeights
from stgrpo.rl.group_batch import Group, score
from stgrpo.sampling.base import Sampler, mix_seed
from stgrpo.sampling.vllm.weight_sync import Published
from stgrpo.training.context import RunContext
from stgrpo.training.timer import Timer

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What one rollout brought.

    Attributes:
        groups: to train on.
        drawn: all groups, those that are not trained on too.
        position: in the stream of examples, after them.
        seconds: that its parts took.
        figures: of what was drawn, beside those of its groups (`rollout_metrics`), and in the place of some.
    """

    groups: list[Group]
    drawn: list[Group]
    position: int
    seconds: dict[str, float]
    figures: dict[str, float] = dataclasses.field(default_factory=dict)


class Drawing(Protocol):
    """What rollouts come from: a function of policy, seed and position alone."""

    def draw(self, position: int) -> Rollout:
        """The rollout at a position in the stream of what is learned from."""
        ...


class Signalling(Protocol):
    """What is drawn again where it teaches nothing."""

    @property
    def has_signal(self) -> bool:
        """Whether something follows from it."""
        ...


Drawn = TypeVar("Drawn", bound=Signalling)


def draw_with_signal(
    fetch: Callable[[int, int], list[Drawn]], position: int, c: ConfigDict
) -> tuple[list[Drawn], list[Drawn]]:
    """What is trained on of the stream from a position, and all that was drawn for it.

    With `grpo.resample` what has no signal is replaced by what comes next, that many times; what is then still missing
    is filled with what has none.

    Args:
        fetch: draws what stands at a position, so much of it.
        position: in the stream.
        c: the section `grpo`.
    """
    kept, drawn = [], []
    for _ in range(c.resample + 1):
        fresh = fetch(position + len(drawn), c.prompts - len(kept))
        drawn += fresh
        kept += [each for each in fresh if each.has_signal or not c.resample]
        if len(kept) == c.prompts:
            break
    idle = (each for each in drawn if not each.has_signal)
    return kept + list(itertools.islice(idle, c.prompts - len(kept))), drawn


class Rollouts:
    """Draws and rewards groups from the stream of examples: a function of policy, seed and position alone."""

    def __init__(self, setting: RunContext, examples: list[Example], sampler: Sampler):
        c = setting.config
        self._setting, self._examples, self._sampler = setting, examples, sampler
        self._params = SamplingParams(c.limits.response, c.grpo.temperature, c.grpo.top_p, c.grpo.top_k)
        self._weights = RewardWeights(c.reward.format, c.reward.action)
        buffer, penalty = c.reward.overlong_buffer, c.reward.overlong_penalty
        self._overlong = Overlong(c.limits.response, buffer, penalty) if buffer else None

    def draw(self, position: int) -> Rollout:
        """The rollout at a position; see `draw_with_signal`."""
        timer = Timer()
        kept, drawn = draw_with_signal(functools.partial(self._score, timer), position, self._setting.config.grpo)
        return Rollout(kept, drawn, position + len(drawn), timer.seconds)

    def _score(self, timer: Timer, position: int, count: int) -> list[Group]:
        c, tokenizer = self._setting.config, self._setting.tokenizer
        rows = stream_indices(len(self._examples), position, count, c.seed + 1)
        examples = [self._examples[i] for i in rows]
        seeds = [mix_seed(c.seed, position + i) for i in range(count)]
        with timer.part("sample"):
            samples = self._sampler.generate([e.prompt_ids for e in examples], c.grpo.group_size, self._params, seeds)
        with timer.part("reward"):
            texts = [[tokenizer.decode(ids) for ids in group] for group in samples.tokens]
            groups = score(examples, samples, texts, target=c.reward.target, weights=self._weights)
            return [group.shortened(self._overlong) for group in groups] if self._overlong else groups


@dataclasses.dataclass(frozen=True)
class RolloutSchedule:
    """Which weights draw which rollout: a matter of numbers alone, never of time.

    The rollout of step s is drawn with the weights of step s - staleness, but not with weights from before the last
    checkpoint: there nothing is under way, so that a run that goes on from it draws the same.

    Attributes:
        start: first step of this process; a checkpoint was written before it.
        total: steps of the run.
        period: steps between checkpoints.
        staleness: updates at most between the weights that draw a rollout and those that it updates.
    """

    start: int
    total: int
    period: int
    staleness: int

    def version(self, step: int) -> int:
        """The weights that draw the rollout of a step."""
        return max(step - self.staleness, step // self.period * self.period, self.start)

    def drawn_by(self, version: int) -> list[int]:
        """The steps whose rollouts some weights draw."""
        last = min(self.total, version + self.staleness + 1)
        return [step for step in range(version, last) if self.version(step) == version]


class SyncRollouts:
    """Each rollout is drawn when it is needed, by the weights that it updates."""

    def __init__(self, rollouts: Drawing, sampler: Sampler):
        self._rollouts, self._sampler = rollouts, sampler

    def next(self, step: int, params: Transformer, position: int) -> Rollout:
        """The rollout of a step.

        Args:
            step: updates so far.
            params: after them.
            position: in the stream of examples.
        """
        self._sampler.update_weights(params, step)
        return self._rollouts.draw(position)

    def between(self, version: int, params: Transformer, work: Callable[[], Result]) -> Result:
        """Does something else with the sampler, with these weights."""
        self._sampler.update_weights(params, version)
        return work()

    def close(self) -> None:
        """Nothing is under way."""


@runtime_checkable
class Publishing(Sampler, Protocol):
    """A sampler that next weights are written for while it draws with others: that of servers."""

    @property
    def version(self) -> int | None:
        """Of the weights that it draws with; None where that is not certain."""
        ...

    def publish(self, params: Transformer, version: int) -> Published:
        """Writes parameters, which do not have to be kept after that."""
        ...

    def load(self, published: Published) -> None:
        """Makes the next `generate` draw from what was written."""
        ...


class PipelinedRollouts:
    """Rollouts are drawn while updates run, in one other thread and in order; see `RolloutSchedule`.

    After an error nothing further is drawn, and the next call begins again with what failed.
    """

    def __init__(self, rollouts: Drawing, sampler: Publishing, schedule: RolloutSchedule, position: int):
        """Draws nothing yet.

        Args:
            rollouts: what draws.
            sampler: the one it draws with.
            schedule: which weights draw which rollout.
            position: of the first rollout in the stream of examples.
        """
        self._rollouts, self._sampler, self._schedule = rollouts, sampler, schedule
        self._position, self._broken = position, False
        self._sources: dict[int, Published] = {}  # rollouts that were not given out yet, and the weights for them
        self._last: Published | None = None
        self._futures: dict[int, Future[Rollout]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollout")

    def next(self, step: int, params: Transformer, position: int) -> Rollout:
        """See `SyncRollouts.next`; the position is known here."""
        due = [s for s in self._schedule.drawn_by(step) if s not in self._sources]
        if due:
            self._sources |= dict.fromkeys(due, self._publish(params, step))
        for other, published in self._sources.items():
            if other not in self._futures:
                self._futures[other] = self._thread.submit(self._draw, published)
        rollout = self._result(self._futures[step])
        del self._sources[step], self._futures[step]
        return rollout

    def between(self, version: int, params: Transformer, work: Callable[[], Result]) -> Result:
        """See `SyncRollouts.between`; what was begun before is ended first."""
        return self._result(self._thread.submit(self._with, self._publish(params, version), work))

    def close(self) -> None:
        """Draws nothing further; what is under way ends with the sampler."""
        self._broken = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _publish(self, params: Transformer, version: int) -> Published:
        if self._last is None or self._last.version != version:
            self._last = self._sampler.publish(params, version)
        return self._last

    def _draw(self, published: Published) -> Rollout:
        rollout = self._with(published, lambda: self._rollouts.draw(self._position))
        self._position = rollout.position
        return rollout

    def _with(self, published: Published, work: Callable[[], Result]) -> Result:
        if self._broken:
            raise ServerError("what was drawn before this failed")
        try:
            if self._sampler.version != published.version:
                self._sampler.load(published)
            return work()
        except BaseException:
            self._broken = True
            raise

    def _result(self, future: Future[Result]) -> Result:
        try:
            return future.result()
        except Exception:
            wait(self._futures.values())
            failed = [step for step, f in self._futures.items() if f.cancelled() or f.exception()]
            for step in failed:
                del self._futures[step]
            self._broken = False
            raise
