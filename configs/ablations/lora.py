"""LoRA in GRPO (arXiv 2106.09685): rank 8 on every linear map, a twelfth of the parameters; SFT trains all."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.lora.rank, c.lora.stages = 8, ("grpo",)
    return c
