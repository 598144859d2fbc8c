"""Any environment of pure problems behind `gymnasium` (the extra `[gym]`): `stgrpo/Environment-v0` is registered here.

    import gymnasium
    import stgrpo.envs.gym

    env = gymnasium.make("stgrpo/Environment-v0", environment="my_maze", task="small", layout="maze:3")

`gymnasium.make("stgrpo.envs.gym:stgrpo/Environment-v0", ...)` imports it by itself. `stgrpo.envs.robotouille.gym`,
`stgrpo.envs.alfworld.gym` and `stgrpo.envs.webshop.gym` register those under names of their own. Observations and
actions are texts. With a family as the layout, every reset draws another layout, and `reset(seed=...)` says from where;
a single layout is the same whatever the seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Unpack

import gymnasium
import numpy as np
from gymnasium.spaces import Text
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from stgrpo.envs import get
from stgrpo.envs.vector import EpisodeVector, LiveEpisode, Places, Rules, RuleSettings
from stgrpo.errors import UserError

ID = "stgrpo/Environment-v0"
LONGEST_OBSERVATION, LONGEST_ACTION = 1 << 16, 256
_AUTORESETS = {
    AutoresetMode.NEXT_STEP: "next_step",
    AutoresetMode.SAME_STEP: "same_step",
    AutoresetMode.DISABLED: "off",
}


def _info(episode: LiveEpisode, *, invalid: bool, with_distance: bool) -> dict[str, object]:
    info: dict[str, object] = {
        "valid_actions": episode.problem.valid_actions(episode.state),
        "invalid": invalid,
        "steps": episode.steps,
        "layout": episode.problem.layout,
    }
    if with_distance:
        try:
            info["distance"] = episode.distance()
        except UserError:
            info["distance"] = -1
    return info


class AnyText(Text):
    """Every text up to a length; samples are of the characters that `Text` draws."""

    def contains(self, x: object) -> bool:
        """Says whether it is one."""
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length


class FurtherSettings(RuleSettings, total=False):
    """What a `TextEnv` is made with beside a task and a layout, each of which may be left out."""

    environment: str
    data: str
    split: str
    pool: int
    distance: bool
    render_mode: str | None


class Settings(FurtherSettings, total=False):
    """All that a `TextEnv` is made with."""

    task: str
    layout: str


class TextEnv(gymnasium.Env[str, str]):
    """One episode after the other.

    `info` has the valid actions in display order, whether the last action was invalid, the steps so far, the name of
    the layout and, on request, the distance: the least number of steps to the goal, -1 where the planner knows none.

    Args:
        task: the name of a task; empty for the first.
        layout: a layout or a family of layouts, see `stgrpo.envs.vector.Places`; empty for the first family.
        environment: its name; empty for that of the class.
        data: where its data are, if it reads any.
        split: which of a family's layouts: train, validation or test.
        pool: draw from so many layouts of the family only; 0 for any.
        distance: whether `info` has the distance.
        render_mode: "ansi", the text that an agent is shown; None for nothing.
        **rules: `reward`, `on_invalid` and `max_steps` of `stgrpo.envs.vector.Rules`. By default 1 for reaching the
            goal, an invalid action changes nothing but counts as a step, and the cap is the task's.

    Raises:
        UserError: there is no such environment, task, layout, rule or render mode.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}
    environment: ClassVar[str] = ""
    places_of: ClassVar[type[Places]] = Places

    def __init__(
        self,
        task: str = "",
        layout: str = "",
        *,
        environment: str = "",
        data: str = "",
        split: str = "train",
        pool: int = 0,
        distance: bool = False,
        render_mode: str | None = None,
        **rules: Unpack[RuleSettings],
    ):
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise UserError(f"render_mode {render_mode!r}: unknown; use one of {', '.join(modes)}")
        name = environment or self.environment
        known = get(name, data=data)
        task, layout = task or known.tasks()[0], layout or known.families()[0]
        self.places = self.places_of(task, layout, split=split, pool=pool, environment=name, data=data)
        self.rules, self.with_distance, self.render_mode = Rules(**rules), distance, render_mode
        self.observation_space, self.action_space = self.make_spaces()
        self._episode: LiveEpisode | None = None

    def make_spaces(self) -> tuple[Text, Text]:
        """Returns the spaces of observations and of actions."""
        return AnyText(LONGEST_OBSERVATION), AnyText(LONGEST_ACTION)

    @property
    def episode(self) -> LiveEpisode:
        """The episode under way: its problem, state, steps and planner.

        Raises:
            gymnasium.error.ResetNeeded: there is none yet.
        """
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call reset before step or render")
        return self._episode

    def reset(self, *, seed: int | None = None, options: Mapping[str, object] | None = None) -> tuple[str, dict]:
        """Starts an episode, in another layout of the family where one is given; there are no options."""
        super().reset(seed=seed)
        self._episode = LiveEpisode(self.places, self.rules, self.np_random)
        return self._episode.observation(), self._info(invalid=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        """Does an action; a text that is no valid action is dealt with by the rules."""
        reward, terminated, truncated, invalid = self.episode.step(action)
        return self.episode.observation(), reward, terminated, truncated, self._info(invalid=invalid)

    def _info(self, *, invalid: bool) -> dict[str, object]:
        return _info(self.episode, invalid=invalid, with_distance=self.with_distance)

    def render(self) -> str | None:
        """Returns the state by the render mode; None without one."""
        return None if self.render_mode is None else self.render_episode(self.episode)

    def render_episode(self, episode: LiveEpisode) -> str:
        """Returns the state of an episode by the render mode."""
        return episode.observation()


class TextVectorEnv(gymnasium.vector.VectorEnv[tuple[str, ...], tuple[str, ...], np.ndarray]):
    """Many episodes: the same as in as many `TextEnv`, with seeds that count up from the first.

    Args:
        num_envs: number of them.
        autoreset_mode: as of `gymnasium.vector.SyncVectorEnv`.
        **settings: those of `TextEnv`.

    Raises:
        UserError: as there.
    """

    single_env: ClassVar[type[TextEnv]] = TextEnv

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **settings: Unpack[Settings],
    ):
        single, mode = self.single_env(**settings), AutoresetMode(autoreset_mode)
        self._single = single
        self._vector = EpisodeVector(
            single.places, num_envs, rules=single.rules, autoreset=_AUTORESETS[mode], text=False
        )
        self._with_distance, self.num_envs, self.render_mode = single.with_distance, num_envs, single.render_mode
        self.metadata = {**single.metadata, "autoreset_mode": mode}
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)

    @property
    def episodes(self) -> Sequence[LiveEpisode]:
        """The episodes under way."""
        return self._vector.episodes

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, np.ndarray] | None = None
    ) -> tuple[tuple[str, ...], dict]:
        """Starts all episodes, or those of the option `reset_mask`; place i draws with the seed + i."""
        mask_N = (options or {}).get("reset_mask")
        self._vector.reset(seed=seed, mask_N=mask_N)
        chosen = range(self.num_envs) if mask_N is None else np.flatnonzero(mask_N)
        return self._observations(), self._infos(chosen, np.zeros(self.num_envs, np.bool_), {})

    def step(self, actions: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict]:
        """Does one action in each episode."""
        steps = self._vector.step(actions)
        infos = self._infos(range(self.num_envs), steps.invalid_N, steps.final)
        return self._observations(), steps.rewards_N, steps.terminated_N, steps.truncated_N, infos

    def _observations(self) -> tuple[str, ...]:
        return tuple(episode.observation() for episode in self.episodes)

    def _infos(
        self, places: Iterable[int], invalid_N: np.ndarray, final: Mapping[int, LiveEpisode]
    ) -> dict[str, object]:
        infos: dict[str, object] = {}
        for i in places:
            invalid = bool(invalid_N[i])
            if i in final:
                last = {"final_obs": final[i].observation(), "final_info": self._info(final[i], invalid)}
                infos, invalid = self._add_info(infos, last, i), False
            infos = self._add_info(infos, self._info(self.episodes[i], invalid), i)
        return infos

    def _info(self, episode: LiveEpisode, invalid: bool) -> dict[str, object]:
        return _info(episode, invalid=invalid, with_distance=self._with_distance)

    def render(self) -> tuple[str, ...] | None:
        """Returns what `TextEnv.render` does for each episode."""
        if self.render_mode is None:
            return None
        return tuple(self._single.render_episode(episode) for episode in self.episodes)


def register(env_id: str, module: str, single: str, vector: str) -> None:
    """Registers an environment and its vector, both classes of a module, unless they are registered."""
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, entry_point=f"{module}:{single}", vector_entry_point=f"{module}:{vector}")


register(ID, __name__, "TextEnv", "TextVectorEnv")
