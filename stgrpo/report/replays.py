"""Step-by-step replays of some episodes: the kitchen, what the model said, what the expert does."""

import itertools
from collections.abc import Iterable, Sequence

from stgrpo.envs.robotouille.draw.observation import KitchenView, read_observation
from stgrpo.envs.robotouille.draw.svg import draw_kitchen
from stgrpo.evaluation.metrics import pair_episodes
from stgrpo.evaluation.records import MALFORMED, STAGE_LABELS, Episode, TurnRecord
from stgrpo.report.results import FAILURE_LABELS, Comparison, title
from stgrpo.report.text import absent, esc

PER_OUTCOME = 3
MOST_FRAMES = 60


def choose_episodes(episodes: Sequence[Episode], per_outcome: int = PER_OUTCOME) -> list[Episode]:
    """Some successes, long ones first, then some failures, of as many kinds as there are."""
    solved = sorted((e for e in episodes if e.success and e.turns), key=lambda e: -e.steps)
    kinds: dict[str, list[Episode]] = {}
    for episode in episodes:
        if not episode.success and episode.turns:
            kinds.setdefault(episode.failure, []).append(episode)
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*kinds.values()))
    failed = [episode for episode in rounds if episode is not None]
    return solved[:per_outcome] + failed[:per_outcome]


def choose_pairs(before: Sequence[Episode], after: Sequence[Episode]) -> list[tuple[Episode, Episode]]:
    """Kitchens worth comparing: gained ones first, then lost, failed by both and solved by both, in turn."""
    pairs = [(a, b) for a, b in pair_episodes(before, after) if a.turns and b.turns]
    outcomes = ((False, True), (True, False), (False, False), (True, True))
    groups = [[pair for pair in pairs if (pair[0].success, pair[1].success) == outcome] for outcome in outcomes]
    chosen = [pair for pair in itertools.chain.from_iterable(itertools.zip_longest(*groups)) if pair is not None]
    return chosen[: 2 * PER_OUTCOME]


def judge(turn: TurnRecord) -> tuple[str, str]:
    """A tone and a sentence on one response."""
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


def _tallest(kitchens: Iterable[KitchenView | None]) -> int:
    stations = [station for kitchen in kitchens if kitchen for station in kitchen.stations]
    return max([2, *(len(station.stack) for station in stations)])


def _picture(observation: str, action: str, tallest: int) -> str:
    kitchen = read_observation(observation)
    if kitchen is None or not kitchen.stations:
        return f'<pre class="observation">{esc(observation)}</pre>'
    picture = draw_kitchen(kitchen, action=action, tallest=tallest)
    text = f'<pre class="observation">{esc(observation)}</pre>'
    return f'<div class="view">{picture}</div><details><summary>What the model was shown</summary>{text}</details>'


def _frame(turn: TurnRecord, tallest: int) -> str:
    tone, sentence = judge(turn)
    again = f", try {turn.attempt + 1}" if turn.attempt else ""
    left = "" if turn.distance is None else f' <span class="left">{turn.distance} to go at best</span>'
    cut = ' <span class="left">cut off at the length limit</span>' if turn.finish == "length" else ""
    expert = f"<dt>Expert</dt><dd>{esc(turn.expert)}</dd>" if turn.expert is not None else ""
    said = "–" if turn.action is None else turn.action
    return (
        f'<li class="frame" data-tone="{tone}"><h5>Step {turn.step + 1}{again}{left}{cut}</h5><div class="split">'
        f"<div>{_picture(turn.observation, turn.action or '', tallest)}</div>"
        f'<div><p class="judge {tone}">{esc(sentence)}</p><dl><dt>Model</dt><dd>{esc(said)}</dd>{expert}</dl>'
        f'<pre class="response" aria-label="The model’s response">{esc(turn.response)}</pre></div></div></li>'
    )


def _ending(episode: Episode) -> str:
    if episode.success:
        best = "" if episode.optimal_steps is None else f" (fewest possible: {episode.optimal_steps})"
        return f"Solved in {episode.steps} steps{best}"
    what = FAILURE_LABELS.get(episode.failure, episode.failure)
    return f"Failed after {episode.steps} of {episode.cap} steps: {what}"


def _last_frame(episode: Episode, tallest: int) -> str:
    tone = "good" if episode.success else "bad"
    picture = _picture(episode.last_observation, "", tallest) if episode.last_observation else ""
    return (
        f'<li class="frame" data-tone="{tone}"><h5>End</h5><div class="split"><div>{picture}</div>'
        f'<div><p class="judge {tone}">{esc(_ending(episode))}</p></div></div></li>'
    )


def replay(episode: Episode, label: str, *, is_open: bool = False) -> str:
    """One episode as a <details>; without the script its steps stand one below the other."""
    observations = [turn.observation for turn in episode.turns] + [episode.last_observation]
    tallest = _tallest(map(read_observation, observations))
    frames = "".join(_frame(turn, tallest) for turn in episode.turns[:MOST_FRAMES])
    hidden = len(episode.turns) - MOST_FRAMES
    note = f"<p>The last {hidden} responses are left out here.</p>" if hidden > 0 else ""
    tone, mark = ("good", "✓") if episode.success else ("bad", "✗")
    goal = next((k.goal for k in map(read_observation, observations) if k), "")
    return (
        f'<details class="replay"{" open" if is_open else ""}><summary>'
        f'<span class="judge {tone}">{mark} {esc(label)}</span> '
        f"{esc(_ending(episode))} <small>{esc(episode.layout)}</small></summary>"
        f'<p class="goal">{esc(goal)}</p><ol class="frames">{frames}{_last_frame(episode, tallest)}</ol>'
        f"{note}</details>"
    )


def _comparison(comparison: Comparison, *, is_first: bool) -> str:
    stages = comparison.stages
    pairs = choose_pairs(stages["sft"], stages["grpo"]) if "sft" in stages and "grpo" in stages else []
    if pairs:
        labels = STAGE_LABELS["sft"], STAGE_LABELS["grpo"]
        parts = [
            f'<div class="pair">{replay(a, labels[0])}{replay(b, labels[1], is_open=is_first and i == 0)}</div>'
            for i, (a, b) in enumerate(pairs)
        ]
        hint = "<p>Each pair is one kitchen, before and after GRPO; those that GRPO gained or lost come first.</p>"
    else:
        chosen = [(STAGE_LABELS.get(s, s), e) for s, episodes in stages.items() for e in choose_episodes(episodes)]
        parts = [replay(e, label, is_open=is_first and i == 0) for i, (label, e) in enumerate(chosen)]
        hint = ""
    return f"<article><h3>{esc(title(comparison))}</h3>{hint}{''.join(parts)}</article>"


def replays_section(comparisons: Sequence[Comparison]) -> str:
    """Replays of every set of kitchens."""
    parts = [_comparison(comparison, is_first=index == 0) for index, comparison in enumerate(comparisons)]
    body = "".join(parts) or absent("No episode to replay yet.", "The evaluate stage writes them to evaluation/.")
    return f'<section id="replays"><h2>Replays</h2>{body}</section>'
