"""vLLM in a run of several processes: process 0 alone speaks with the servers, and tells the others the outcome.

Weights lie on the devices of all processes: all of them gather each tensor, and process 0 writes it.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from stgrpo import processes
from stgrpo.models.huggingface.weights import named_pieces
from stgrpo.models.transformer import Transformer
from stgrpo.processes.exchange import tell
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.base import Item, Sampler, Samples
from stgrpo.sampling.vllm.sampler import VllmSampler
from stgrpo.sampling.vllm.weight_sync import Published

Result = TypeVar("Result")
_CHANNEL = "sampler"  # of its own: a thread may draw while the main thread trains


class LeaderSampler:
    """See `VllmSampler`. All processes call it with the same arguments; errors of process 0 are raised in all.

    Args:
        inner: the sampler, in process 0; None in the others.
        dtype: in which the model is served.
    """

    def __init__(self, inner: VllmSampler | None, dtype: str):
        self._inner, self._dtype = inner, dtype
        self.version: int | None = None

    def generate(
        self, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Samples:
        """See `VllmSampler.generate`."""
        return self.at_first(lambda inner: inner.generate(prompts, group_size, params, seeds))

    def each(self, items: Sequence[Item], work: Callable[[Sampler, Sequence[Item]], list[Result]]) -> list[Result]:
        """See `Shared.each`: process 0, who has the servers, does it all."""
        return self.at_first(lambda inner: work(inner, items))

    def update_weights(self, params: Transformer, version: int) -> None:
        """See `VllmSampler.update_weights`."""
        if self.version != version:
            self.load(self.publish(params, version))

    def publish(self, params: Transformer, version: int) -> Published:
        """See `VllmSampler.publish`. All processes take part in gathering each tensor, in the same order."""
        written = None
        if self._inner is not None:
            written = self._inner.publish(params, version)
        else:
            for _ in named_pieces(params, self._dtype):
                pass
        return tell(lambda: _there(written), channel="weights")

    def load(self, published: Published) -> None:
        """See `VllmSampler.load`."""
        self.version = None
        self.at_first(lambda inner: inner.load(published))
        self.version = published.version

    def at_first(self, work: Callable[[VllmSampler], Result]) -> Result:
        """What process 0 makes with its sampler, in all processes."""
        return tell(lambda: work(_there(self._inner)), channel=_CHANNEL)

    def recovered(self, recover: Callable[[VllmSampler], None]) -> None:
        """Lets process 0 take its servers again."""
        self.at_first(recover)
        self.version = self.at_first(lambda inner: inner.version)

    def close(self) -> None:
        """See `VllmSampler.close`."""
        if processes.is_first():
            _there(self._inner).close()


def _there(value: Result | None) -> Result:
    if value is None:
        raise AssertionError("only process 0 has it")
    return value
