"""The checks of a config that no run starts without: all errors at once."""

import re
from collections.abc import Callable, Iterable, Iterator

from ml_collections import ConfigDict

from stgrpo import envs
from stgrpo.config import SUITES, model_shape
from stgrpo.errors import UserError, nearest
from stgrpo.models.attention.choose import CHOICES
from stgrpo.models.shapes import LINEAR, named_shapes
from stgrpo.monitors.open import writer_errors
from stgrpo.protocol import Planning, PureEnvironment
from stgrpo.react.prompt import HISTORY_POLICIES, INSTRUCTION_STYLES
from stgrpo.react.reward import TARGETS
from stgrpo.rl.losses import KL_ESTIMATORS, find_loss, loss_options
from stgrpo.rl.mismatch import CORRECTIONS
from stgrpo.training.batch import AGGREGATIONS
from stgrpo.training.optimiser import OPTIMISERS

DTYPES = ("float32", "bfloat16")
EXPERTS = ("planner", "llm")
POLICIES = ("checkpoint", "server")
BACKENDS = ("jax", "vllm", "vllm_local")


def validate(config: ConfigDict) -> list[str]:
    """Every error at once, each with the value, the limit and the fix; empty when the config can run."""
    checks = (_choices, _numbers, _sampling, _servers, _rollout, _losses, _divisions, _adapters)
    checks += (writer_errors, _without_planner)
    return [error for check in checks for error in check(config)]


def _choices(c: ConfigDict) -> Iterator[str]:
    fields: list[tuple[str, str, Iterable[str]]] = [
        ("env.name", c.env.name, envs.names()),
        ("expert.kind", c.expert.kind, EXPERTS),
        ("expert.history", c.expert.history, HISTORY_POLICIES),
        ("policy.kind", c.policy.kind, POLICIES),
        ("policy.instructions", c.policy.instructions, ("", *INSTRUCTION_STYLES)),
        ("policy.history", c.policy.history, ("", *HISTORY_POLICIES)),
        ("prompt.instructions", c.prompt.instructions, INSTRUCTION_STYLES),
        ("prompt.history", c.prompt.history, HISTORY_POLICIES),
        ("model.name", c.model.name, [*named_shapes(), "custom"]),
        ("model.dtype", c.model.dtype, DTYPES),
        ("model.attention", c.model.attention, CHOICES),
        ("grpo.kl_estimator", c.grpo.kl_estimator, KL_ESTIMATORS),
        ("grpo.aggregation", c.grpo.aggregation, AGGREGATIONS),
        ("reward.target", c.reward.target, TARGETS),
        ("rollout.backend", c.rollout.backend, BACKENDS),
        ("rollout.correction", c.rollout.correction, CORRECTIONS),
        ("rollout.old_logprobs", c.rollout.old_logprobs, ("trainer", "sampler")),
        ("rollout.dtype", c.rollout.dtype, ("", *DTYPES)),
        ("evaluation.on_invalid", c.evaluation.on_invalid, ("end", "retry")),
        ("monitor.mode", c.monitor.mode, ("offline", "online")),
    ]
    for stage in ("sft", "grpo"):
        fields.append((f"{stage}.schedule", c[stage].schedule, ("cosine", "constant")))
        fields.append((f"{stage}.optimiser", c[stage].optimiser, OPTIMISERS))
        fields.append((f"{stage}.moment_dtype", c[stage].moment_dtype, DTYPES))
    fields.append(("lora.base_dtype", c.lora.base_dtype, DTYPES))
    fields += [("lora.targets", target, tuple(LINEAR)) for target in c.lora.targets]
    fields += [("lora.stages", stage, ("sft", "grpo")) for stage in c.lora.stages]
    fields += [("evaluation.suites", suite, SUITES) for suite in c.evaluation.suites]
    if c.env.name in envs.names():
        environment = envs.get(c.env.name)
        tasks = environment.tasks()
        fields.append(("env.engine", c.env.engine, envs.engines(c.env.name)))
        fields.append(("env.family", c.env.family, environment.families()))
        fields += [("env.tasks", task, tasks) for task in c.env.tasks]
        fields += [("evaluation.tasks", task, tasks) for task in c.evaluation.tasks]
    for name, value, known in fields:
        known = list(known)
        if value not in known:
            yield f"{name}={value!r} is unknown: {nearest(value, known)}"
    if c.model.attention == "cudnn" and c.model.dtype == "float32":
        yield "model.attention='cudnn' cannot do model.dtype='float32': use 'bfloat16', or model.attention='auto'"
    if not c.env.tasks:
        yield "env.tasks is empty: name at least one task"
    if c.env.name in envs.names():
        yield from _benchmark(c)
    yield from _engine(c)


