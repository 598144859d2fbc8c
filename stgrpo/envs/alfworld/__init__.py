"""ALFWorld's text games: the package's text and rules, pure states, exact distances, experts."""

from stgrpo.envs.alfworld.environment import Alfworld, make
from stgrpo.envs.alfworld.game.engine import AlfworldProblem, State
from stgrpo.envs.alfworld.game.load import load

__all__ = ["Alfworld", "AlfworldProblem", "State", "load", "make"]
