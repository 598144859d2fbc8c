"""Time of sampling, ours against google-tunix, in one run: one JSON line a figure.

    python benchmarks/sampler.py [--peer-python=PATH] [--repeats=3] [--only=groups,single,greedy,depth]

The model is that of train_step.py, the same weights on both sides. `groups`: 64 tokens for each of 8 responses to 8
prompts of 512 tokens, at temperature 1, log-probabilities included, no end token. `single`: the same for 64 different
prompts, so without a prefix to share. `greedy`: what both decode at temperature 0, which must be the same tokens.
`depth`: what tracing and compiling the programs of `groups` takes for 4 and for 28 layers, of width 64.

Without --peer-python only our figures are printed. The peer needs an environment of its own:

    python -m venv peer && peer/bin/pip install "google-tunix<0.2"        then --peer-python=peer/bin/python
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from peer import SHAPE, B, G, P, Peer, R, Seconds, compare, in_turns, parse, say, scratch, timed

from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.decode import (
    DecodeShape,
    NewPrompts,
    decode,
    decode_weights,
    empty_slots,
    prefill_prompts,
    take_layer,
)
from stgrpo.sampling.jax.sampler import JaxSampler


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


def depth_figure(repeats: int) -> None:
    """Prints the CPU seconds of tracing and compiling, least of several, by program and number of layers."""
    shapes = [dataclasses.replace(SHAPE, depth=n, width=64, head_dim=16, mlp_width=256) for n in (4, 28)]
    runs = [[compiling(shape) for shape in shapes] for _ in range(repeats)]
    for at, shape in enumerate(shapes):
        least = {name: min(run[at][name] for run in runs) for name in runs[0][at]}
        say("depth", layers=shape.depth, **least, all_cpu_s=sum(least.values()))


def compiling(shape: ModelShape) -> Seconds:
    jax.clear_caches()
    decoding = DecodeShape(G, P, (), SamplingParams(R), jnp.dtype("float32"))
    model = jax.eval_shape(lambda: Transformer(shape, jax.random.key(0)))
    slots = jax.eval_shape(functools.partial(empty_slots, shape, B, decoding))
    weights = jax.eval_shape(functools.partial(decode_weights, dtype=decoding.dtype), model)
    new = NewPrompts(prompts(B), np.full(B, P), np.zeros(B, np.uint32), np.arange(B))
    filled = jax.eval_shape(functools.partial(prefill_prompts, room=P, dtype=decoding.dtype), model, new)
    programs = {
        "weights": lambda: take_layer.lower(model.layers, np.int32(0), model.shape, decoding.dtype),
        "prefill": lambda: prefill_prompts.lower(model, new, P, decoding.dtype),
        "decode": lambda: decode.lower(weights, slots, filled, np.int32(1), decoding),
    }
    return {
        f"{name}_cpu_s": timed(lambda lower=lower: lower().compile() and 0)["cpu_s"] for name, lower in programs.items()
    }


def main() -> None:
    """Prints all figures, or those asked for."""
    arguments = parse(__doc__)
    wanted = arguments.only.split(",") if arguments.only else ["groups", "single", "greedy", "depth"]
    peer = Peer(arguments.peer_python) if arguments.peer_python else None
    if "groups" in wanted:
        sampling_figure("groups", B, G, peer, arguments.repeats)
    if "single" in wanted:
        sampling_figure("single", B * G, 1, peer, arguments.repeats)
    if "greedy" in wanted and peer:
        greedy_figure(peer)
    if "depth" in wanted:
        depth_figure(arguments.repeats)
    if peer:
        peer.close()


if __name__ == "__main__":
    main()
