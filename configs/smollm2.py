"""A real language model on a CPU: SmolLM2-135M-Instruct (135 million parameters) by the paper's recipe.

100 trajectories of a task, eight epochs of SFT, then GRPO, with the paper's instructions before every observation.

    make models/smollm2
    stgrpo run --config=configs/smollm2.py:cpu --workdir=runs/smollm2 --config.model.path=models/smollm2
    stgrpo run --config=configs/smollm2.py:smoke ...          every stage; nothing is learned

`small` are the quick start's kitchens, `benchmark` the benchmark's own. `lora` trains adapters alone, a third faster.
`bare` leaves the instructions out, half of a prompt, which what is trained can do without; where they are in, SFT reads
them once an update. `cpu` is both, with half of the epochs and adapters in the upper half of the layers, so that what
lies below is computed once an example: what was run on two cores (docs/pretrained.md).
"""

from ml_collections import ConfigDict

from stgrpo.config import base
from stgrpo.errors import UserError, nearest

TASKS = ("burger", "cheese_sandwich", "cheese_burger", "double_cheese_burger")
VARIANTS = ("small", "benchmark", "lora", "bare", "cpu", "smoke")
RULES = 437  # tokens of the instructions


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: TASK[,small|benchmark][,lora][,bare][,cpu][,smoke] in any order; by default burger, small, all trained."""
    given = [part for part in arg.split(",") if part]
    for part in given:
        if part not in (*TASKS, *VARIANTS):
            raise UserError(f"configs/smollm2.py has no variant {part!r}: {nearest(part, [*TASKS, *VARIANTS])}")
    if len(tasks := [part for part in given if part in TASKS]) > 1 or {"small", "benchmark"} <= {*given}:
        raise UserError(f"configs/smollm2.py:{arg} is two experiments: give one task, and small or benchmark")
    c = recipe(*tasks)
    if "benchmark" in given:
        benchmark(c)
    if {"lora", "cpu"} & {*given}:
        c.lora.rank = 16
        c.sft.learning_rate = 5e-4
        c.grpo.learning_rate = 1e-5
    if {"bare", "cpu"} & {*given}:
        c.prompt.instructions = "none"
        c.limits.prompt -= RULES
    if "cpu" in given:
        two_cores(c)
    return smoke(c) if "smoke" in given else c


def recipe(task: str = "burger") -> ConfigDict:
    """The paper's, in small kitchens."""
    c = base()
    c.env.tasks = (task,)
    c.env.family = "small"
    c.model.name = "smollm2-135m"
    c.model.remat = False  # a third of the time, and parts of a batch keep the memory small
    c.limits.prompt = 1280
    c.limits.response = 128
    c.sft.learning_rate = 5e-5
    c.sft.group_by_length = True
    c.sft.micro_batches = 8  # an example at a time
    c.sft.share_prefix = True  # the instructions once an update
    c.grpo.prompts, c.grpo.group_size, c.grpo.resample = 16, 8, 2
    c.grpo.micro_batches = 16  # a group at a time
    c.grpo.steps = 40
    c.grpo.validate_every = 0
    c.evaluation.layouts = 50
    c.evaluation.suites = ("unseen",)
    return c


def two_cores(c: ConfigDict) -> None:
    """What was run on two cores."""
    c.expert.trajectories, c.sft.trajectories = 500, 100  # SFT soon knows its own by heart: GRPO needs others
    c.lora.layers = 15
    c.sft.epochs = 4
    c.sft.learning_rate = 8e-4
    c.sft.micro_batches = 4
    c.sft.keep_frozen = True
    c.grpo.learning_rate = 1e-4
    c.grpo.steps = 24
    c.evaluation.layouts = 200


def benchmark(c: ConfigDict) -> None:
    """The benchmark's own kitchens, up to fourteen stations and ten distractors, and its ten test layouts."""
    c.env.family = "random"
    c.limits.prompt = 2176
    c.evaluation.suites = ("unseen", "benchmark")


def smoke(c: ConfigDict) -> ConfigDict:
    """A few updates of each stage."""
    c.expert.trajectories, c.expert.validation = 4, 1
    c.sft.trajectories = min(c.sft.trajectories, 2)
    c.sft.steps, c.sft.checkpoint_every = 3, 2
    c.grpo.prompts, c.grpo.group_size, c.grpo.resample, c.grpo.steps = 2, 4, 0, 2
    c.grpo.micro_batches = 2
    c.evaluation.layouts = 2
    return c
