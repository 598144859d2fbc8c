"""Household rooms behind `gymnasium` (the extra `[gym]`): importing this module registers `stgrpo/ALFWorld-v0`.

    import gymnasium
    import stgrpo.envs.alfworld.gym

    env = gymnasium.make("stgrpo/ALFWorld-v0", task="pick_and_place_simple", layout="small")

Observations and actions are texts; what there is to set is in `stgrpo.envs.gym`.
"""

from stgrpo.envs.gym import TextEnv, TextVectorEnv, register

ID = "stgrpo/ALFWorld-v0"


class AlfworldEnv(TextEnv):
    """One room; of the family `made` where none is given. See `stgrpo.envs.gym.TextEnv`."""

    environment = "alfworld"


class AlfworldVectorEnv(TextVectorEnv):
    """Many of them; see `stgrpo.envs.gym.TextVectorEnv`."""

    single_env = AlfworldEnv


register(ID, __name__, "AlfworldEnv", "AlfworldVectorEnv")
