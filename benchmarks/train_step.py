"""Time and memory of an update, ours against google-tunix, in one run: one JSON line a figure.

    python benchmarks/train_step.py [--peer-python=PATH] [--repeats=3] [--only=grpo,sft,vocabulary,depth]

The model has 4 layers, width 256, 4 heads, 2 key/value heads, MLP 1024, a tied vocabulary of 4096, float32; both sides
have the same weights, batch, loss and Adam, and their losses are printed to be compared. They run in turns.
`grpo`: loss, gradient and Adam of 8 prompts of 512 tokens with 8 responses of 64, KL and clipping included.
`sft`: 8 rows of 576 tokens, all of them in the loss. `vocabulary`: the memory of a step on 8 rows of 896 with 151,936
tokens, compiled and not run. `depth`: compiling the GRPO step with 28 layers against 4. Memory is what XLA plans for
temporaries (`temp_size_in_bytes`). `remat` is whether layers are computed again in the backward pass (the peer's
`RematConfig` DECODER and NONE).

Without --peer-python only our figures are printed. The peer needs an environment of its own:

    python -m venv peer && peer/bin/pip install "google-tunix<0.2"        then --peer-python=peer/bin/python
"""

import dataclasses
import time

import jax
import numpy as np
import optax
from peer import SHAPE, B, G, P, Peer, R, Scratch, compare, in_turns, parse, say, scratch

from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.training.batch import GroupBatch
from stgrpo.training.loss import Loss
from stgrpo.training.step import TrainProgram, TrainState, build_program

REMAT = {True: "DECODER", False: "NONE"}
COEFFICIENTS = Coefficients(kl_coef=0.001, clip_low=0.2, clip_high=0.2)
SFT, GRPO = make_loss("sft"), make_loss("grpo", COEFFICIENTS)
LARGE = 151_936


class Job:
    """A compiled update of ours and its state."""

    def __init__(self, shape: ModelShape, batch: GroupBatch, *, loss: Loss, remat: bool):
        self.steps = make_steps(shape, loss, remat)
        self.batch = jax.device_put(batch)
        self.losses: list[float] = []
        started = time.process_time()
        compiled = self.steps.update.lower(self.steps.abstract, self.batch).compile()
        self.compile_cpu_s = time.process_time() - started
        self.memory = compiled.memory_analysis().temp_size_in_bytes
        self.state: TrainState | None = None

    def run(self) -> None:
        """One update; the first call makes the parameters."""
        if self.state is None:
            self.state = self.steps.init(jax.random.key(0))
        self.state, metrics = self.steps.update(self.state, self.batch)
        self.losses.append(float(metrics["loss"]))


def make_steps(shape: ModelShape, loss: Loss, remat: bool) -> TrainProgram:
    return build_program(shape, make_mesh(1, devices=jax.devices()[:1]), optax.adam(1e-5), loss=loss, remat=remat)


def grpo_batch(shape: ModelShape, seed: int = 0) -> GroupBatch:
    """Full prompts and responses, every response with the same weight."""
    rng = np.random.default_rng(seed)
    return GroupBatch(
        prompt_BP=rng.integers(2, shape.vocab_size, (B, P), np.int32),
        prompt_len_B=np.full(B, P, np.int32),
        response_BGR=rng.integers(2, shape.vocab_size, (B, G, R), np.int32),
        weight_BGR=np.full((B, G, R), 1 / (B * G * R), np.float32),
        mask_BGR=np.ones((B, G, R), np.float32),
        adv_BG=rng.normal(size=(B, G)).astype(np.float32),
        ref_logp_BGR=rng.uniform(-9, -8, (B, G, R)).astype(np.float32),
    )


def sft_batch(shape: ModelShape, length: int, seed: int = 0) -> tuple[GroupBatch, np.ndarray]:
    """Rows whose every token but the first is in the loss, as a batch and as plain rows."""
    tokens = np.random.default_rng(seed).integers(2, shape.vocab_size, (B, length), np.int32)
    weight, cut = np.float32(1 / (B * (length - 1))), length - R
    batch = GroupBatch(
        prompt_BP=tokens[:, :cut],
        prompt_len_B=np.full(B, cut, np.int32),
        response_BGR=tokens[:, None, cut:],
        weight_BGR=np.full((B, 1, R), weight),
        mask_BGR=np.ones((B, 1, R), np.float32),
        adv_BG=np.zeros((B, 1), np.float32),
        ref_logp_BGR=np.zeros((B, 1, R), np.float32),
        prompt_weight_BP=np.full((B, cut), weight),
    )
    return batch, tokens


