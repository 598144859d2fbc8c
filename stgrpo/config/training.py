"""Declared: how it learns; SFT, GRPO, and what is rewarded."""

from ml_collections import ConfigDict

from stgrpo.config.field import NOT_IN_PAPER, PAPER, Choice, Field, Form, Number, Section, Switch, Text, Texts, section
from stgrpo.config.model import DTYPES

_OPTIMISERS = {
    "adamw": "two moments a parameter (arXiv 1711.05101)",
    "muon": "linear maps of the layers by their momentum made orthogonal, the rest, adapters too, as AdamW",
    "adafactor": "no first moment, the second factored (arXiv 1804.04235)",
}
LOSS = Form(r"[A-Za-z_]\w*|[A-Za-z_]\w*(\.\w+)*:\w+", "name of a loss, nor MODULE:FUNCTION", "grpo")
_SCHEDULES = ("cosine", "constant")
_ESTIMATORS = {"k1": "has no expected gradient on-policy, as a loss", "k2": "half the square", "k3": "never negative"}
_BASELINES = {
    "group_mean": "the mean of the group (Eq. 5)",
    "leave_one_out": "the mean of the others of the group (arXiv 2402.14740)",
    "critic": "a value that is learned, of each token (PPO, arXiv 1707.06347)",
}
_ADVANTAGES = {
    "response": "single-turn GRPO: of an answer among answers to the same state of the expert's",
    "episode": "multi-turn GRPO: of a whole episode among those from the same start, for each of its turns; no expert",
    "step": "the same, and of a turn among those in equal states (GiGPO, arXiv 2505.10978)",
    "exact": "of an action by the planner's distances, in whole episodes",
}
_AGGREGATIONS = {
    "token_mean": "every token weighs the same",
    "sequence_mean": "every response weighs the same",
    "dr_grpo": "every token, over a constant length (arXiv 2503.20783)",
}


def plays_episodes(config: ConfigDict) -> bool:
    """Whether GRPO learns from whole episodes, which take as many turns as they do, or from answers to given states."""
    return config.grpo.advantages != "response"


def _optimiser(learning_rate: Number, schedule: str) -> dict[str, Field]:
    """What everything that learns has."""
    return {
        "learning_rate": learning_rate,
        "schedule": Choice(
            schedule,
            "of the learning rate, after the warm-up",
            choices=_SCHEDULES,
            source=NOT_IN_PAPER,
            also=("lr_schedule", "lr_scheduler", "lr_scheduler_type", "scheduler", "decay"),
        ),
        "warmup": Number(
            0.03,
            "fraction of the updates",
            low=0,
            below=1,
            source=NOT_IN_PAPER,
            also=("warmup_ratio", "warmup_steps", "warmup_fraction"),
        ),
        "optimiser": Choice(
            "adamw", "how a gradient becomes a change", choices=_OPTIMISERS, source=NOT_IN_PAPER, also=("optim",)
        ),
        "moment_dtype": Choice(
            "float32",
            "of AdamW's moments between updates; `bfloat16` halves them, rounded to 8 bits",
            choices=DTYPES,
            also=("optimizer_dtype", "mu_dtype"),
        ),
        "weight_decay": Number(0.0, "on matrices only", low=0, high=10, source=NOT_IN_PAPER, also=("wd",)),
        "clip_norm": Number(
            1.0,
            "of the gradient; 0: no limit",
            low=0,
            high=1_000_000,
            source=NOT_IN_PAPER,
            also=("max_grad_norm", "grad_clip", "gradient_clip", "clip_grad"),
        ),
    }


def _optimisation(learning_rate: Number, schedule: str) -> dict[str, Field]:
    """What both stages of training have."""
    return _optimiser(learning_rate, schedule) | {
        "row_tokens": Number(
            0,
            "pack several examples or groups into rows of this many tokens; 0: one a row",
            low=0,
            high=16_777_216,
            unit="tokens",
            source=NOT_IN_PAPER,
            also=("packing", "pack", "max_seq_length", "max_length"),
        ),
        "micro_batches": Number(
            1,
            "parts a batch is taken in, to save memory; the result does not change. No more than its rows fill",
            low=1,
            high=1_048_576,
            also=("gradient_accumulation_steps", "gradient_accumulation", "grad_accum", "accumulation_steps"),
        ),
        "checkpoint_every": Number(
            100, "steps between checkpoints", low=1, high=10**9, unit="steps", also=("save_steps", "save_every")
        ),
        "keep": Number(
            2,
            "newest checkpoints kept",
            low=1,
            high=1_000_000,
            also=("save_total_limit", "max_to_keep", "keep_checkpoints"),
        ),
    }


