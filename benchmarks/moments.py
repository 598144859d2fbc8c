"""What it costs to keep AdamW's moments in bfloat16: one JSON line a setting of b2 and a way of rounding.

    python benchmarks/moments.py [--steps=2000] [--size=4096]

Gradients have a mean of 0.3 standard deviations, sizes over six orders of magnitude, and shrink tenfold over the run.
Over the last tenth of the updates, against AdamW with float32 moments: `error` is the mean relative distance of an
update, `bias` how much longer or shorter it is on average. Rounding to the nearest is what `moment_dtype` does;
stochastic rounding exists only here.
"""

import argparse
import functools
import json

import jax
import jax.numpy as jnp
import optax

ROUNDINGS = ("nearest", "stochastic")
B2 = (0.95, 0.99, 0.999)


def nearest(x: jax.Array, key: jax.Array) -> jax.Array:
    """To the nearest bfloat16."""
    return x.astype(jnp.bfloat16).astype(jnp.float32)


def stochastic(x: jax.Array, key: jax.Array) -> jax.Array:
    """To one of the two bfloat16 beside it, each as likely as the other one is far: right on average."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + (jax.random.bits(key, x.shape, jnp.uint32) & 0xFFFF)
    return jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)


@functools.partial(jax.jit, static_argnames=("b2", "rounding", "steps", "size"))
def compare(b2: float, rounding: str, *, steps: int, size: int) -> tuple[jax.Array, jax.Array]:
    """Error and bias of each update, [steps]."""
    key, adam = jax.random.key(0), optax.scale_by_adam(0.9, b2)
    scale = 10 ** jax.random.uniform(key, (size,), minval=-6, maxval=0)
    store = {"nearest": nearest, "stochastic": stochastic}[rounding]

    def body(states, step):
        noise = jax.random.normal(jax.random.fold_in(key, step), (size,))
        gradient = scale * 10 ** (-step / steps) * (0.3 + noise)
        exact, one = adam.update(gradient, states[0])
        rounded, two = adam.update(gradient, states[1])
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
        two = two._replace(mu=store(two.mu, keys[0]), nu=store(two.nu, keys[1]))
        error = jnp.linalg.norm(exact - rounded) / jnp.linalg.norm(exact)
        return (one, two), (error, jnp.vdot(exact, rounded) / jnp.vdot(exact, exact) - 1)

    start = adam.init(jnp.zeros(size))
    return jax.lax.scan(body, (start, start), jnp.arange(steps))[1]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--size", type=int, default=4096)
    values = parser.parse_args()
    for b2 in B2:
        for rounding in ROUNDINGS:
            error, bias = compare(b2, rounding, steps=values.steps, size=values.size)
            last = -max(1, values.steps // 10)
            figures = {"error": round(float(error[last:].mean()), 5), "bias": round(float(bias[last:].mean()), 5)}
            print(json.dumps({"b2": b2, "rounding": rounding, **figures}), flush=True)


if __name__ == "__main__":
    main()
