"""Declared: what is learned, from whom, and who plays; seed, start, environment, expert, policy, client, prompt."""

from stgrpo import envs
from stgrpo.config.field import (
    NOT_IN_PAPER,
    PAPER,
    Choice,
    FilePath,
    Form,
    Number,
    Section,
    Switch,
    Text,
    Texts,
    section,
)
from stgrpo.react.prompt import HISTORY_POLICIES, INSTRUCTION_STYLES

# What has small letters and digits may be the key itself.
VARIABLE = Form(
    r"[A-Z_][A-Z0-9_]{0,99}|[a-z_]{1,100}", "name of an environment variable", "OPENAI_API_KEY", is_private=True
)
SERVERS = Form(r"[!-~]+( *, *[!-~]+)*", "address", "http://127.0.0.1:8000", is_private=True)

WHOLE: Section = section(
    "Of the whole run.",
    seed=Number(
        0,
        "all random choices follow from it",
        low=0,
        high=2**32 - 1,
        source=NOT_IN_PAPER,
        also=("random_seed", "rng_seed"),
    ),
    init_from=FilePath(
        "",
        "a checkpoint (checkpoints/STAGE/STEP) to start the first stage from: a new run, not a resumed one",
        also=("resume_from", "init_checkpoint", "pretrained_checkpoint"),
    ),
    watchdog_minutes=Number(
        60.0,
        "without progress, after which a run of several processes says where it stands and ends; 0: never",
        low=0,
        high=100_000,
        unit="minutes",
        also=("timeout_minutes", "stall_timeout"),
    ),
)

ENV: Section = section(
    "Where episodes are played.",
    name=Choice("robotouille", "the environment", choices=envs.names, source=PAPER, also=("env_name", "env_id")),
    engine=Text(
        "ours",
        'plays the episodes of evaluations: "ours", or "upstream" (the benchmark\'s own package)',
        one_of="an engine of the environment",
    ),
    data=FilePath(
        "",
        "where the data are of an environment that reads some; empty: as it finds them itself",
        also=("data_path", "data_dir", "data_root"),
    ),
    tasks=Texts(
        ("burger",),
        "trained on",
        each="task",
        filled=True,
        one_of="one that the environment has",
        also=("task", "dataset", "train_files"),
    ),
    family=Text(
        "random",
        'of unseen layouts: "random" like the benchmark\'s, "small", "noisy", "horizon50", ...',
        one_of="a family of layouts that the environment has",
    ),
    failure=Number(
        0.0,
        "probability that an action fails while episodes are played: only time passes",
        low=0,
        below=1,
        also=("failure_probability", "noise", "sticky_actions"),
    ),
)

EXPERT: Section = section(
    "Who solves the layouts that are learned from.",
    kind=Choice(
        "planner",
        "which expert",
        choices={
            "planner": "A*, provably shortest; in ALFWorld one that knows only what it has seen",
            "llm": "a served model by rejection sampling (the paper's is Llama-3.3-70B)",
        },
    ),
    trajectories=Number(
        100, "solved layouts a task", low=1, high=1_000_000, source=PAPER, also=("demonstrations", "num_trajectories")
    ),
    validation=Number(20, "more of them a task, to watch training with", low=1, high=100_000, source=NOT_IN_PAPER),
    server=Text(
        "",
        "`llm`: address of an OpenAI-compatible server, or several with commas between them",
        form=SERVERS,
        also=("base_url", "url", "address"),
    ),
    model=Text("", "`llm`: its name on the server"),
    tries=Number(8, "episodes a layout at most, until it is solved", low=1, high=1000, source=NOT_IN_PAPER),
    successes=Number(
        1, "solutions a layout of which the shortest is kept", low=1, high=1000, source=NOT_IN_PAPER, also=("best_of",)
    ),
    layouts=Number(
        0,
        "tried for these trajectories at most; 0: twice as many",
        low=0,
        high=10_000_000,
        source=NOT_IN_PAPER,
        unit="layouts",
    ),
    max_excess=Number(
        -1,
        "steps a kept trajectory may have above the optimum; -1: any, the paper has no planner",
        low=-1,
        high=1000,
    ),
    error_rate=Number(
        0.0,
        "`planner`: probability that a step of a demonstration has an error",
        low=0,
        below=1,
        also=("noise", "noise_rate", "epsilon", "corruption"),
    ),
    errors=Choice(
        "labels",
        "`planner`: of which kind, with `error_rate`",
        choices={
            "labels": "a wrong action is shown, the right one is done",
            "detours": "a wrong action is shown and done, the expert goes on from there",
            "states": "a wrong action is done, the right one is shown: states off the path (DART, arXiv 1703.09327)",
            "failures": "the right action is shown and fails, as with `env.failure`",
        },
        also=("noise_kind", "noise_type", "dagger", "dart"),
    ),
    action_distances=Switch(
        False,
        '`planner`: records the distance after every valid action, a search each, for `reward.target="distance"`',
        also=("record_distances",),
    ),
    temperature=Number(0.7, "of its answers; 0: greedy", low=0, high=10, source=NOT_IN_PAPER),
    top_p=Number(1.0, "of its answers; 1: off", above=0, high=1, source=NOT_IN_PAPER),
    max_tokens=Number(256, "of an answer", low=1, high=1_000_000, source=NOT_IN_PAPER, unit="tokens"),
    history=Choice(
        "last_reasoning_action",
        "as prompt.history, for the expert's own prompts",
        choices=HISTORY_POLICIES,
        source=NOT_IN_PAPER,
    ),
)