_RATES = ("lr", "step_size", "peak_lr", "base_lr")
_EPOCHS = ("num_epochs", "num_train_epochs", "total_epochs", "max_epochs", "n_epochs")
_STEPS = ("max_steps", "num_steps", "total_steps", "updates", "iterations", "train_steps")

SFT: Section = section(
    "Supervised learning of the expert's answers.",
    **_optimisation(Number(1e-5, "at its peak", above=0, high=10, source=NOT_IN_PAPER, also=_RATES), "cosine"),
    loss=Text(
        "sft",
        "by name, or a function of one's own (docs/losses.md)",
        form=LOSS,
        one_of="a name of `stgrpo.rl.losses`, or `MODULE:FUNCTION`",
        also=("loss_fn", "loss_function", "objective"),
    ),
    epochs=Number(
        8.0,
        "passes over the examples; 0, with `steps` 0 too: no SFT",
        low=0,
        high=1_000_000,
        source=PAPER,
        also=_EPOCHS,
    ),
    steps=Number(0, "updates; 0: as many as the epochs give", low=0, high=10**9, also=_STEPS),
    trajectories=Number(
        0,
        "of each task that are learned from, the first ones; 0: all. GRPO learns from all, so from states that are new",
        low=0,
        high=1_000_000,
        source=NOT_IN_PAPER,
        also=("num_trajectories", "max_samples"),
    ),
    batch=Number(
        8,
        "examples an update",
        low=1,
        high=1_048_576,
        source=PAPER,
        also=("batch_size", "train_batch_size", "per_device_train_batch_size", "bs"),
    ),
    group_by_length=Switch(
        False,
        "batches of prompts of about one length: less padding, less random",
        source=NOT_IN_PAPER,
        also=("bucketing", "sort_by_length"),
    ),
    share_prefix=Switch(
        False,
        "what all prompts begin with, the instructions, goes through the model once an update and not once an example; "
        "the result does not change. Of use with XLA's attention, and where `sft.prompt_weight` is 0",
        also=("prefix_sharing", "shared_prefix"),
    ),
    keep_frozen=Switch(
        False,
        "with `lora.layers`: what the layers below all adapters give is computed once an example, when the stage "
        "starts, and kept in the host's memory: tokens of all examples x width, in `model.dtype`; the result does not "
        "change. For one process, rows that are not packed",
        also=("cache_frozen", "cache_activations", "cache_hidden_states"),
    ),
    prompt_weight=Number(
        0.0,
        "of the prompt's mean loss; above 0 only for models that start from random weights",
        low=0,
        high=1000,
        also=("prompt_loss_weight", "train_on_prompt", "completion_only_loss"),
    ),
)

