"""The paper's experiment (arXiv 2509.20616): Qwen2.5-Instruct, SFT then GRPO, on one Robotouille task.

    stgrpo run --config=configs/qwen2_5.py:1.5b,burger --workdir=runs/burger --config.model.path=Qwen2.5-1.5B-Instruct

`model.path` is a local Hugging Face folder; nothing is downloaded. Not run by us for want of weights: the numbers to
compare with are the paper's (1.5b), SR .2 after SFT and .7 after GRPO on the ten benchmark layouts of the burger task.
`stgrpo plan` with the same arguments says what an update takes on a given TPU topology or on the devices at hand.
"""

from ml_collections import ConfigDict

from stgrpo.config import base
from stgrpo.errors import UserError, nearest
from stgrpo.models.shapes import named_shapes

TASKS = ("cheese_sandwich", "burger", "cheese_burger", "double_cheese_burger")


def get_config(arg: str = "1.5b,burger") -> ConfigDict:
    """`arg`: SIZE,TASK, such as "1.5b,burger"; a part that is left out is the one of this default."""
    return published("configs/qwen2_5.py", "qwen2.5-", "1.5b", arg)


def published(file: str, prefix: str, size: str, arg: str) -> ConfigDict:
    """The experiment with a published model: `arg` is SIZE,TASK of the models whose names begin with `prefix`."""
    sizes = [name.removeprefix(prefix) for name in named_shapes() if name.startswith(prefix)]
    task = "burger"
    for part in filter(None, arg.split(",")):
        if part in sizes:
            size = part
        elif part in TASKS:
            task = part
        else:
            raise UserError(f"{file} has no variant {part!r}: {nearest(part, [*sizes, *TASKS])}")
    c = base()
    c.env.tasks = (task,)
    c.evaluation.tasks = TASKS  # the paper's table of generalisation has all four
    c.model.name = prefix + size
    c.model.dtype = "bfloat16"
    c.sft.row_tokens = 2048  # not in paper
    c.grpo.row_tokens = 4096  # not in paper
    c.mesh.data = 1
    c.mesh.fsdp = -1
    c.grpo.group_size = 8  # not in paper
    c.grpo.micro_batches = 8
    c.rollout.batch = 512
    return c
