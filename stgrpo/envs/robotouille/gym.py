"""Kitchens behind `gymnasium` (the extra `[gym]`): importing this module registers `stgrpo/Robotouille-v0`.

    import gymnasium
    import stgrpo.envs.robotouille.gym

    env = gymnasium.make("stgrpo/Robotouille-v0", task="burger", layout="random:3")
    envs = gymnasium.make_vec("stgrpo/Robotouille-v0", num_envs=64, task="burger", layout="random")

`gymnasium.make("stgrpo.envs.robotouille.gym:stgrpo/Robotouille-v0", ...)` imports it by itself. Observations and
actions are texts, byte for byte those of the benchmark; what there is to set is in `stgrpo.envs.gym`.
"""

from string import ascii_letters, digits, punctuation
from typing import ClassVar, Unpack

from gymnasium.spaces import Text

from stgrpo.envs.gym import LONGEST_ACTION, LONGEST_OBSERVATION, FurtherSettings, TextEnv, TextVectorEnv, register
from stgrpo.envs.robotouille.vector import Kitchens
from stgrpo.envs.vector import LiveEpisode, Places

ID = "stgrpo/Robotouille-v0"
_LINE = frozenset(ascii_letters + digits + punctuation + " ")


class RobotouilleEnv(TextEnv):
    """One kitchen.

    Args:
        task: the name of a task.
        layout: a layout, a family of layouts, or a file; see `stgrpo.envs.robotouille.vector.Kitchens`.
        **settings: of `stgrpo.envs.gym.TextEnv`; the render mode is "ansi", the state in a few lines, or "svg", a
            picture.

    Raises:
        UserError: there is no such task, layout, rule or render mode.
    """

    metadata = {"render_modes": ["ansi", "svg"], "render_fps": 1}
    environment = "robotouille"
    places_of: ClassVar[type[Places]] = Kitchens

    def __init__(self, task: str = "burger", layout: str = "default", **settings: Unpack[FurtherSettings]):
        super().__init__(task, layout, **settings)

    def make_spaces(self) -> tuple[Text, Text]:
        """Returns spaces of the characters that kitchens are told in."""
        return Text(LONGEST_OBSERVATION, charset=_LINE | {"\n"}), Text(LONGEST_ACTION, charset=_LINE)

    def render_episode(self, episode: LiveEpisode) -> str:
        """Returns the state as lines or as an SVG document, by the render mode."""
        from stgrpo.envs.robotouille.draw.svg import draw_lines, draw_state, read_state

        if self.render_mode == "svg":
            return draw_state(episode.problem, episode.state)
        return draw_lines(read_state(episode.problem, episode.state))


class RobotouilleVectorEnv(TextVectorEnv):
    """Many kitchens; see `stgrpo.envs.gym.TextVectorEnv`."""

    single_env = RobotouilleEnv


register(ID, __name__, "RobotouilleEnv", "RobotouilleVectorEnv")
