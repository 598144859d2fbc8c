"""What served models would be asked, without asking: the first prompt, and how many requests there can be at most."""

from collections.abc import Iterable, Iterator

from ml_collections import ConfigDict

from stgrpo import envs
from stgrpo.evaluation.episodes import EpisodeConfig
from stgrpo.evaluation.served import policy_episodes, policy_name
from stgrpo.evaluation.suites import playing_environment, suite_problems, suites
from stgrpo.experts.served_expert import expert_episodes, expert_kitchens
from stgrpo.protocol import Problem
from stgrpo.react.prompt import render_messages


def most_requests(problem: Problem, how: EpisodeConfig) -> int:
    """The most questions of one episode. A decision that is out of tries is begun afresh, so many times an episode."""
    if how.on_invalid == "end":
        return problem.max_steps
    return (problem.max_steps + how.max_exhausted - 1) * how.retries


def plan_policy(config: ConfigDict) -> Iterator[str]:
    """Lines on an evaluation of a served policy."""
    environment, how = playing_environment(config), policy_episodes(config)
    yield f"policy   {config.policy.model} at {config.policy.server}, as {policy_name(config)}"
    every: list[Problem] = []
    for suite in suites(config):
        problems = suite_problems(environment, suite)
        requests = sum(most_requests(problem, how) for problem in problems)
        yield f"{suite.name:8} {len(problems)} kitchens: {_bound(config, requests, how)}"
        every += problems
    yield from _asked(every, how)


def plan_expert(config: ConfigDict) -> Iterator[str]:
    """Lines on a collection from a served expert."""
    environment, e, how = envs.get(config.env.name), config.expert, expert_episodes(config)
    yield f"expert   {e.model} at {e.server}, at most {e.tries} tries a kitchen"
    every: list[Problem] = []
    for task in config.env.tasks:
        for split, count in (("train", e.trajectories), ("validation", e.validation)):
            kitchens = expert_kitchens(config, count)
            layouts = environment.layouts(task, config.env.family, split=split, count=kitchens)
            problems = [environment.make(task, layout) for layout in layouts]
            requests = e.tries * sum(most_requests(problem, how) for problem in problems)
            said = f"{count} trajectories from at most {kitchens} kitchens"
            yield f"{split:10} {task}: {said}: {_bound(config, requests, how)}"
            every += problems
    yield from _asked(every, how)


def _bound(config: ConfigDict, requests: int, how: EpisodeConfig) -> str:
    pace = config.client.requests_per_minute
    time = f", {requests / pace / 60:.1f} h at {pace:g} a minute" if pace else ""
    tokens = f"{requests * how.params.max_tokens:,} completion tokens"
    return f"at most {requests:,} requests and {tokens}{time}"


def _asked(problems: Iterable[Problem], how: EpisodeConfig) -> Iterator[str]:
    for problem in problems:
        yield f"the first question in {problem.task} {problem.layout}:"
        for message in render_messages(problem.observation(problem.initial_state()), style=how.style):
            yield f"--- {message['role']}\n{message['content']}"
        return
