"""Kitchens behind `gymnasium` (the extra `[gym]`): importing this module registers `stgrpo/Robotouille-v0`.

    import gymnasium
    import stgrpo.envs.robotouille.gym

    env = gymnasium.make("stgrpo/Robotouille-v0", task="burger", layout="random:3")
    envs = gymnasium.make_vec("stgrpo/Robotouille-v0", num_envs=64, task="burger", layout="random")

`gymnasium.make("stgrpo.envs.robotouille.gym:stgrpo/Robotouille-v0", ...)` imports it by itself. Observations and
actions are texts, byte for byte those of the benchmark. With a family as the layout ("random"), every reset draws
another kitchen, and `reset(seed=...)` says from where; a single layout is the same whatever the seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_letters, digits, punctuation
from typing import Unpack

import gymnasium
import numpy as np
from gymnasium.spaces import Text
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from stgrpo.envs.robotouille.vector import Kitchens, KitchenVector, LiveEpisode, Rules, RuleSettings
from stgrpo.errors import UserError

ID = "stgrpo/Robotouille-v0"
_LINE = frozenset(ascii_letters + digits + punctuation + " ")
_LONGEST_OBSERVATION, _LONGEST_ACTION = 1 << 16, 256
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


class Settings(RuleSettings, total=False):
    """What a `RobotouilleEnv` is made with, each of which may be left out."""

    task: str
    layout: str
    split: str
    pool: int
    distance: bool
    render_mode: str | None


class RobotouilleEnv(gymnasium.Env[str, str]):
    """One kitchen.

    `info` has the valid actions in display order, whether the last action was invalid, the steps so far, the name of
    the layout and, on request, the distance: the least number of steps to the goal, -1 where the planner knows none.

    Args:
        task: the name of a task.
        layout: a layout, a family of layouts, or a file; see `stgrpo.envs.robotouille.vector.Kitchens`.
        split: which of a family's layouts: train, validation or test.
        pool: draw from so many layouts of the family only; 0 for any.
        distance: whether `info` has the distance.
        render_mode: "ansi", the state in a few lines, or "svg", a picture.
        **rules: `reward`, `on_invalid` and `max_steps` of `stgrpo.envs.robotouille.vector.Rules`. By default 1 for
            reaching the goal, an invalid action changes nothing but counts as a step, and the cap is the task's.

    Raises:
        UserError: there is no such task, layout, rule or render mode.
    """

    metadata = {"render_modes": ["ansi", "svg"], "render_fps": 1}

    def __init__(
        self,
        task: str = "burger",
        layout: str = "default",
        *,
        split: str = "train",
        pool: int = 0,
        distance: bool = False,
        render_mode: str | None = None,
        **rules: Unpack[RuleSettings],
    ):
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise UserError(f"render_mode {render_mode!r}: unknown; use one of {', '.join(modes)}")
        self.kitchens, self.rules = Kitchens(task, layout, split=split, pool=pool), Rules(**rules)
        self.with_distance, self.render_mode = distance, render_mode
        self.observation_space = Text(_LONGEST_OBSERVATION, charset=_LINE | {"\n"})
        self.action_space = Text(_LONGEST_ACTION, charset=_LINE)
        self._episode: LiveEpisode | None = None

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
        """Starts an episode, in another kitchen of the family where the layout is one; there are no options."""
        super().reset(seed=seed)
        self._episode = LiveEpisode(self.kitchens, self.rules, self.np_random)
        return self._episode.observation(), self._info(invalid=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        """Does an action; a text that is no valid action is dealt with by the rules."""
        reward, terminated, truncated, invalid = self.episode.step(action)
        return self.episode.observation(), reward, terminated, truncated, self._info(invalid=invalid)

    def _info(self, *, invalid: bool) -> dict[str, object]:
        return _info(self.episode, invalid=invalid, with_distance=self.with_distance)

    def render(self) -> str | None:
        """Returns the state as lines or as an SVG document, by the render mode; None without one."""
        return None if self.render_mode is None else _render(self.episode, self.render_mode)


class RobotouilleVectorEnv(gymnasium.vector.VectorEnv[tuple[str, ...], tuple[str, ...], np.ndarray]):
    """Many kitchens: the same episodes as in as many `RobotouilleEnv`, with seeds that count up from the first.

    Args:
        num_envs: number of kitchens.
        autoreset_mode: as of `gymnasium.vector.SyncVectorEnv`.
        **settings: those of `RobotouilleEnv`.

    Raises:
        UserError: as there.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **settings: Unpack[Settings],
    ):
        single, mode = RobotouilleEnv(**settings), AutoresetMode(autoreset_mode)
        self._vector = KitchenVector(
            single.kitchens, num_envs, rules=single.rules, autoreset=_AUTORESETS[mode], text=False
        )
        self._with_distance, self.num_envs, self.render_mode = single.with_distance, num_envs, single.render_mode
        self.metadata = {**RobotouilleEnv.metadata, "autoreset_mode": mode}
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
        """Does one action in each kitchen."""
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
        """Returns what `RobotouilleEnv.render` does for each kitchen."""
        if self.render_mode is None:
            return None
        return tuple(_render(episode, self.render_mode) for episode in self.episodes)


def _render(episode: LiveEpisode, mode: str) -> str:
    from stgrpo.envs.robotouille.draw.svg import draw_lines, draw_state, read_state

    if mode == "svg":
        return draw_state(episode.problem, episode.state)
    return draw_lines(read_state(episode.problem, episode.state))


if ID not in gymnasium.registry:
    gymnasium.register(
        ID,
        entry_point="stgrpo.envs.robotouille.gym:RobotouilleEnv",
        vector_entry_point="stgrpo.envs.robotouille.gym:RobotouilleVectorEnv",
    )
