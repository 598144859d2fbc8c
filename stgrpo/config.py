"""The configuration: every field with its meaning; `config_checks` has the checks that no run starts without.

A config file has one function `get_config(arg)` that calls `base()` and changes what its experiment needs.
Defaults are the paper's where it states a number; `# not in paper` marks the rest.
"""

from ml_collections import ConfigDict

from stgrpo.models.shapes import LINEAR, ModelShape, named_shapes

SUITES = ("unseen", "benchmark")


def base() -> ConfigDict:
    """The paper's experiment on one task; experiments change it. Locked: a key that does not exist is an error."""
    c = ConfigDict()
    c.seed = 0  # not in paper
    c.init_from = (
        ""  # a checkpoint (checkpoints/STAGE/STEP) to start the first stage from: a new run, not a resumed one
    )
    c.env = _env()
    c.expert = _expert()
    c.policy = _policy()  # who plays the episodes of `evaluate`
    c.client = _client()  # how the servers of expert and policy are asked
    c.prompt = _prompt()
    c.tokenizer = _tokenizer()
    c.model = _model()
    c.lora = _lora()  # not in paper
    c.limits = _limits()
    c.mesh = _mesh()
    c.sft = _sft()
    c.grpo = _grpo()
    c.reward = _reward()
    c.rollout = _rollout()
    c.evaluation = _evaluation()
    c.monitor = _monitor()
    return c.lock()


def _env() -> ConfigDict:
    c = ConfigDict()
    c.name = "robotouille"
    c.engine = "ours"  # plays the episodes of evaluations: "ours", or "upstream" (the benchmark's own package)
    c.tasks = ("burger",)
    c.family = "random"  # unseen layouts: "random" like the benchmark's, "small", "noisy", "horizon50", ...
    c.failure = 0.0  # probability that an action fails while episodes are played: only time passes
    return c


def _expert() -> ConfigDict:
    c = ConfigDict()
    c.kind = "planner"  # A*; "llm": a served model by rejection sampling (the paper's is Llama-3.3-70B)
    c.trajectories = 100  # a task
    c.validation = 20  # a task, to watch training with; not in paper
    c.server = ""  # "llm": address of an OpenAI-compatible server, or several with commas between them
    c.model = ""  # its name on the server
    c.tries = 8  # episodes a layout at most, until it is solved; not in paper
    c.successes = 1  # solutions a layout of which the shortest is kept; not in paper
    c.layouts = 0  # tried for these trajectories at most; 0: twice as many; not in paper
    c.max_excess = -1  # steps a kept trajectory may have above the optimum; -1: any, the paper has no planner
    c.temperature = 0.7  # not in paper
    c.top_p = 1.0  # not in paper
    c.max_tokens = 256  # an answer; not in paper
    c.history = "last_reasoning_action"  # as prompt.history, for the expert's own prompts; not in paper
    return c


def _policy() -> ConfigDict:
    c = ConfigDict()
    c.kind = "checkpoint"  # those of the work directory; "server": any model that a server has
    c.server = ""  # "server": as expert.server
    c.model = ""  # its name on the server
    c.name = ""  # in files and reports; empty: after the model
    c.instructions = ""  # as prompt.instructions, for this model; empty: the same
    c.history = ""  # as prompt.history, for this model; empty: the same
    return c


def _client() -> ConfigDict:
    c = ConfigDict()
    c.concurrency = 32  # episodes played at one time, with one request each
    c.requests_per_minute = 0.0  # evenly spaced; 0: no limit
    c.timeout = 120.0  # seconds for an answer
    c.retries = 5  # after broken connections and answers 429, 502, 503 and 504
    c.key_variable = ""  # environment variable that holds the API key; the key itself is stored nowhere
    c.prompt_price = 0.0  # of a million tokens, in any currency; 0: cost is counted in tokens alone
    c.completion_price = 0.0
    return c


def _prompt() -> ConfigDict:
    c = ConfigDict()
    c.instructions = "full"  # "full" explains the task, "none" shows the observation alone
    c.history = "none"  # "none", "last_action", "last_reasoning_action"; not in paper
    return c


def _tokenizer() -> ConfigDict:
    c = ConfigDict()
    c.path = ""  # Hugging Face folder; empty: that of model.path, or one trained on the collected data
    c.vocab_size = 1024  # at most, when trained
    return c


def _model() -> ConfigDict:
    c = ConfigDict()
    c.path = ""  # Hugging Face folder with the weights; empty: random weights in the shape below
    c.name = "qwen2.5-1.5b"  # a published shape, or "custom" for the sizes below
    c.width = 128
    c.depth = 2
    c.heads = 4
    c.kv_heads = 2
    c.head_dim = 32
    c.mlp_width = 384
    c.rope_theta = 10_000.0
    c.dtype = "float32"  # of the computation; parameters and optimiser state are float32
    c.attention = "auto"  # "xla" anywhere, "cudnn" on GPU, "splash" on TPU; "auto": the best the devices can do
    c.remat = True  # compute layers again in the backward pass: memory for a third more time
    return c


def _lora() -> ConfigDict:
    c = ConfigDict()
    c.rank = 0  # of adapters that are trained while the model stays frozen (arXiv 2106.09685); 0: all is trained
    c.alpha = 32.0  # what they add is scaled by alpha / rank
    c.targets = tuple(LINEAR)  # the linear maps that have one: q, k, v, o, gate, up, down
    c.stages = ("sft", "grpo")  # that train adapters; GRPO's lie on the SFT policy, which is its reference
    c.base_dtype = "float32"  # of the frozen matrices; "bfloat16" halves them, and rounds those of a float32 start
    return c


