"""The paper's experiment (arXiv 2509.20616) with Qwen3 in place of Qwen2.5 (0.6b to 32b, the dense ones).

    stgrpo run --config=configs/qwen3.py:1.7b,burger --workdir=runs/qwen3 --config.model.path=FOLDER

`model.path` is a local Hugging Face folder; nothing is downloaded. Not in the paper, and not run by us for want of
weights.
"""

from ml_collections import ConfigDict
from qwen2_5 import published


def get_config(arg: str = "1.7b,burger") -> ConfigDict:
    """`arg`: SIZE,TASK, such as "1.7b,burger"; a part that is left out is the one of this default."""
    return published("configs/qwen3.py", "qwen3-", "1.7b", arg)