def ask_grpo(peer: Peer, place: Scratch, weights: str, remat: bool) -> None:
    batch = grpo_batch(SHAPE)
    path = place.save(
        "grpo",
        prompt=batch.prompt_BP,
        response=batch.response_BGR.reshape(B * G, R),
        advantage=batch.adv_BG.reshape(-1),
        reference=batch.ref_logp_BGR.reshape(B * G, R),
        group=np.int32(G),
        kl_coef=np.float32(COEFFICIENTS.kl_coef),
    )
    peer.ask("grpo", shape=dataclasses.asdict(SHAPE), remat=REMAT[remat], weights=weights, batch=path)


def ask_sft(peer: Peer, place: Scratch, shape: ModelShape, length: int, weights: str, remat: bool) -> None:
    path = place.save("sft", tokens=sft_batch(shape, length)[1])
    peer.ask("sft", shape=dataclasses.asdict(shape), remat=REMAT[remat], weights=weights, batch=path)


def time_figure(name: str, job: Job, peer: Peer | None, repeats: int) -> None:
    """Prints time and memory of a step; the peer has been given its problem."""
    line: dict[str, object] = {"ours_temporary_mb": job.memory / 1e6}
    theirs, losses = None, []
    if peer:
        memory = peer.ask("compile")["temporary_bytes"]
        line |= {"peer_temporary_mb": memory / 1e6, "ratio_temporary": memory / job.memory}

        def theirs() -> dict[str, float]:
            answer = peer.ask("run")
            losses.append(answer["result"])
            return answer

    seconds = in_turns(job.run, theirs, repeats)
    line |= compare(*seconds) | {"ours_losses": [job.losses[0], job.losses[-1]]}
    say(name, **line, **({"peer_losses": [losses[0], losses[-1]]} if peer else {}))


def step_figures(name: str, peer: Peer | None, repeats: int) -> None:
    """Prints time and memory of GRPO or SFT, with and without remat."""
    place = scratch()
    for remat in (True, False):
        batch = grpo_batch(SHAPE) if name == "grpo" else sft_batch(SHAPE, P + R)[0]
        job = Job(SHAPE, batch, loss=GRPO if name == "grpo" else SFT, remat=remat)
        if peer:
            weights = place.weights(job.steps.init(jax.random.key(0)).params)
            if name == "grpo":
                ask_grpo(peer, place, weights, remat)
            else:
                ask_sft(peer, place, SHAPE, P + R, weights, remat)
        time_figure(f"{name} remat={remat}", job, peer, repeats)


def vocabulary_figures(peer: Peer | None) -> None:
    """Prints the memory of an SFT step with Qwen2.5's vocabulary, compiled but not run."""
    shape, place = dataclasses.replace(SHAPE, vocab_size=LARGE), scratch()
    for remat in (True, False):
        line = {"ours_temporary_mb": Job(shape, sft_batch(shape, 896)[0], loss=SFT, remat=remat).memory / 1e6}
        if peer:
            ask_sft(peer, place, shape, 896, "", remat)
            line["peer_temporary_mb"] = peer.ask("compile")["temporary_bytes"] / 1e6
            line["ratio_temporary"] = line["peer_temporary_mb"] / line["ours_temporary_mb"]
        say(f"vocabulary remat={remat}", **line)


def depth_figure(repeats: int) -> None:
    """Prints the CPU time of tracing and compiling the GRPO step by depth, the least of several, in turns."""
    jax.config.update("jax_enable_compilation_cache", False)
    seconds: dict[int, list[float]] = {4: [], 28: []}
    for _ in range(repeats):
        for depth, times in seconds.items():
            jax.clear_caches()
            job = Job(dataclasses.replace(SHAPE, depth=depth), grpo_batch(SHAPE), loss=GRPO, remat=True)
            times.append(job.compile_cpu_s)
    least = {depth: min(times) for depth, times in seconds.items()}
    say("depth", layers_4_cpu_s=least[4], layers_28_cpu_s=least[28], ratio=least[28] / least[4])


def main() -> None:
    """Prints all figures, or those asked for."""
    arguments = parse(__doc__)
    wanted = arguments.only.split(",") if arguments.only else ["grpo", "sft", "vocabulary", "depth"]
    peer = Peer(arguments.peer_python) if arguments.peer_python else None
    for name in ("grpo", "sft"):
        if name in wanted:
            step_figures(name, peer, arguments.repeats)
    if "vocabulary" in wanted:
        vocabulary_figures(peer)
    if peer:
        peer.close()
    if "depth" in wanted:
        depth_figure(arguments.repeats)


if __name__ == "__main__":
    main()
