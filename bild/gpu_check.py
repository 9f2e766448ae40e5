"""`bild gpu-check` (or `make gpu-check`): ten minutes on a GPU, without the hub. Is what runs there right, and as fast
as it should be? A table of verdicts, and one file, gpu-check.json, to send; bild report gpu-check.json shows it again.

    bild gpu-check                          the first GPU
    bild gpu-check device=cuda:1 minutes=20
    bild gpu-check device=cpu               the same steps at tiny sizes
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bild.errors import BildError, guard, shown
from bild.options import check_fields, device, key_values, number
from bild.progress import folded


@dataclass
class CheckConfig:
    """The options of `bild gpu-check`."""

    device: str = device()
    minutes: float = number(10.0, 0, 1440, above=True)
    out: str = "gpu-check.json"

    def __post_init__(self) -> None:
        check_fields("", self)
        if not self.out.strip():
            raise BildError("out= is empty: name the file to write, such as out=gpu-check.json.")
        if Path(self.out).exists() and not Path(self.out).is_file():
            raise BildError(f"out={shown(self.out)} is there, and no plain file: name the file to write.")


def _options(arguments: list[str]) -> CheckConfig:
    for word in arguments:
        key, equals, _ = word.partition("=")
        if not equals or key not in ("device", "minutes", "out"):
            raise BildError(f"bild gpu-check takes device=, minutes= and out=, but {word!r} was given.")
    return CheckConfig(**key_values(arguments))  # type: ignore[arg-type]


def main() -> int:
    """Run the command line: 0 where all is well, 1 where something is wrong or slow, 2 without a GPU."""
    code: list[int] = []

    def command() -> None:
        if sys.argv[1:] in (["--help"], ["-h"]):
            print(folded((__doc__ or "").replace("`", "")))
            return
        given = _options(sys.argv[1:])
        from bild.check import check  # torch, after the options are known to be good
        from bild.cli import load, typed
        from bild.cli.compose import shapes
        from bild.config import ModelConfig
        from bild.report.bench import check_table
        from bild.report.table import show_tables
        from bild.results.bench import OK
        from bild.results.codec import write_json
        from bild.results.files import MadeFolder

        MadeFolder(Path(given.out).parent).tidy()  # now, and not after ten minutes
        asked = " ".join(["bild gpu-check", *sys.argv[1:]])
        embedded = typed(ModelConfig, load("model", "embedded"))
        result = check(given.device, given.minutes, asked, shapes(), embedded)
        write_json(Path(given.out), result, indent=1)
        show_tables([check_table(result)])
        code.append(int(result.worst != OK))
        print(f"Written: {given.out}")

    return guard(command, "stopped before it was done") or sum(code)


if __name__ == "__main__":
    sys.exit(main())
