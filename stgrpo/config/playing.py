"""Declared: what draws responses while it trains, and how it is evaluated and watched."""

from stgrpo.config.field import NOT_IN_PAPER, Choice, FilePath, Form, Number, Section, Switch, Text, Texts, section
from stgrpo.config.model import DTYPES

ADDRESS = Form(r"https?://[^/?#@\s]+/?", "address", "http://127.0.0.1:8000", is_private=True)


def one_address(text: str) -> str:
    """An address as all that mean the same become: in small letters, without the usual port or a slash at its end."""
    scheme, _, rest = text.strip().partition("://")
    host, _, path = rest.partition("/")
    usual = {"http": ":80", "https": ":443"}.get(scheme.lower(), "")
    return f"{scheme.lower()}://{host.lower().removesuffix(usual)}/{path}".rstrip("/")


SUITES = ("unseen", "benchmark")

_WEEK = 604_800

ROLLOUT: Section = section(
    "What draws the responses of GRPO.",
    backend=Choice(
        "jax",
        "the engine",
        choices={
            "jax": "in the trainer, on its devices",
            "vllm": "servers",
            "vllm_local": "vLLM in the trainer's own process",
        },
        also=("engine", "sampler", "use_vllm", "inference_engine"),
    ),
    batch=Number(
        256,
        "responses decoded at one time, by each server",
        low=1,
        high=1_048_576,
        also=("batch_size", "max_num_seqs", "slots"),
    ),
    servers=Texts(
        (),
        "`vllm`: addresses; empty: the run starts one and ends it",
        each="address",
        form=ADDRESS,
        same=one_address,
        also=("server", "base_url", "urls", "addresses", "vllm_server"),
    ),
    python=FilePath("", "`vllm`: an interpreter that has it, for a server that is started; empty: this one"),
    flags=Texts(
        (),
        '`vllm`: further flags of such a server, as `("--tensor-parallel-size=2",)`',
        each="flag",
        repeats=True,
        longest=2000,
        also=("args", "vllm_args", "extra_args"),
    ),
    dtype=Choice("", "`vllm`: of the served weights; empty: model.dtype", choices=("", *DTYPES)),
    folder=FilePath("", "`vllm`: where trainer and servers both see new weights; empty: shared memory (one host)"),
    timeout=Number(600.0, "`vllm`: that a request or a load may take", above=0, high=_WEEK, unit="seconds"),
    max_staleness=Number(
        0,
        "`vllm`: updates that a rollout may be drawn before its own; above 0 they overlap",
        low=0,
        high=1000,
        also=("staleness", "async_steps", "max_async_level", "off_policy_steps"),
    ),
    old_logprobs=Choice(
        "trainer",
        "the ratio's denominator",
        choices={"trainer": "computed again", "sampler": "those that came with the responses"},
        also=("old_logprob", "old_log_probs"),
    ),
    correction=Choice(
        "none",
        "truncated importance sampling",
        choices={"none": "no correction", "token": "a weight a token", "sequence": "a weight a response"},
        source=NOT_IN_PAPER,
        also=("tis", "importance_sampling", "rollout_is", "vllm_importance_sampling_correction"),
    ),
    correction_cap=Number(
        2.0,
        "its largest weight",
        above=0,
        high=1_000_000,
        also=("tis_imp_ratio_cap", "is_cap", "vllm_importance_sampling_cap", "truncation"),
    ),
    mismatch_alarm=Number(
        0.1, "mean |difference| of log-probabilities that is warned of; 0: never", low=0, high=1000, unit="nats"
    ),
    server_wait_s=Number(
        600.0,
        "`vllm`: that a run waits for a server that is not there, before it ends",
        above=0,
        high=_WEEK,
        unit="seconds",
        also=("wait", "server_timeout"),
    ),
)

EVALUATION: Section = section(
    "Whole episodes in layouts that were never seen.",
    suites=Texts(
        SUITES,
        "which layouts",
        each="suite",
        choices={"unseen": "new layouts of the family", "benchmark": "those of published results (the paper's ten)"},
        also=("suite", "splits", "benchmarks"),
    ),
    tasks=Texts(
        (),
        "empty: those trained on; others show generalisation",
        each="task",
        one_of="one that the environment has",
        also=("task", "eval_tasks"),
    ),
    layouts=Number(
        100,
        "unseen ones a task",
        low=1,
        high=1_000_000,
        also=("episodes", "num_episodes", "n", "num_eval_episodes", "kitchens"),
    ),
    temperature=Number(0.0, "0: greedy", low=0, high=10, source=NOT_IN_PAPER, also=("temp",)),
    top_p=Number(1.0, "1: off", above=0, high=1),
    top_k=Number(0, "0: off", low=0, high=1_000_000, unit="tokens"),
    on_invalid=Choice(
        "end",
        "what an unusable answer does",
        choices={"end": "ends the episode", "retry": "brings the benchmark's feedback, and another try"},
        also=("invalid_action", "on_error"),
    ),
    retries=Number(5, "tries a decision with `retry`, as in the benchmark", low=1, high=1000, also=("max_retries",)),
    constrain_action=Switch(
        False,
        "served models only: answers are held to the ReAct form and valid actions",
        also=("constrained", "guided_decoding", "structured_outputs", "constrained_decoding"),
    ),
    reasoning_chars=Number(
        800, "of a constrained answer's reasoning, at most", low=1, high=1_000_000, unit="characters"
    ),
)

MONITOR: Section = section(
    "Who is told the figures of a run, beside metrics.jsonl.",
    writers=Texts(
        (),
        "one of your own as `module:Class`",
        each="writer",
        one_of="`tensorboard`, `wandb` or `module:Class`",
        also=("report_to", "logger", "loggers", "log_with", "trackers", "wandb", "tensorboard"),
    ),
    project=Text("stgrpo", "of Weights & Biases", longest=128, also=("wandb_project", "project_name")),
    name=Text(
        "",
        "of the group of a run's stages there; empty: after the work directory",
        longest=128,
        also=("run_name", "experiment_name", "group", "wandb_name"),
    ),
    mode=Choice(
        "offline",
        "of Weights & Biases",
        choices={"offline": "leaves files that `wandb sync` sends", "online": "sends at once"},
        also=("wandb_mode",),
    ),
)

PROFILE: Section = section(
    "Some steps recorded in full, for a profiler to show (docs/monitors.md).",
    stage=Choice(
        "",
        "whose steps",
        choices={"": "of none", "sft": "of SFT", "grpo": "of GRPO"},
        also=("enabled", "profiler", "profile_stage"),
    ),
    first=Number(
        3,
        "the first of them, from 1; those before compile programs",
        low=1,
        high=10**9,
        also=("start", "start_step", "profile_step_start", "skip_first_n_steps_for_profiler"),
    ),
    steps=Number(
        2,
        "how many; seconds fill tens of megabytes",
        low=1,
        high=1000,
        also=("num_steps", "profiler_steps", "duration"),
    ),
    processes=Choice(
        "first",
        "which of several record, each into a folder of its own",
        choices={"first": "process 0", "all": "every process"},
        also=("hosts", "ranks", "all_hosts"),
    ),
)
