"""The peer's side of a comparison: google-tunix by its public API; a JSON request a line in, an answer a line out.

`peer.py` starts this file with an interpreter that has the package, and with none of ours. GRPO steps are those of the
trainer that its own `GRPOLearner` sets up, SFT steps those of its `PeftTrainer`, samples those of its `Sampler`; each
with the sizes at hand and otherwise as shipped.
"""

import json
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.models.qwen2.model import ModelConfig, Qwen2, RematConfig
from tunix.rl import common
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
from tunix.rl.rollout.base_rollout import RolloutConfig
from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig, TrainingInput
from tunix.sft.utils import build_positions_from_mask, make_causal_attn_mask

PAD, BOS = 0, 1
"""The latter stands before every prompt. A sampler that must not stop is given an end token beyond its vocabulary."""


class Numbers:
    """A tokenizer whose texts are decimal ids."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))

    def bos_id(self) -> int:
        return BOS

    def eos_id(self) -> int:
        return BOS

    def pad_id(self) -> int:
        return PAD


def build_model(shape: dict, remat: str, weights: str) -> Qwen2:
    """A model of the sizes of our `ModelShape`, with our weights if a file is given."""
    config = ModelConfig(
        num_layers=shape["depth"],
        vocab_size=shape["vocab_size"],
        embed_dim=shape["width"],
        hidden_dim=shape["mlp_width"],
        num_heads=shape["heads"],
        head_dim=shape["head_dim"],
        num_kv_heads=shape["kv_heads"],
        rope_theta=shape["rope_theta"],
        norm_eps=shape["norm_eps"],
        use_tied_embedding=shape["tie_embeddings"],
        remat_config=RematConfig[remat],
    )
    model = Qwen2(config, rngs=nnx.Rngs(0))
    if weights:
        state = nnx.state(model)
        with np.load(weights) as arrays:
            for path, leaf in state.flat_state():
                leaf.set_value(jnp.asarray(_ours(arrays, path)).reshape(leaf.get_value().shape))
        nnx.update(model, state)
    return model


NAMES = {
    ("embedder", "input_embedding"): "embedding",
    ("final_norm", "w"): "final_norm",
    ("input_layernorm", "w"): "attention_norm",
    ("post_attention_layernorm", "w"): "mlp_norm",
    **{("attn", f"{x}_proj", "w"): x for x in "qkvo"},
    **{("attn", f"{x}_bias"): f"{x}_bias" for x in "qkv"},
    **{("mlp", f"{x}_proj", "kernel"): x for x in ("gate", "up", "down")},
}


def _ours(arrays: dict, path: tuple) -> np.ndarray:
    if path[0] == "layers":
        return arrays[NAMES[path[2:]]][path[1]]
    return arrays[NAMES[path]]


class Step:
    """A compiled training step with its inputs."""

    def __init__(self, trainer: PeftTrainer, example: object, mesh: Mesh):
        self.trainer, self.example, self.mesh = trainer, example, mesh

    def compile(self) -> dict:
        """Memory and time of compiling the step as the trainer jits it."""
        started = time.process_time()
        jitted = nnx.jit(self.trainer.create_train_step_fn(), donate_argnames=("optimizer",))
        with self.mesh:
            compiled = jitted.lower(self.trainer.model, self.trainer.optimizer, self.example).compile()
        memory = compiled.compiled.memory_analysis()
        return {
            "temporary_bytes": memory.temp_size_in_bytes,
            "argument_bytes": memory.argument_size_in_bytes,
            "compile_cpu_s": time.process_time() - started,
        }

    def run(self) -> float:
        """One update; returns its loss."""
        with self.mesh:
            step, _ = self.trainer.jit_train_and_eval_step(cache_nnx_graph=True)
            loss, *_ = jax.block_until_ready(step(self.example))
        return float(loss)


def one_device() -> Mesh:
    return Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))


def grpo_step(shape: dict, remat: str, weights: str, batch: str) -> Step:
    """The step that `GRPOLearner` sets up, on prompts that are repeated for each of their responses."""
    with np.load(batch) as arrays:
        data = {name: jnp.asarray(array) for name, array in arrays.items()}
    mesh, model = one_device(), build_model(shape, remat, weights)
    P, R, G = data["prompt"].shape[1], data["response"].shape[1], int(data["group"])
    cluster = RLCluster(
        actor=model,
        reference=model,
        tokenizer=Numbers(),
        cluster_config=ClusterConfig(
            role_to_mesh=dict.fromkeys((Role.ACTOR, Role.REFERENCE, Role.ROLLOUT), mesh),
            training_config=RLTrainingConfig(actor_optimizer=optax.adam(1e-5), eval_every_n_steps=10**9),
            rollout_config=RolloutConfig(
                max_tokens_to_generate=R, max_prompt_length=P, kv_cache_size=P + R, temperature=1.0
            ),
        ),
    )
    config = GRPOConfig(num_generations=G, beta=float(data["kl_coef"]), kl_loss_mode="low_var_kl", epsilon=0.2)
    GRPOLearner(cluster, config, reward_fns=lambda prompts, completions, **_: [0.0] * len(completions))
    prompt, response = jnp.repeat(data["prompt"], G, axis=0), data["response"]
    example = common.TrainExample(
        prompt_ids=prompt,
        prompt_mask=prompt != PAD,
        completion_ids=response,
        completion_mask=response != PAD,
        advantages=data["advantage"],
        ref_per_token_logps=data["reference"],
        old_per_token_logps=None,
    )
    return Step(cluster.actor_trainer, example, mesh)


def sft_step(shape: dict, remat: str, weights: str, batch: str) -> Step:
    """The step of `PeftTrainer` with its own loss over all tokens of full rows."""
    with np.load(batch) as arrays:
        tokens = jnp.asarray(arrays["tokens"])
    trainer = PeftTrainer(
        build_model(shape, remat, weights), optax.adam(1e-5), TrainingConfig(eval_every_n_steps=10**9)
    )
    trainer.with_gen_model_input_fn(
        lambda x: {
            "input_tokens": x.input_tokens,
            "input_mask": x.input_mask,
            "positions": build_positions_from_mask(x.input_tokens != PAD),
            "attention_mask": make_causal_attn_mask(x.input_tokens != PAD),
        }
    )
    return Step(trainer, TrainingInput(input_tokens=tokens, input_mask=tokens != PAD), one_device())


class Sample:
    """A sampler with its prompts, all starting with BOS, each repeated for every response."""

    def __init__(self, shape: dict, weights: str, batch: str, tokens: int):
        with np.load(batch) as arrays:
            prompts, G = arrays["prompt"], int(arrays["group"])
        self.prompts = [Numbers().decode(row[1:]) for row in prompts for _ in range(G)]
        self.tokens, self.mesh, self.length, self.vocab = tokens, one_device(), prompts.shape[1], shape["vocab_size"]
        cache = CacheConfig(prompts.shape[1] + tokens, shape["depth"], shape["kv_heads"], shape["head_dim"])
        self.sampler = Sampler(build_model(shape, "NONE", weights), Numbers(), cache)

    def run(self, temperature: float = 1.0) -> list[list[int]]:
        """Token ids of each response, with log-probabilities computed as well."""
        with self.mesh:
            output = self.sampler(
                self.prompts,
                max_generation_steps=self.tokens,
                max_prompt_length=self.length,
                temperature=temperature,
                top_p=1.0 if temperature else None,
                eos_tokens=[self.vocab],
                return_logprobs=True,
                seed=0,
            )
        return [np.asarray(ids).tolist() for ids in output.tokens]


def timed(call: Callable[[], object]) -> tuple[object, dict]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def serve() -> None:
    """Answers requests until the input ends. The package writes to stdout, so answers go to a copy of it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kinds = {"grpo": grpo_step, "sft": sft_step, "sample": Sample}
    job: Step | Sample | None = None
    for line in sys.stdin:
        request = json.loads(line)
        do, arguments = request["do"], request.get("arguments", {})
        if do in kinds:
            job = None  # frees the memory of the one before
            job, answer = kinds[do](**arguments), {}
        elif do == "compile":
            answer = job.compile()
        else:
            result, answer = timed(lambda job=job, arguments=arguments: job.run(**arguments))
            answer["result"] = result
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