def _benchmark(c: ConfigDict) -> Iterator[str]:
    environment = envs.get(c.env.name)
    tasks = [task for task in c.evaluation.tasks or c.env.tasks if task in environment.tasks()]
    if "benchmark" in c.evaluation.suites and tasks and not any(map(environment.benchmark_layouts, tasks)):
        yield (
            f"evaluation.suites={tuple(c.evaluation.suites)}: {c.env.name!r} has no benchmark layouts of "
            f"{', '.join(tasks)}, use evaluation.suites=('unseen',)"
        )


def _engine(c: ConfigDict) -> Iterator[str]:
    if c.env.name in envs.names() and c.env.engine in envs.engines(c.env.name):
        try:
            envs.get(c.env.name, engine=c.env.engine)
        except UserError as error:
            yield str(error)


def _numbers(c: ConfigDict) -> Iterator[str]:
    at_least_one = (
        "expert.trajectories expert.validation expert.tries expert.successes expert.max_tokens client.concurrency "
        "tokenizer.vocab_size limits.prompt limits.response sft.batch "
        "sft.micro_batches sft.checkpoint_every sft.keep grpo.prompts grpo.minibatches grpo.passes grpo.micro_batches "
        "grpo.checkpoint_every grpo.keep grpo.validation_layouts rollout.batch evaluation.layouts evaluation.retries "
        "evaluation.reasoning_chars"
    ).split()
    not_negative = (
        "seed sft.steps sft.epochs sft.prompt_weight sft.weight_decay sft.clip_norm sft.row_tokens "
        "grpo.row_tokens grpo.steps grpo.epochs grpo.weight_decay grpo.clip_norm grpo.kl_coef grpo.clip_low "
        "grpo.clip_high grpo.resample grpo.validate_every reward.format reward.action evaluation.temperature "
        "evaluation.top_k expert.layouts expert.temperature client.requests_per_minute client.retries "
        "rollout.max_staleness rollout.mismatch_alarm "
        "client.prompt_price client.completion_price"
    ).split()
    positive = (
        "sft.learning_rate grpo.learning_rate grpo.temperature model.rope_theta client.timeout rollout.timeout "
        "rollout.server_wait_s rollout.correction_cap"
    ).split()
    yield from _limits(c, at_least_one, lambda v: v >= 1, "at least 1")
    yield from _limits(c, not_negative, lambda v: v >= 0, "at least 0")
    yield from _limits(c, positive, lambda v: v > 0, "above 0")
    yield from _limits(c, ["grpo.group_size"], lambda v: v >= 2, "at least 2, an advantage needs a group")
    yield from _limits(c, ["evaluation.top_p", "expert.top_p"], lambda v: 0 < v <= 1, "above 0 and at most 1")
    yield from _limits(c, ["sft.warmup", "grpo.warmup"], lambda v: 0 <= v < 1, "a fraction from 0 to below 1")
    yield from _limits(c, ["grpo.clip_low"], lambda v: v < 1, "below 1, the ratio is positive")
    for stage in ("sft", "grpo"):
        if c[stage].optimiser == "adafactor" and c[stage].moment_dtype != "float32":
            yield f"{stage}.moment_dtype={c[stage].moment_dtype} is for adamw: use float32, adafactor's are small"
        if not c[stage].steps and not c[stage].epochs:
            yield f"{stage}.steps=0 and {stage}.epochs=0 train nothing: set one of them"
    if c.model.name == "custom":
        yield from (f"model.{error}" for error in model_shape(c, max(c.tokenizer.vocab_size, 1)).errors())


def _limits(c: ConfigDict, names: list[str], good: Callable[[float], bool], limit: str) -> Iterator[str]:
    for name in names:
        section, _, field = name.rpartition(".")
        value = (c[section] if section else c)[field]
        if not good(value):
            yield f"{name}={value} must be {limit}"


def _sampling(c: ConfigDict) -> Iterator[str]:
    if not 0 <= c.env.failure < 1:
        yield f"env.failure={c.env.failure} is no probability below 1: use one from 0 to 0.9"
    if c.grpo.top_p != 1.0 or c.grpo.top_k != 0:
        yield (
            f"grpo.top_p={c.grpo.top_p}, grpo.top_k={c.grpo.top_k}: training must sample from the policy itself, "
            "use top_p=1.0 and top_k=0"
        )


def _servers(c: ConfigDict) -> Iterator[str]:
    for name, is_used in (("expert", c.expert.kind == "llm"), ("policy", c.policy.kind == "server")):
        if not is_used:
            continue
        if not c[name].model:
            yield f"{name}.model is empty: give the model's name on the server"
        for address in c[name].server.split(","):
            if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", address.strip()):
                shown = "" if "@" in address else repr(c[name].server)  # what is before an @ may be a password
                yield f"{name}.server={shown} must be addresses such as http://127.0.0.1:8000, without user or key"
    if c.expert.tries > 1 and c.expert.temperature == 0 and c.expert.kind == "llm":
        yield f"expert.temperature=0 makes all expert.tries={c.expert.tries} alike: use a temperature or expert.tries=1"
    if c.expert.successes > c.expert.tries:
        yield f"expert.successes={c.expert.successes} is over expert.tries={c.expert.tries}: use at most that"
    if c.evaluation.constrain_action and c.policy.kind != "server":
        yield (
            f"evaluation.constrain_action=True is for served models, not policy.kind={c.policy.kind!r}: "
            "export the checkpoint, serve it with vLLM and use policy.kind='server'"
        )


