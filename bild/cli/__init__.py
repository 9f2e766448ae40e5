"""What the command lines share: Hydra's composition over `conf/`, with a user's mistake told in one sentence.

Options are checked against the typed schema before Hydra sees them, because its own messages speak of structs and
append operators; and a task or a pair that was not named is chosen to fit the other.
"""

from bild.cli.compose import check_fit, complete, compose, pair_options, to_config
from bild.cli.groups import GROUPS, conf_dir, groups, options, register
from bild.cli.run import run_hydra

__all__ = [
    "GROUPS",
    "check_fit",
    "complete",
    "compose",
    "conf_dir",
    "groups",
    "options",
    "pair_options",
    "register",
    "run_hydra",
    "to_config",
]