POLICY: Section = section(
    "Who plays the episodes of `evaluate`.",
    kind=Choice(
        "checkpoint",
        "which policy",
        choices={
            "checkpoint": "those of the work directory",
            "server": "any model that a server has",
            "model": "a Hugging Face folder, without training",
        },
    ),
    path=FilePath(
        "", "`model`: the folder; empty: that of model.path", also=("policy_path", "base_model", "model_name_or_path")
    ),
    server=Text("", "`server`: as expert.server", form=SERVERS, also=("base_url", "url", "address")),
    model=Text("", "`server`: its name on the server"),
    name=Text("", "in files and reports; empty: after the model"),
    instructions=Choice(
        "", "as prompt.instructions, for this model; empty: the same", choices=("", *INSTRUCTION_STYLES)
    ),
    history=Choice("", "as prompt.history, for this model; empty: the same", choices=("", *HISTORY_POLICIES)),
    prompt=Number(
        0,
        "`model`: as limits.prompt, where its prompts are longer; 0: the same",
        low=0,
        high=1_000_000,
        unit="tokens",
        also=("max_prompt_length", "prompt_limit"),
    ),
)

CLIENT: Section = section(
    "How the servers of expert and policy are asked.",
    concurrency=Number(
        32,
        "episodes played at one time, with one request each",
        low=1,
        high=10_000,
        also=("max_concurrency", "workers", "num_workers", "max_parallel"),
    ),
    requests_per_minute=Number(0.0, "evenly spaced; 0: no limit", low=0, high=1_000_000, also=("rpm", "rate_limit")),
    timeout=Number(120.0, "for an answer", above=0, high=86_400, unit="seconds", also=("request_timeout",)),
    retries=Number(
        5,
        "after broken connections, 429, 500 and whatever else may pass",
        low=0,
        high=100,
        also=("max_retries", "num_retries"),
    ),
    longest_wait=Number(
        600.0,
        "that a server may ask to be left alone (Retry-After); one that asks for more is given up",
        above=0,
        high=86_400,
        unit="seconds",
        also=("max_wait", "max_retry_after", "patience"),
    ),
    failed_share=Number(
        0.1,
        "of the episodes, in which a server may have no answer; they are in no figure, and above it there is no result",
        low=0,
        high=1,
        also=("max_failures", "error_rate", "tolerance"),
    ),
    key_variable=Text(
        "",
        "environment variable that holds the API key; the key itself is stored nowhere",
        form=VARIABLE,
        also=("api_key", "api_key_var", "key"),
    ),
    prompt_price=Number(
        0.0,
        "of a million tokens, in any currency; 0: cost is counted in tokens alone",
        low=0,
        high=1_000_000,
        also=("input_price",),
    ),
    completion_price=Number(0.0, "the same, of what is answered", low=0, high=1_000_000, also=("output_price",)),
)

PROMPT: Section = section(
    "What the model is shown.",
    instructions=Choice(
        "full",
        "before the first observation",
        choices={"full": "explains the task", "none": "shows the observation alone"},
        also=("system_prompt", "system"),
    ),
    history=Choice(
        "none",
        "what is repeated of the turn before",
        choices={
            "none": "nothing",
            "last_action": "its action",
            "last_reasoning_action": "its reasoning and action",
        },
        source=NOT_IN_PAPER,
        also=("memory", "context"),
    ),
)
