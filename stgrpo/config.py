"""The configuration: every field with its meaning, and the checks that no run starts without.

A config file has one function `get_config(arg)` that calls `base()` and changes what its experiment needs.
Defaults are the paper's where it states a number; `# not in paper` marks the rest.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from ml_collections import ConfigDict

from stgrpo import envs
from stgrpo.errors import UserError, nearest
from stgrpo.models.attention_choice import CHOICES
from stgrpo.models.shapes import LINEAR, ModelShape, named_shapes
from stgrpo.react.prompt import HISTORY_POLICIES, INSTRUCTION_STYLES
from stgrpo.react.reward import TARGETS
from stgrpo.training.grpo import AGGREGATIONS, KL_ESTIMATORS
from stgrpo.training.mismatch import CORRECTIONS
from stgrpo.training.optimiser import OPTIMISERS

DTYPES = ("float32", "bfloat16")
SUITES = ("unseen", "benchmark")
EXPERTS = ("planner", "llm")
POLICIES = ("checkpoint", "server")
BACKENDS = ("jax", "vllm", "vllm_local")


def base() -> ConfigDict:
    """The paper's experiment on one task; experiments change it. Locked: a key that does not exist is an error."""
    c = ConfigDict()
    c.seed = 0  # not in paper
    c.init_from = (
        ""  # a checkpoint (checkpoints/STAGE/STEP) to start the first stage from: a new run, not a resumed one
    )

    c.env = ConfigDict()
    c.env.name = "robotouille"
    c.env.engine = "ours"  # plays the episodes of evaluations: "ours", or "upstream" (the benchmark's own package)
    c.env.tasks = ("burger",)
    c.env.family = "random"  # unseen layouts: "random" like the benchmark's, "small", "noisy", "horizon50", ...
    c.env.failure = 0.0  # probability that an action fails while episodes are played: only time passes

    c.expert = ConfigDict()
    c.expert.kind = "planner"  # A*; "llm": a served model by rejection sampling (the paper's is Llama-3.3-70B)
    c.expert.trajectories = 100  # a task
    c.expert.validation = 20  # a task, to watch training with; not in paper
    c.expert.server = ""  # "llm": address of an OpenAI-compatible server, or several with commas between them
    c.expert.model = ""  # its name on the server
    c.expert.tries = 8  # episodes a kitchen at most, until it is solved; not in paper
    c.expert.successes = 1  # solutions a kitchen of which the shortest is kept; not in paper
    c.expert.kitchens = 0  # tried for these trajectories at most; 0: twice as many; not in paper
    c.expert.max_excess = -1  # steps a kept trajectory may have above the optimum; -1: any, the paper has no planner
    c.expert.temperature = 0.7  # not in paper
    c.expert.top_p = 1.0  # not in paper
    c.expert.max_tokens = 256  # an answer; not in paper
    c.expert.history = "last_reasoning_action"  # as prompt.history, for the expert's own prompts; not in paper

    c.policy = ConfigDict()  # who plays the episodes of `evaluate`
    c.policy.kind = "checkpoint"  # those of the work directory; "server": any model that a server has
    c.policy.server = ""  # "server": as expert.server
    c.policy.model = ""  # its name on the server
    c.policy.name = ""  # in files and reports; empty: after the model
    c.policy.instructions = ""  # as prompt.instructions, for this model; empty: the same
    c.policy.history = ""  # as prompt.history, for this model; empty: the same

    c.client = ConfigDict()  # how the servers of expert and policy are asked
    c.client.concurrency = 32  # episodes played at one time, with one request each
    c.client.requests_per_minute = 0.0  # evenly spaced; 0: no limit
    c.client.timeout = 120.0  # seconds for an answer
    c.client.retries = 5  # after broken connections and answers 429, 502, 503 and 504
    c.client.key_variable = ""  # environment variable that holds the API key; the key itself is stored nowhere
    c.client.prompt_price = 0.0  # of a million tokens, in any currency; 0: cost is counted in tokens alone
    c.client.completion_price = 0.0

    c.prompt = ConfigDict()
    c.prompt.instructions = "full"  # "full" explains the task, "none" shows the observation alone
    c.prompt.history = "none"  # "none", "last_action", "last_reasoning_action"; not in paper

    c.tokenizer = ConfigDict()
    c.tokenizer.path = ""  # Hugging Face folder; empty: that of model.path, or one trained on the collected data
    c.tokenizer.vocab_size = 1024  # at most, when trained

    c.model = ConfigDict()
    c.model.path = ""  # Hugging Face folder with the weights; empty: random weights in the shape below
    c.model.name = "qwen2.5-1.5b"  # a published shape, or "custom" for the sizes below
    c.model.width = 128
    c.model.depth = 2
    c.model.heads = 4
    c.model.kv_heads = 2
    c.model.head_dim = 32
    c.model.mlp_width = 384
    c.model.rope_theta = 10_000.0
    c.model.dtype = "float32"  # of the computation; parameters and optimiser state are float32
    c.model.attention = "auto"  # "xla" anywhere, "cudnn" on GPU, "splash" on TPU; "auto": the best the devices can do
    c.model.remat = True  # compute layers again in the backward pass: memory for a third more time

    c.lora = ConfigDict()  # not in paper
    c.lora.rank = 0  # of adapters that are trained while the model stays frozen (arXiv 2106.09685); 0: all is trained
    c.lora.alpha = 32.0  # what they add is scaled by alpha / rank
    c.lora.targets = tuple(LINEAR)  # the linear maps that have one: q, k, v, o, gate, up, down
    c.lora.stages = ("sft", "grpo")  # that train adapters; GRPO's lie on the SFT policy, which is its reference
    c.lora.base_dtype = "float32"  # of the frozen matrices; "bfloat16" halves them, and rounds those of a float32 start

    c.limits = ConfigDict()
    c.limits.prompt = 1536  # tokens; a longer prompt is refused, never cut; not in paper
    c.limits.response = 256  # tokens, the stop token included; not in paper

    c.mesh = ConfigDict()
    c.mesh.data = -1  # replicas; -1: all devices that are left
    c.mesh.fsdp = 1  # shards of the parameters along the width
    c.mesh.tensor = 1  # shards along heads, MLP and vocabulary

    c.sft = _optimisation(learning_rate=1e-5)  # not in paper
    c.sft.epochs = 8.0
    c.sft.steps = 0  # updates; 0: as many as the epochs give
    c.sft.batch = 8
    c.sft.group_by_length = False  # batches of prompts of about one length: less padding, less random; not in paper
    c.sft.prompt_weight = 0.0  # of the prompt's mean loss; above 0 only for models that start from random weights

    c.grpo = _optimisation(learning_rate=1e-6)
    c.grpo.schedule = "constant"  # not in paper
    c.grpo.epochs = 50.0
    c.grpo.steps = 0  # rollouts; 0: as many as the epochs give
    c.grpo.prompts = 256  # a rollout
    c.grpo.group_size = 5  # responses a prompt; not in paper (VeRL's examples with the same beta)
    c.grpo.minibatches = 1  # updates a pass over a rollout; not in paper
    c.grpo.passes = 1  # over each rollout; not in paper
    c.grpo.temperature = 1.0  # not in paper
    c.grpo.top_p = 1.0  # anything else would train on another distribution than it samples: refused
    c.grpo.top_k = 0
    c.grpo.kl_coef = 0.001
    c.grpo.kl_estimator = "k3"  # "k1", "k2", "k3"; k1 as a loss has no expected gradient on-policy; not in paper
    c.grpo.clip_low = 0.2  # ratio ≥ 1 - this; 0: no clipping, as the paper's analysis has it; not in paper
    c.grpo.clip_high = 0.2  # ratio ≤ 1 + this; 0: no clipping; not in paper
    c.grpo.aggregation = "token_mean"  # "token_mean", "sequence_mean", "dr_grpo"; not in paper
    c.grpo.scale_by_std = True  # advantage divided by the group's standard deviation (Eq. 5)
    c.grpo.resample = 0  # times that groups without signal are replaced by new prompts; not in paper
    c.grpo.validate_every = 100  # steps between multi-turn evaluations on validation layouts; 0: never
    c.grpo.validation_layouts = 20

    c.reward = ConfigDict()
    c.reward.format = 0.1
    c.reward.action = 0.9
    c.reward.target = "expert"  # "expert": the expert's action (Eq. 3); "optimal": any equally good one

    c.rollout = ConfigDict()
    c.rollout.backend = "jax"  # "jax": in the trainer, on its devices; "vllm": servers; "vllm_local": in the trainer
    c.rollout.batch = 256  # responses decoded at one time, by each server
    c.rollout.servers = ()  # vllm: such as ("http://127.0.0.1:8000",); empty: the run starts one and ends it
    c.rollout.python = ""  # vllm: an interpreter that has vLLM, for a server that is started; empty: this one
    c.rollout.flags = ()  # vllm: further flags of such a server, such as ("--tensor-parallel-size=2",)
    c.rollout.dtype = ""  # vllm: of the served weights; empty: model.dtype
    c.rollout.folder = ""  # vllm: where trainer and servers both see new weights; empty: shared memory (one host)
    c.rollout.timeout = 600.0  # vllm: seconds that a request or a load may take
    c.rollout.max_staleness = 0  # vllm: updates that a rollout may be drawn before its own; above 0 they overlap
    c.rollout.old_logprobs = "trainer"  # vllm: the ratio's denominator; "sampler": those that came with the responses
    c.rollout.correction = "none"  # vllm: truncated importance sampling by "token" or "sequence"; not in paper
    c.rollout.correction_cap = 2.0  # its largest weight
    c.rollout.mismatch_alarm = 0.1  # vllm: mean |difference| of log-probabilities that is warned of; 0: never
    c.rollout.patience = 600.0  # vllm: seconds that a run waits for a server that is not there, before it ends

    c.evaluation = ConfigDict()
    c.evaluation.suites = SUITES  # "unseen": new layouts of the family; "benchmark": the ten test layouts (the paper's)
    c.evaluation.tasks = ()  # empty: those trained on; others show generalisation
    c.evaluation.layouts = 100  # unseen ones a task
    c.evaluation.temperature = 0.0  # 0: greedy; not in paper
    c.evaluation.top_p = 1.0
    c.evaluation.top_k = 0
    c.evaluation.on_invalid = "end"  # "end": an unusable answer ends the episode; "retry": the benchmark's feedback
    c.evaluation.retries = 5  # tries a decision with "retry", as in the benchmark
    c.evaluation.constrain_action = False  # served models only: answers are held to the ReAct form and valid actions
    c.evaluation.reasoning_chars = 800  # of a constrained answer's reasoning, at most
    return c.lock()


