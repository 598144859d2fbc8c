"""A work directory: one config, its data, checkpoints, metrics and results; one job owns it at a time.

`folder` has its paths and the claim of a config, `lock` whose it is, `keys` what decides whether a result may be used
again.
"""

from stgrpo.workdir.folder import RUNTIME_FIELDS, WorkDir, environment

__all__ = ["RUNTIME_FIELDS", "WorkDir", "environment"]
