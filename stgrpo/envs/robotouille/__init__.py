"""The Robotouille kitchens: rules as data, states as bits, the benchmark's own text."""

from stgrpo.envs.robotouille.environment import Robotouille, make
from stgrpo.envs.robotouille.kitchen.engine import RobotouilleProblem, State
from stgrpo.envs.robotouille.kitchen.load import load

__all__ = ["Robotouille", "RobotouilleProblem", "State", "load", "make"]
