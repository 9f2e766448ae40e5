"""`bild export POINT` (or `python -m bild.export`): what a point wrote, or how its drafts fared, as JSON lines.

    bild export results/xsum/t5-large/bild-0.6-2-... > outputs.jsonl
    bild export results/xsum/t5-large/bild-0.6-2-... --acceptance > fates.jsonl

Outputs: id, output and vanilla's output of each example; `bild claims POINT --scores FILE` reads the scores that an
outside metric gives them. Acceptance: for each place in a draft, the tokens judged and the tokens that stood; for each
number of tokens, the large passes that added that many.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bild.errors import Arguments, BildError, guard
from bild.options import folder_of
from bild.progress import folded
from bild.report.figures.rounds import added, judged
from bild.results import read_samples, read_traces


def outputs(point: Path) -> Iterator[dict[str, Any]]:
    """Yield id, output and vanilla's output of each finished example of a point."""
    for sample in read_samples(point):
        yield {"id": sample.id, "output": sample.text, "vanilla": sample.baseline.text}


def acceptance(point: Path) -> Iterator[dict[str, Any]]:
    """Yield how many drafted tokens were judged and stood by place, and large passes by the tokens they added."""
    examples = read_traces(point).values()
    places: dict[int, list[bool]] = {}
    for place, _, stands in judged(examples):
        places.setdefault(place, []).append(stands)
    for place, found in sorted(places.items()):
        yield {"place": place, "judged": len(found), "stood": sum(found), "share": sum(found) / len(found)}
    for tokens, passes in sorted(added(examples).items()):
        yield {"tokens": tokens, "large_passes": passes}


def main(argv: Sequence[str] | None = None) -> int:
    """Write JSON lines to stdout. Returns 0, or 2 after one sentence on stderr."""
    about = folded((__doc__ or "").replace("`", ""))
    parser = Arguments(prog="bild export", description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("point", type=folder_of, help="the folder of a point")
    parser.add_argument("--acceptance", action="store_true", help="how drafts fared, instead of the outputs")

    def command() -> None:
        given = parser.parse_args(argv)
        lines = list((acceptance if given.acceptance else outputs)(given.point)) if given.point.is_dir() else []
        if not lines:
            what = "verified draft" if given.acceptance else "finished example"
            raise BildError(f"{given.point} holds no {what}: give the folder of a point, such as `bild run` names it.")
        print("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))

    return guard(command)


if __name__ == "__main__":
    sys.exit(main())