GRPO: Section = section(
    "Reinforcement learning from groups of answers.",
    **_optimisation(Number(1e-6, "at its peak", above=0, high=10, source=PAPER, also=_RATES), "constant"),
    loss=Text(
        "grpo",
        "by name, or a function of one's own (docs/losses.md)",
        form=LOSS,
        one_of="a name of `stgrpo.rl.losses`, or `MODULE:FUNCTION`",
        also=("loss_fn", "loss_function", "objective", "algorithm", "adv_estimator"),
    ),
    loss_options=Texts(
        (),
        'numbers for a loss of one\'s own, as `("cap=5",)`',
        each="option",
        one_of="`NAME=NUMBER`",
        same=lambda option: option.partition("=")[0].strip(),
        also=("loss_args", "loss_kwargs"),
    ),
    epochs=Number(
        50.0,
        "passes over the examples; 0, with `steps` 0 too: no GRPO",
        low=0,
        high=1_000_000,
        source=PAPER,
        also=_EPOCHS,
    ),
    steps=Number(0, "rollouts; 0: as many as the epochs give", low=0, high=10**9, also=_STEPS),
    prompts=Number(
        256,
        "a rollout",
        low=1,
        high=1_048_576,
        source=PAPER,
        also=("batch_size", "train_batch_size", "batch", "rollout_batch_size", "num_prompts", "bs"),
    ),
    group_size=Number(
        5,
        "responses a prompt, two at least for an advantage over a group; VeRL's examples with the same β have 5",
        low=2,
        high=65_536,
        source=NOT_IN_PAPER,
        also=("num_generations", "n", "samples_per_prompt", "num_samples", "num_return_sequences"),
    ),
    minibatches=Number(
        1,
        "updates a pass over a rollout",
        low=1,
        high=1_048_576,
        source=NOT_IN_PAPER,
        also=("num_minibatches", "mini_batch_size", "ppo_mini_batch_size"),
    ),
    passes=Number(
        1,
        "over each rollout",
        low=1,
        high=1000,
        source=NOT_IN_PAPER,
        also=("ppo_epochs", "num_iterations", "inner_epochs", "mu"),
    ),
    temperature=Number(1.0, "of the responses", above=0, high=10, source=NOT_IN_PAPER, also=("temp",)),
    top_p=Number(
        1.0, "anything else would train on another distribution than it samples: 1 alone is taken", above=0, high=1
    ),
    top_k=Number(0, "the same: 0 alone is taken", low=0, high=1_000_000),
    kl_coef=Number(
        0.001,
        "β of Eq. 4: weight of the KL to the frozen SFT policy",
        low=0,
        high=1000,
        source=PAPER,
        also=("beta", "kl_beta", "kl_coeff", "kl_loss_coef", "kl", "kl_penalty", "kl_weight", "init_kl_coef"),
    ),
    kl_estimator=Choice(
        "k3",
        "of that KL",
        choices=_ESTIMATORS,
        source=NOT_IN_PAPER,
        also=("kl_type", "kl_loss_type", "kl_estimate"),
    ),
    clip_low=Number(
        0.2,
        "ratio ≥ 1 - this, which is positive; 0: no clipping, as the paper's analysis has it",
        low=0,
        below=1,
        source=NOT_IN_PAPER,
        also=("eps", "epsilon", "clip", "clip_ratio", "clip_range", "cliprange", "epsilon_low", "clip_ratio_low"),
    ),
    clip_high=Number(
        0.2,
        "ratio ≤ 1 + this; 0: no clipping",
        low=0,
        high=1000,
        source=NOT_IN_PAPER,
        also=("eps", "epsilon", "clip", "clip_ratio", "clip_range", "cliprange", "epsilon_high", "clip_ratio_high"),
    ),
    aggregation=Choice(
        "token_mean",
        "of the losses of tokens",
        choices=_AGGREGATIONS,
        source=NOT_IN_PAPER,
        also=("loss_agg_mode", "loss_type", "loss_aggregation", "reduction"),
    ),
    baseline=Choice(
        "group_mean",
        "what an advantage is counted from",
        choices=_BASELINES,
        source=PAPER,
        also=("rloo", "leave_one_out", "loo", "adv_estimator"),
    ),
    advantages=Choice(
        "response",
        "what they are of; all but the first play whole episodes, `prompts` layouts with `group_size` of them each",
        choices=_ADVANTAGES,
        source=PAPER,
        also=("multi_turn", "multiturn", "credit", "adv_estimator", "gigpo", "agentic"),
    ),
    scale_by_std=Switch(
        True,
        "advantage divided by the group's standard deviation (Eq. 5)",
        source=PAPER,
        also=("scale_rewards", "norm_adv_by_std", "normalize_advantages", "std_normalization", "whiten"),
    ),
    resample=Number(
        0,
        "times that groups without signal are replaced by new prompts",
        low=0,
        high=1000,
        source=NOT_IN_PAPER,
        also=("dynamic_sampling", "filter_groups", "max_num_gen_batches"),
    ),
    validate_every=Number(
        100,
        "steps between multi-turn evaluations on validation layouts; 0: never",
        low=0,
        high=10**9,
        unit="steps",
        also=("eval_steps", "eval_every", "test_freq", "eval_interval"),
    ),
    keep_best=Number(
        1,
        "checkpoints kept beside the newest: the best by success rate of the steps that were validated and saved",
        low=0,
        high=1_000_000,
        source=NOT_IN_PAPER,
        also=("load_best_model_at_end", "best_fn", "save_best"),
    ),
    validation_layouts=Number(20, "of a task, for these", low=1, high=1_000_000, also=("num_eval_episodes",)),
)

