"""The paper's baselines: Instruct models without training, with ReAct prompts, on the ten layouts of all four tasks.

Each is served by any OpenAI-compatible server and plays into the one work directory, command by command:

    for model in 1.5B 3B 7B 14B; do
        stgrpo evaluate --config=configs/paper/baselines.py:$model --workdir=runs/baselines \
            --config.policy.server=http://127.0.0.1:8000
    done
    stgrpo evaluate --config=configs/paper/baselines.py:llama3.3-70b --workdir=runs/baselines ...    the expert itself
    stgrpo compare --paper runs/baselines runs/matrix

The twin plays with random weights, which is what a twin's training begins with, and needs no server:

    stgrpo run --config=configs/paper/baselines.py:cpu --workdir=runs/untrained

To compare with: no success of 1.5B and 3B on any task, at most .2 of 7B and 14B. Not run by us for want of weights.
"""

from ml_collections import ConfigDict
from recipe import TASKS, recipe, twin

from stgrpo.errors import UserError, nearest

MODELS = {size.lower(): f"Qwen/Qwen2.5-{size}-Instruct" for size in ("1.5B", "3B", "7B", "14B")}
MODELS["llama3.3-70b"] = "meta-llama/Llama-3.3-70B-Instruct"
TWINS = ("cpu", "smoke")


def get_config(arg: str = "1.5b") -> ConfigDict:
    """`arg`: 1.5b, 3b, 7b, 14b or llama3.3-70b; or cpu or smoke for the twin."""
    if arg.lower() not in (*MODELS, *TWINS):
        raise UserError(f"configs/paper/baselines.py has no variant {arg!r}: {nearest(arg, [*MODELS, *TWINS])}")
    c = untrained(arg) if arg in TWINS else served(MODELS[arg.lower()])
    c.env.tasks = TASKS
    return c


def untrained(kind: str) -> ConfigDict:
    """The twin, before its training."""
    c = twin(kind)
    c.expert.trajectories, c.expert.validation = 50, 1  # for the tokenizer
    for stage in (c.sft, c.grpo):
        stage.epochs, stage.steps = 0.0, 0
    return c


def served(model: str) -> ConfigDict:
    """A model on a server, asked as the expert is: with the turn before in the prompt, as the benchmark's agent is."""
    c = recipe()
    c.policy.kind, c.policy.model, c.policy.server = "server", model, "http://127.0.0.1:8000"
    c.policy.history = "last_reasoning_action"  # not in paper: the benchmark's agent
    return c
