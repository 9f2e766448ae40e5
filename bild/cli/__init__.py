"""The common part of the command lines: Hydra's composition over `conf/`, with a user's mistake told in one sentence.

Options are checked against the typed schema before Hydra sees them, because its own messages speak of structs and
append operators; and a task or a pair that was not named is chosen to fit the other.
"""

from bild.cli.compose import compose, pair_options, typed
from bild.cli.overrides import GROUPS, conf_dir, load, options
from bild.cli.run import run_hydra

__all__ = ["GROUPS", "compose", "conf_dir", "load", "options", "pair_options", "run_hydra", "typed"]
