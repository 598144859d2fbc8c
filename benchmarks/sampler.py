"""Time of sampling, ours against google-tunix, in one run: one JSON line a figure.

    python benchmarks/sampler.py [--peer-python=PATH] [--repeats=3] [--only=groups,single,greedy]

The model is that of train_step.py, the same weights on both sides. `groups`: 64 tokens for each of 8 responses to 8
prompts of 512 tokens, at temperature 1, log-probabilities included, no end token. `single`: the same for 64 different
prompts, so without a prefix to share. `greedy`: what both decode at temperature 0, which must be the same tokens.

Without --peer-python only our figures are printed. The peer needs an environment of its own:

    python -m venv peer && peer/bin/pip install "google-tunix<0.2"        then --peer-python=peer/bin/python
"""

import dataclasses
import functools

import jax
import numpy as np
from peer import SHAPE, B, G, P, Peer, R, compare, in_turns, parse, say, scratch

from stgrpo.models.transformer import Transformer
from stgrpo.rollout.base import SamplingParams
from stgrpo.rollout.jax_sampler import JaxSampler


@functools.cache
def model() -> Transformer:
    return jax.jit(Transformer, static_argnums=0)(SHAPE, jax.random.key(0))


def prompts(count: int, length: int = P) -> np.ndarray:
    rows = np.random.default_rng(0).integers(2, SHAPE.vocab_size, (count, length), np.int32)
    rows[:, 0] = 1  # what the peer puts before every prompt
    return rows


def sampling_figure(name: str, count: int, group: int, peer: Peer | None, repeats: int) -> None:
    """Prints the time of `group` responses to each of `count` prompts."""
    sampler, rows = JaxSampler(model(), stop_ids=()), prompts(count).tolist()
    ours = functools.partial(sampler.generate, rows, group, SamplingParams(R), list(range(count)))
    theirs = None
    if peer:
        ask(peer, prompts(count), group)
        theirs = functools.partial(peer.ask, "run")
    say(name, **compare(*in_turns(ours, theirs, repeats)))


def ask(peer: Peer, rows: np.ndarray, group: int) -> None:
    place = scratch()
    batch = place.save("prompts", prompt=rows, group=np.int32(group))
    shape = dataclasses.asdict(SHAPE)
    peer.ask("sample", shape=shape, weights=place.weights(model()), batch=batch, tokens=R)


def greedy_figure(peer: Peer) -> None:
    """Prints how many of the tokens that both decode greedily are the same."""
    rows = prompts(B)
    ours = JaxSampler(model(), stop_ids=()).generate(rows.tolist(), 1, SamplingParams(R, 0.0), [0] * B)
    ask(peer, rows, 1)
    theirs = peer.ask("run", temperature=0.0)["result"]
    same = [np.mean(np.equal(mine, other)) for (mine,), other in zip(ours.tokens, theirs, strict=True)]
    say("greedy", same_tokens=float(np.mean(same)))


def main() -> None:
    """Prints all figures, or those asked for."""
    arguments = parse(__doc__)
    wanted = arguments.only.split(",") if arguments.only else ["groups", "single", "greedy"]
    peer = Peer(arguments.peer_python) if arguments.peer_python else None
    if "groups" in wanted:
        sampling_figure("groups", B, G, peer, arguments.repeats)
    if "single" in wanted:
        sampling_figure("single", B * G, 1, peer, arguments.repeats)
    if "greedy" in wanted and peer:
        greedy_figure(peer)
    if peer:
        peer.close()


if __name__ == "__main__":
    main()