EPISODES: Section = section(
    'Training on whole episodes, with any `grpo.advantages` but "response".',
    layouts=Number(
        0,
        "of a task, that episodes are trained in; 0: as many as `expert.trajectories`",
        low=0,
        high=1_000_000,
        unit="layouts",
        source=NOT_IN_PAPER,
        also=("num_envs", "num_tasks"),
    ),
    gamma=Number(
        0.95,
        "discount of the episode's reward, a turn, in returns from equal states",
        above=0,
        high=1,
        source=NOT_IN_PAPER,
        also=("discount",),
    ),
    step_weight=Number(
        1.0,
        "of a turn's advantage among equal states, beside its episode's",
        low=0,
        high=1000,
        source=NOT_IN_PAPER,
        also=("step_advantage_w", "omega"),
    ),
)

CRITIC: Section = section(
    'The critic of PPO, with `grpo.baseline="critic"` alone.',
    **_optimiser(Number(1e-5, "at its peak", above=0, high=10, source=NOT_IN_PAPER, also=_RATES), "constant"),
    warmup_rollouts=Number(
        0,
        "rollouts at first from which only the critic learns",
        low=0,
        high=1_000_000,
        unit="rollouts",
        source=NOT_IN_PAPER,
        also=("critic_warmup", "value_warmup"),
    ),
    gamma=Number(1.0, "discount of a later reward, a token", above=0, high=1, source=NOT_IN_PAPER, also=("discount",)),
    gae_lambda=Number(
        1.0,
        "λ of the advantages (arXiv 1506.02438): 1 counts on what came, 0 on the next value",
        low=0,
        high=1,
        source=NOT_IN_PAPER,
        also=("lam", "lambda", "gae"),
    ),
    whiten=Switch(
        True,
        "advantages with mean 0 and variance 1 over the tokens of a rollout",
        source=NOT_IN_PAPER,
        also=("whiten_advantages", "normalize_advantages", "normalise_advantages"),
    ),
    value_clip=Number(
        0.2,
        "a value counts as no further than this from what it was; 0: no clipping",
        low=0,
        high=1000,
        source=NOT_IN_PAPER,
        also=("cliprange_value", "vf_clip", "value_clip_range"),
    ),
    kl_in=Choice(
        "loss",
        "where `grpo.kl_coef` counts",
        choices={"loss": "in the policy's loss", "reward": "taken off the reward of each token, k1"},
        source=NOT_IN_PAPER,
        also=("use_kl_in_reward", "kl_in_reward"),
    ),
)

REWARD: Section = section(
    "What a response earns.",
    format=Number(0.1, "for the ReAct format", low=0, high=1000, source=PAPER, also=("format_reward", "format_weight")),
    action=Number(0.9, "for the right action", low=0, high=1000, source=PAPER, also=("action_reward", "accuracy")),
    target=Choice(
        "expert",
        "the right action",
        choices={
            "expert": "the expert's (Eq. 3)",
            "optimal": "any equally good one",
            "distance": "half for one that loses no ground, whole for one that wins a step; no expert is asked",
        },
        source=PAPER,
    ),
    overlong_buffer=Number(
        0,
        "tokens before `limits.response` in which a deduction for length grows (arXiv 2503.14476); 0: none",
        low=0,
        high=1_048_576,
        unit="tokens",
        source=NOT_IN_PAPER,
        also=("overlong_buffer_len", "soft_punish_cache", "overlong_cache", "overlong"),
    ),
    overlong_penalty=Number(
        1.0,
        "deducted from the reward of a response as long as the limit, with `overlong_buffer`",
        above=0,
        high=1000,
        source=NOT_IN_PAPER,
        also=("overlong_penalty_factor", "length_penalty"),
    ),
)
