"""The environment that a config names."""

from ml_collections import ConfigDict

from stgrpo import envs
from stgrpo.protocol import Environment


def environment_of(config: ConfigDict, *, engine: str = envs.OURS) -> Environment:
    """The environment of `env.name`, which reads its data where `env.data` says.

    Args:
        config: of the run.
        engine: that plays; what is collected and asked is the same on every one.

    Raises:
        UserError: see `envs.get`.
    """
    return envs.get(config.env.name, engine=engine, data=config.env.data)
