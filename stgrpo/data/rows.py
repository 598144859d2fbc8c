"""Single-turn problems as rows for trainers of others: plain values under names that TRL, verl and prime-rl know."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stgrpo.data.examples import turns
from stgrpo.data.records import Trajectory
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.react.prompt import Message, PromptStyle
from stgrpo.react.response import format_response
from stgrpo.react.reward import RewardWeights

Row = dict[str, object]


@dataclass(frozen=True)
class RowSettings:
    """What the rows of one file share.

    Attributes:
        environment: its name.
        split: "train" or "validation".
        style: of the prompts.
        target: what is rewarded, see `reward`.
        weights: of the reward's parts.
    """

    environment: str
    split: str
    style: PromptStyle
    target: str
    weights: RewardWeights


def problem_rows(trajectories: Iterable[Trajectory], tokenizer: Tokenizer, settings: RowSettings) -> Iterator[Row]:
    """A row for every state of every trajectory, in the order of `build_examples`.

    Raises:
        UserError: the chat template fails.
    """
    for number, turn in enumerate(turns(trajectories, settings.style)):
        yield _row(number, turn, tokenizer.render_prompt(turn[0]), settings)


def _row(number: int, turn: tuple[list[Message], Trajectory, int], prompt: str, settings: RowSettings) -> Row:
    messages, trajectory, index = turn
    step = trajectory.steps[index]
    truth = step.ground_truth(settings.target, settings.weights)
    return {
        "messages": messages,
        "prompt": prompt,
        "response": format_response(step.reasoning, step.action),
        "valid_actions": step.valid_actions,
        "expert_action": step.action,
        "optimal_actions": step.optimal_actions,
        "distance": step.distance,
        "task": trajectory.task,
        "layout": trajectory.layout,
        "step": index,
        "split": settings.split,
        "data_source": f"stgrpo/{settings.environment}/{trajectory.task}",
        "ability": "planning",
        "reward_model": {
            "style": "rule",
            "ground_truth": truth.to_json(),
        },
        "extra_info": {"split": settings.split, "index": number},
    }