def _rollout(c: ConfigDict) -> Iterator[str]:
    for address in c.rollout.servers:
        if not re.fullmatch(r"https?://[^/@\s]+/?", address):
            yield f"rollout.servers={address!r} is no address: use one such as 'http://127.0.0.1:8000'"
    if len(set(c.rollout.servers)) < len(c.rollout.servers):
        yield f"rollout.servers={tuple(c.rollout.servers)} has an address twice: give each once"
    r, corrected = c.rollout, c.rollout.correction != "none"
    of_servers = {"servers": (), "python": "", "folder": "", "max_staleness": 0}
    of_vllm = {"flags": (), "dtype": ""}
    unused = {"jax": of_servers | of_vllm, "vllm_local": of_servers}.get(r.backend, {})
    for name, default in unused.items():
        if r[name] != default:
            yield f"rollout.{name}={r[name]!r} is for servers: use rollout.backend='vllm' or leave it out"
    if corrected and r.old_logprobs == "sampler":
        yield (
            f"rollout.correction={r.correction!r} and rollout.old_logprobs='sampler' correct for the same thing twice: "
            "use one of them"
        )
    if r.max_staleness and not corrected and r.old_logprobs == "trainer":
        yield (
            f"rollout.max_staleness={r.max_staleness} trains on what another policy drew: use "
            "rollout.correction='token', or 0"
        )


def _losses(c: ConfigDict) -> Iterator[str]:
    for field, find, value in (
        ("sft.loss", find_loss, c.sft.loss),
        ("grpo.loss", find_loss, c.grpo.loss),
        ("grpo.loss_options", loss_options, c.grpo.loss_options),
    ):
        try:
            find(value)
        except UserError as error:
            yield f"{field}={value!r}: {error}"


def _divisions(c: ConfigDict) -> Iterator[str]:
    if c.sft.micro_batches >= 1 and not c.sft.row_tokens and c.sft.batch % c.sft.micro_batches:
        yield _divide("sft.batch", c.sft.batch, "sft.micro_batches", c.sft.micro_batches)
    parts, name = c.grpo.minibatches * c.grpo.micro_batches, "grpo.minibatches × grpo.micro_batches"
    if c.grpo.row_tokens:  # rows are filled up to any number of micro-batches
        parts, name = c.grpo.minibatches, "grpo.minibatches"
    if parts >= 1 and c.grpo.prompts % parts:
        yield _divide("grpo.prompts", c.grpo.prompts, name, parts)


def _adapters(c: ConfigDict) -> Iterator[str]:
    yield from _limits(c, ["lora.rank"], lambda v: v >= 0, "at least 0")
    yield from _limits(c, ["lora.alpha"], lambda v: v > 0, "above 0")
    if c.lora.rank < 1:
        return
    for name in ("targets", "stages"):
        if not c.lora[name]:
            yield f"lora.{name} is empty: name at least one, or set lora.rank=0"
    if "sft" in c.lora.stages and not (c.init_from or c.model.path):
        yield (
            f"lora.stages={tuple(c.lora.stages)} has sft, whose frozen weights would be random: "
            'use lora.stages=("grpo",), or start from model.path or init_from'
        )


def _divide(whole: str, size: int, part: str, parts: int) -> str:
    return f"{whole}={size} is not a multiple of {part}={parts}: use {whole}={max(1, round(size / parts)) * parts}"


def refuse_constraint(config: ConfigDict, stage: str) -> None:
    """Raises a UserError if the answers that a stage learns from would be held to the valid actions."""
    if config.evaluation.constrain_action:
        raise UserError(
            f"evaluation.constrain_action=True is for `stgrpo evaluate` alone: {stage} makes what is learned from, and "
            "a model that is held to the valid actions does not say what it would have said; leave it out"
        )


def _without_planner(c: ConfigDict) -> Iterator[str]:
    """What an environment that cannot plan, or whose states cannot be returned to, is not asked for."""
    if c.env.name not in envs.names():
        return
    environment = envs.get(c.env.name)
    if c.env.failure and not isinstance(environment, PureEnvironment):
        yield f"env.failure={c.env.failure}: {c.env.name!r} has sessions alone, whose actions cannot fail, use 0"
    if isinstance(environment, Planning):
        return
    no_planner = f"{c.env.name!r} has no planner"
    if c.expert.kind == "planner":
        yield f"expert.kind='planner': {no_planner}, use expert.kind='llm' with a served model"
    if c.expert.max_excess >= 0:
        yield f"expert.max_excess={c.expert.max_excess}: {no_planner} to say what is optimal, use -1"
    if c.reward.target == "optimal":
        yield f"reward.target='optimal': {no_planner} to say what is optimal, use reward.target='expert'"