def _limits() -> ConfigDict:
    c = ConfigDict()
    c.prompt = 1536  # tokens; a longer prompt is refused, never cut; not in paper
    c.response = 256  # tokens, the stop token included; not in paper
    return c


def _mesh() -> ConfigDict:
    c = ConfigDict()
    c.data = -1  # replicas; -1: all devices that are left
    c.fsdp = 1  # shards of the parameters along the width
    c.tensor = 1  # shards along heads, MLP and vocabulary
    return c


def _sft() -> ConfigDict:
    c = _optimisation(learning_rate=1e-5)  # not in paper
    c.loss = "sft"  # by name, or a function of one's own as MODULE:FUNCTION (docs/losses.md)
    c.epochs = 8.0
    c.steps = 0  # updates; 0: as many as the epochs give
    c.batch = 8
    c.group_by_length = False  # batches of prompts of about one length: less padding, less random; not in paper
    c.prompt_weight = 0.0  # of the prompt's mean loss; above 0 only for models that start from random weights
    return c


def _grpo() -> ConfigDict:
    c = _optimisation(learning_rate=1e-6)
    c.schedule = "constant"  # not in paper
    c.loss = "grpo"  # by name, or a function of one's own as MODULE:FUNCTION (docs/losses.md)
    c.loss_options = ()  # numbers for a loss of one's own, such as ("cap=5",)
    c.epochs = 50.0
    c.steps = 0  # rollouts; 0: as many as the epochs give
    c.prompts = 256  # a rollout
    c.group_size = 5  # responses a prompt; not in paper (VeRL's examples with the same beta)
    c.minibatches = 1  # updates a pass over a rollout; not in paper
    c.passes = 1  # over each rollout; not in paper
    c.temperature = 1.0  # not in paper
    c.top_p = 1.0  # anything else would train on another distribution than it samples: refused
    c.top_k = 0
    c.kl_coef = 0.001
    c.kl_estimator = "k3"  # "k1", "k2", "k3"; k1 as a loss has no expected gradient on-policy; not in paper
    c.clip_low = 0.2  # ratio ≥ 1 - this; 0: no clipping, as the paper's analysis has it; not in paper
    c.clip_high = 0.2  # ratio ≤ 1 + this; 0: no clipping; not in paper
    c.aggregation = "token_mean"  # "token_mean", "sequence_mean", "dr_grpo"; not in paper
    c.scale_by_std = True  # advantage divided by the group's standard deviation (Eq. 5)
    c.resample = 0  # times that groups without signal are replaced by new prompts; not in paper
    c.validate_every = 100  # steps between multi-turn evaluations on validation layouts; 0: never
    c.validation_layouts = 20
    return c


def _reward() -> ConfigDict:
    c = ConfigDict()
    c.format = 0.1
    c.action = 0.9
    c.target = "expert"  # "expert": the expert's action (Eq. 3); "optimal": any equally good one
    return c


def _rollout() -> ConfigDict:
    c = ConfigDict()
    c.backend = "jax"  # "jax": in the trainer, on its devices; "vllm": servers; "vllm_local": in the trainer
    c.batch = 256  # responses decoded at one time, by each server
    c.servers = ()  # vllm: such as ("http://127.0.0.1:8000",); empty: the run starts one and ends it
    c.python = ""  # vllm: an interpreter that has vLLM, for a server that is started; empty: this one
    c.flags = ()  # vllm: further flags of such a server, such as ("--tensor-parallel-size=2",)
    c.dtype = ""  # vllm: of the served weights; empty: model.dtype
    c.folder = ""  # vllm: where trainer and servers both see new weights; empty: shared memory (one host)
    c.timeout = 600.0  # vllm: seconds that a request or a load may take
    c.max_staleness = 0  # vllm: updates that a rollout may be drawn before its own; above 0 they overlap
    c.old_logprobs = "trainer"  # the ratio's denominator; "sampler": those that came with the responses
    c.correction = "none"  # truncated importance sampling by "token" or "sequence"; not in paper
    c.correction_cap = 2.0  # its largest weight
    c.mismatch_alarm = 0.1  # mean |difference| of log-probabilities that is warned of; 0: never
    c.server_wait_s = 600.0  # vllm: seconds that a run waits for a server that is not there, before it ends
    return c


def _evaluation() -> ConfigDict:
    c = ConfigDict()
    c.suites = SUITES  # "unseen": new layouts of the family; "benchmark": the ten test layouts (the paper's)
    c.tasks = ()  # empty: those trained on; others show generalisation
    c.layouts = 100  # unseen ones a task
    c.temperature = 0.0  # 0: greedy; not in paper
    c.top_p = 1.0
    c.top_k = 0
    c.on_invalid = "end"  # "end": an unusable answer ends the episode; "retry": the benchmark's feedback
    c.retries = 5  # tries a decision with "retry", as in the benchmark
    c.constrain_action = False  # served models only: answers are held to the ReAct form and valid actions
    c.reasoning_chars = 800  # of a constrained answer's reasoning, at most
    return c


def _monitor() -> ConfigDict:
    c = ConfigDict()
    c.writers = ()  # beside metrics.jsonl: "tensorboard", "wandb", or one of your own as "module:Class"
    c.project = "stgrpo"  # of Weights & Biases
    c.name = ""  # of the group of a run's stages there; empty: after the work directory
    c.mode = "offline"  # wandb: "offline" leaves files that `wandb sync` sends, "online" sends at once
    return c


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
