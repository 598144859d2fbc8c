"""A shop behind `gymnasium` (the extra `[gym]`): importing this module registers `stgrpo/WebShop-v0`.

    import gymnasium
    import stgrpo.envs.webshop.gym

    env = gymnasium.make("stgrpo/WebShop-v0", layout="made", reward="score")

Observations and actions are texts; what there is to set is in `stgrpo.envs.gym`. An episode ends with a purchase, and
the reward `score` is the benchmark's.
"""

from stgrpo.envs.gym import TextEnv, TextVectorEnv, register

ID = "stgrpo/WebShop-v0"


class WebshopEnv(TextEnv):
    """One goal; of the family `made` where none is given. See `stgrpo.envs.gym.TextEnv`."""

    environment = "webshop"


class WebshopVectorEnv(TextVectorEnv):
    """Many of them; see `stgrpo.envs.gym.TextVectorEnv`."""

    single_env = WebshopEnv


register(ID, __name__, "WebshopEnv", "WebshopVectorEnv")
