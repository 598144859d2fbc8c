"""The paper's experiment (arXiv 2509.20616) with Llama 3 in place of Qwen2.5 (2-1b, 2-3b, 1-8b, 3-70b).

    stgrpo run --config=configs/llama3.py:2-1b,burger --workdir=runs/llama3 --config.model.path=FOLDER

`model.path` is a local Hugging Face folder; nothing is downloaded. Not in the paper, and not run by us for want of
weights.
"""

from ml_collections import ConfigDict
from qwen2_5 import published


def get_config(arg: str = "2-1b,burger") -> ConfigDict:
    """`arg`: SIZE,TASK, such as "2-1b,burger"; a part that is left out is the one of this default."""
    return published("configs/llama3.py", "llama3.", "2-1b", arg)
