"""What served models would be asked, without asking: the first prompt, and how many requests there can be at most."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from ml_collections import ConfigDict

from stgrpo.config.environments import environment_of
from stgrpo.envs.sessions import open_session
from stgrpo.evaluation.episodes import EpisodeConfig
from stgrpo.evaluation.served import policy_episodes, policy_name
from stgrpo.evaluation.suites import playing_environment, suite_layouts, suites
from stgrpo.experts.served_expert import expert_episodes, expert_layouts
from stgrpo.protocol import Environment, Session
from stgrpo.react.prompt import render_messages


def most_requests(session: Session, how: EpisodeConfig) -> int:
    """The most questions of one episode. A decision that is out of tries is begun afresh, so many times an episode."""
    if how.on_invalid == "end":
        return session.max_steps
    return (session.max_steps + how.max_exhausted - 1) * how.retries


def plan_policy(config: ConfigDict) -> Iterator[str]:
    """Lines on an evaluation of a served policy."""
    environment, how = playing_environment(config), policy_episodes(config)
    yield f"policy   {config.policy.model} at {config.policy.server}, as {policy_name(config)}"
    every: list[tuple[str, str]] = []
    for suite in suites(config):
        layouts = suite_layouts(environment, suite)
        yield f"{suite.name:8} {len(layouts)} layouts: {_bound(config, _requests(environment, layouts, how), how)}"
        every += layouts
    yield from _asked(environment, every, how)


def plan_expert(config: ConfigDict) -> Iterator[str]:
    """Lines on a collection from a served expert."""
    environment, e, how = environment_of(config), config.expert, expert_episodes(config)
    yield f"expert   {e.model} at {e.server}, at most {e.tries} tries a layout"
    every: list[tuple[str, str]] = []
    for task in config.env.tasks:
        for split, count in (("train", e.trajectories), ("validation", e.validation)):
            most = expert_layouts(config, count)
            names = environment.layouts(task, config.env.family, split=split, count=most)
            layouts = [(task, name) for name in names]
            said = f"{count} trajectories from at most {most} layouts"
            requests = e.tries * _requests(environment, layouts, how)
            yield f"{split:10} {task}: {said}: {_bound(config, requests, how)}"
            every += layouts
    yield from _asked(environment, every, how)


def _requests(environment: Environment, layouts: Iterable[tuple[str, str]], how: EpisodeConfig) -> int:
    """The most questions of one episode in each layout."""
    total = 0
    for layout in layouts:
        with closing(open_session(environment, *layout)) as session:
            total += most_requests(session, how)
    return total


def _bound(config: ConfigDict, requests: int, how: EpisodeConfig) -> str:
    pace = config.client.requests_per_minute
    time = f", {requests / pace / 60:.1f} h at {pace:g} a minute" if pace else ""
    tokens = f"{requests * how.params.max_tokens:,} completion tokens"
    return f"at most {requests:,} requests and {tokens}{time}"


def _asked(environment: Environment, layouts: Sequence[tuple[str, str]], how: EpisodeConfig) -> Iterator[str]:
    for layout in layouts[:1]:
        with closing(open_session(environment, *layout)) as session:
            shown = session.reset().observation
        yield f"the first question in {session.task} {session.layout}:"
        for message in render_messages(shown, style=how.style):
            yield f"--- {message['role']}\n{message['content']}"
