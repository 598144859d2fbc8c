"""The configuration: every field declared once, with its default, its meaning, and what it may be.

A config file has one function `get_config(arg)` that calls `base()` and changes what its experiment needs. Defaults are
the paper's where it states a number; a field that the paper leaves open is NOT_IN_PAPER. docs/config.md lists them all.

To read: `experiment`, `model`, `training` and `playing` declare the fields, section by section; `field` has the kinds
of declaration; `build` makes the config of them; `checks` says what is wrong with one; `names` what a misspelt field
meant; `docs` writes docs/config.md and answers `stgrpo help FIELD`.

To add a field, declare it in its section:

    entropy_coef=Number(0.0, "weight of the entropy in the loss", low=0, high=10, source=NOT_IN_PAPER, also=("ent",)),

Its type is its default's. It is checked, explained and understood on the command line from then on. Write the page anew
with `python -m stgrpo.config.docs > docs/config.md`; only what it has to do with other fields goes into `checks`. One
that must not make another run of a work directory goes into `workdir.RUNTIME_FIELDS`, one that gets another name into
`build.RENAMED`. Work directories that are older than a field count as having its default.
"""

from stgrpo.config.build import FIELDS, SECTIONS, base, model_shape, restored, with_new_names

__all__ = ["FIELDS", "SECTIONS", "base", "model_shape", "restored", "with_new_names"]
