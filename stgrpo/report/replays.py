"""Step-by-step replays of some episodes: the state, what the model said, what the expert does."""

import dataclasses
import itertools
from collections.abc import Sequence

from markupsafe import Markup

from stgrpo.evaluation.metrics import pair_episodes
from stgrpo.evaluation.records import MALFORMED, STAGE_LABELS, Episode, TurnRecord, played
from stgrpo.protocol import Noun
from stgrpo.react.policy import THINKING
from stgrpo.report.environment import EnvironmentView
from stgrpo.report.results import FAILURE_LABELS, Comparison

PER_OUTCOME = 3
MOST_FRAMES = 60


def choose_episodes(episodes: Sequence[Episode], per_outcome: int = PER_OUTCOME) -> list[Episode]:
    """Some successes, long ones first, then some failures, of as many kinds as there are."""
    solved = sorted((e for e in episodes if e.success and e.turns), key=lambda e: -e.steps)
    kinds: dict[str, list[Episode]] = {}
    for episode in played(episodes):
        if not episode.success and episode.turns:
            kinds.setdefault(episode.failure, []).append(episode)
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*kinds.values()))
    failed = [episode for episode in rounds if episode is not None]
    return solved[:per_outcome] + failed[:per_outcome]


def choose_pairs(before: Sequence[Episode], after: Sequence[Episode]) -> list[tuple[Episode, Episode]]:
    """Pairs of one layout worth comparing: gained ones first, then lost, failed by both and solved by both, in turn."""
    pairs = [(a, b) for a, b in pair_episodes(before, after) if a.turns and b.turns]
    outcomes = ((False, True), (True, False), (False, False), (True, True))
    groups = [[pair for pair in pairs if (pair[0].success, pair[1].success) == outcome] for outcome in outcomes]
    chosen = [pair for pair in itertools.chain.from_iterable(itertools.zip_longest(*groups)) if pair is not None]
    return chosen[: 2 * PER_OUTCOME]


def judge(turn: TurnRecord) -> tuple[str, str]:
    """A tone and a sentence on one response."""
    if turn.failure == THINKING:
        return "bad", "Cut at the length limit while it was thinking"
    if turn.failure in MALFORMED:
        return "bad", f"Malformed: no {turn.failure} could be read"
    if turn.failure == "finish":
        return "bad", "Gave up with “Finish”"
    if turn.failure:
        return "bad", "Not a valid action here"
    if turn.exact is None:
        return "plain", "Not judged: no planner"
    if turn.exact:
        return "good", "The expert does the same"
    if turn.optimal:
        return "fair", "Another action is the expert’s, this one is as good"
    return "poor", "Not on a shortest way"


@dataclasses.dataclass(frozen=True)
class Frame:
    """A step of a replay, or its end.

    Attributes:
        tone: good, fair, poor, bad or plain.
        heading: which step.
        remarks: short ones beside it.
        picture: of the state; None where the environment does not draw it.
        observation: the text of the state.
        judgement: a sentence on the response, or on how the episode ended.
        turn: the response; None at the end.
    """

    tone: str
    heading: str
    remarks: tuple[str, ...]
    picture: Markup | None
    observation: str
    judgement: str
    turn: TurnRecord | None = None


@dataclasses.dataclass(frozen=True)
class Replay:
    """An episode: who played it, how it ended, where; the goal; its frames and how many responses are left out."""

    label: str
    success: bool
    ending: str
    layout: str
    caption: str
    frames: tuple[Frame, ...]
    hidden: int


@dataclasses.dataclass(frozen=True)
class ReplayGroup:
    """The replays of a comparison: pairs of one layout before and after GRPO, or single ones."""

    title: str
    is_paired: bool
    groups: tuple[tuple[Replay, ...], ...]


@dataclasses.dataclass(frozen=True)
class ReplaysView:
    """Replays of every comparison, what a layout is called, and whether the environment draws its states."""

    comparisons: tuple[ReplayGroup, ...]
    noun: Noun
    draws: bool


def _ending(episode: Episode) -> str:
    if episode.success:
        best = "" if episode.optimal_steps is None else f" (fewest possible: {episode.optimal_steps})"
        return f"Solved in {episode.steps} steps{best}"
    what = FAILURE_LABELS.get(episode.failure, episode.failure)
    return f"Failed after {episode.steps} of {episode.cap} steps: {what}"


def _frame(turn: TurnRecord, picture: Markup | None) -> Frame:
    tone, sentence = judge(turn)
    again = f", try {turn.attempt + 1}" if turn.attempt else ""
    left = () if turn.distance is None else (f"{turn.distance} to go at best",)
    cut = ("cut off at the length limit",) if turn.finish == "length" else ()
    return Frame(tone, f"Step {turn.step + 1}{again}", left + cut, picture, turn.observation, sentence, turn)


def replay(episode: Episode, label: str, environment: EnvironmentView) -> Replay:
    """One episode, step by step."""
    turns = episode.turns[:MOST_FRAMES]
    observations = [turn.observation for turn in turns] + [episode.last_observation]
    *pictures, last = environment.draw(observations, [*(turn.action or "" for turn in turns), ""])
    ending = _ending(episode)
    end = Frame("good" if episode.success else "bad", "End", (), last, episode.last_observation, ending)
    return Replay(
        label,
        episode.success,
        ending,
        episode.layout,
        environment.caption(observations),
        (*map(_frame, turns, pictures), end),
        len(episode.turns) - len(turns),
    )


def _comparison(comparison: Comparison, environment: EnvironmentView) -> ReplayGroup:
    stages = comparison.stages
    chosen: list[dict[str, Episode]] = []
    if "sft" in stages and "grpo" in stages:
        chosen = [{"sft": before, "grpo": after} for before, after in choose_pairs(stages["sft"], stages["grpo"])]
    is_paired = bool(chosen)
    if not is_paired:
        chosen = [{stage: one} for stage, episodes in stages.items() for one in choose_episodes(episodes)]
    groups = (
        tuple(replay(one, STAGE_LABELS.get(stage, stage), environment) for stage, one in group.items())
        for group in chosen
    )
    return ReplayGroup(comparison.title, is_paired, tuple(groups))


def replays_view(comparisons: Sequence[Comparison], environment: EnvironmentView) -> ReplaysView:
    """Replays of every set of layouts."""
    views = tuple(_comparison(comparison, environment) for comparison in comparisons)
    return ReplaysView(views, environment.noun, environment.draws)
