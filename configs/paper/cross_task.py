"""The paper's cross-task matrix: trained on each of four tasks, evaluated on all of them. One command a matrix.

    stgrpo sweep --config=configs/paper/cross_task.py:cpu --workdir=runs/matrix \
        --sweep="env.tasks=('cheese_sandwich',),('burger',),('cheese_burger',),('double_cheese_burger',);seed=0,1,2"
    stgrpo compare --paper --out=runs/matrix.html runs/matrix

With `:cpu` from random weights in small kitchens, data and SFT once a task and seed; without it the paper's recipe,
which wants weights and a server (configs/paper/recipe.py). The diagonal is the table of the four tasks alone. The
paper's claim: what is learned on a longer task serves for shorter ones, and not the other way round.
"""

from ml_collections import ConfigDict
from recipe import TASKS, experiment


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: TASK[,cpu|smoke], as of configs/paper/recipe.py."""
    c = experiment("configs/paper/cross_task.py", arg)
    c.evaluation.tasks = TASKS
    return c