def _optimisation(learning_rate: float) -> ConfigDict:
    c = ConfigDict()
    c.learning_rate = learning_rate
    c.schedule = "cosine"  # "cosine" or "constant", after the warm-up; not in paper
    c.warmup = 0.03  # fraction of the updates; not in paper
    c.optimiser = "adamw"  # or "adafactor": no first moment, the second factored; not in paper
    c.moment_dtype = "float32"  # of AdamW's moments between updates; "bfloat16" halves them, rounded to 8 bits
    c.weight_decay = 0.0  # not in paper
    c.clip_norm = 1.0  # of the gradient; 0: no limit; not in paper
    c.row_tokens = 0  # pack several examples or groups into rows of this many tokens; 0: one a row; not in paper
    c.micro_batches = 1  # parts a batch is taken in, to save memory; the result does not change
    c.checkpoint_every = 100  # steps
    c.keep = 2  # newest checkpoints kept
    return c


def model_shape(config: ConfigDict, vocab_size: int) -> ModelShape:
    """The shape of a model that starts from random weights; a custom one gets the tokenizer's vocabulary."""
    m = config.model
    if m.name != "custom":
        return named_shapes()[m.name]
    return ModelShape(
        vocab_size=vocab_size,
        width=m.width,
        depth=m.depth,
        heads=m.heads,
        kv_heads=m.kv_heads,
        head_dim=m.head_dim,
        mlp_width=m.mlp_width,
        rope_theta=m.rope_theta,
        max_position=config.limits.prompt + config.limits.response,
    )


def validate(config: ConfigDict) -> list[str]:
    """Every error at once, each with the value, the limit and the fix; empty when the config can run."""
    checks = (_choices, _numbers, _sampling, _servers, _rollout, _divisions, _adapters)
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
        "evaluation.top_k expert.kitchens expert.temperature client.requests_per_minute client.retries "
        "rollout.max_staleness rollout.mismatch_alarm "
        "client.prompt_price client.completion_price"
    ).split()
    positive = (
        "sft.learning_rate grpo.learning_rate grpo.temperature model.rope_theta client.timeout rollout.timeout "
        "rollout.patience rollout.correction_cap"
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
    of_vllm = {"flags": (), "dtype": "", "old_logprobs": "trainer", "correction": "none"}
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
