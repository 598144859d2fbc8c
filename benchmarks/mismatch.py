"""How far the embedded sampler's log-probabilities are from the trainer's, by dtype: one JSON line a pair.

    python benchmarks/mismatch.py FOLDER [--prompts=4] [--group=4] [--tokens=48] [--pairs=float32:float32,...]

FOLDER is a Hugging Face folder with weights and a tokenizer (or "random": a model of random weights, 12 layers of width
256). Prompts are observations of unseen burger kitchens behind the full instructions, as training shows them, with the
model's own chat template. A pair is SAMPLER:TRAINER, the dtypes in which responses are drawn at temperature 1 and in
which they are scored. `mean` and `max` are absolute differences of log-probabilities in nats, over `tokens` drawn
tokens; `kl` is KL(sampler || trainer) and `float32` the mean difference of the trainer from one in float32.
"""

import argparse
import json
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo import envs
from stgrpo.data.padding import pad_rows
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.huggingface.weights import load_folder
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.protocol import instructions_of
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle, render_messages
from stgrpo.rl.mismatch import mismatch_metrics, mismatch_sums
from stgrpo.sampling.base import Samples
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.training.batch import LossTerms
from stgrpo.training.logprobs import response_logprobs
from stgrpo.training.loss import LossInputs, averages
from stgrpo.training.start import abstract_model

PAIRS = ("float32:float32", "bfloat16:bfloat16", "float16:float16", "bfloat16:float32", "float16:float32")
RANDOM = ModelShape(4096, 256, 12, heads=8, kv_heads=2, head_dim=32, mlp_width=1024)


def load(folder: str) -> tuple[Transformer, tuple[int, ...], list[list[int]]]:
    """The model, its stop tokens, and a stream of prompts."""
    if folder == "random":
        rng = np.random.default_rng(0)
        rows = [rng.integers(2, RANDOM.vocab_size, n).tolist() for n in rng.integers(100, 400, 64)]
        return jax.jit(Transformer, static_argnums=0)(RANDOM, jax.random.key(0)), (0,), rows
    tokenizer, environment = Tokenizer.load(folder), envs.get("robotouille")
    style = PromptStyle(instructions="full", history="none", about=instructions_of(environment))
    problems = [environment.make("burger", layout) for layout in environment.benchmark_layouts("burger")]
    shown = [render_messages(p.observation(p.initial_state()), style=style) for p in problems]
    model = load_folder(folder, abstract_model(read_shape(folder), make_mesh(1, devices=jax.devices()[:1])))
    return model, tokenizer.stop_ids, tokenizer.encode_prompts(shown)


def score(model: Transformer, prompts: list[list[int]], samples: Samples, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The trainer's log-probabilities of drawn tokens [B, G, R], and the mask of real ones."""
    prompt_BP, prompt_len_B = pad_rows(prompts)
    rows, lengths = pad_rows([ids for group in samples.tokens for ids in group])
    response_BGR = rows.reshape(len(prompts), -1, rows.shape[1])
    scored = jax.jit(response_logprobs, static_argnames=("temperature", "dtype"))
    logp_BGR, _ = scored(model, prompt_BP, prompt_len_B, response_BGR, dtype=jnp.dtype(dtype))
    mask = (np.arange(rows.shape[1]) < lengths[:, None]).astype(np.float32)
    return np.asarray(logp_BGR), mask.reshape(response_BGR.shape)


def figures(trainer_BGR: np.ndarray, sampler_BGR: np.ndarray, mask_BGR: np.ndarray) -> dict[str, float]:
    """The metrics that a training logs."""
    terms = LossTerms(*(mask_BGR,) * 7, sampler_logp=sampler_BGR)
    sums = mismatch_sums(LossInputs.of(terms, logp=trainer_BGR, entropy=mask_BGR), trainer_BGR)
    return mismatch_metrics({name: float(value) for name, value in averages(sums).items()})


def measure(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """A line a pair."""
    model, stop_ids, prompts = load(options.folder)
    prompts = prompts[: options.prompts]
    for pair in options.pairs.split(","):
        drawn_in, scored_in = pair.split(":")
        sampler = JaxSampler(model, stop_ids, dtype=jnp.dtype(drawn_in))
        params = SamplingParams(options.tokens, 1.0)
        samples = sampler.generate(prompts, options.group, params, range(len(prompts)))
        trainer, mask = score(model, prompts, samples, scored_in)
        drawn = np.zeros_like(mask)
        drawn[mask > 0] = [x for group in samples.logprobs for row in group for x in row]
        found = figures(trainer, drawn, mask)
        exact = trainer if scored_in == "float32" else score(model, prompts, samples, "float32")[0]
        yield {
            "sampler": drawn_in,
            "trainer": scored_in,
            "tokens": int(mask.sum()),
            **{name.removeprefix("mismatch_"): round(value, 8) for name, value in found.items()},
            "float32": round(float(np.abs(trainer - exact)[mask > 0].mean()), 8),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    for line in measure(parser.parse_args()):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
