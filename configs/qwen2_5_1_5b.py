"""The paper's experiment (arXiv 2509.20616): Qwen2.5-1.5B-Instruct, SFT then GRPO, on one Robotouille task.

    stgrpo run --config=configs/qwen2_5_1_5b.py:burger --workdir=runs/burger --config.model.path=Qwen2.5-1.5B-Instruct

`model.path` is a local Hugging Face folder; nothing is downloaded. Not run by us for want of weights: the numbers to
compare with are the paper's, SR .2 after SFT and .7 after GRPO on the ten benchmark layouts of the burger task.
"""

from ml_collections import ConfigDict

from stgrpo.config import base, nearest
from stgrpo.errors import UserError

TASKS = ("cheese_sandwich", "burger", "cheese_burger", "double_cheese_burger")


def get_config(arg: str = "burger") -> ConfigDict:
    """`arg`: one of the paper's four tasks."""
    if arg not in TASKS:
        raise UserError(f"configs/qwen2_5_1_5b.py has no variant {arg!r}: {nearest(arg, TASKS)}")
    c = base()
    c.env.tasks = (arg,)
    c.evaluation.tasks = TASKS  # the paper's table of generalisation has all four
    c.model.name = "qwen2.5-1.5b"
    c.model.dtype = "bfloat16"
    c.mesh.data = 1
    c.mesh.fsdp = -1
    c.sft.micro_batches = 1
    c.grpo.group_size = 8  # not in paper
    c.grpo.micro_batches = 8
    c.rollout.batch = 512
    return c
