"""`bild export POINT` (or `python -m bild.export`): what a point wrote, or how its drafts fared, as JSON lines.

    bild export results/xsum/t5-large/bild-0.6-2-... > outputs.jsonl
    bild export results/xsum/t5-large/bild-0.6-2-... --acceptance > acceptance.jsonl

Outputs: id, output and vanilla's output of each example. Scores that an outside metric gave them go back by
`bild claims POINT --scores FILE`. Acceptance: of each place in a draft the tokens that were judged and that stood, and
of each number of tokens the large passes that added so many.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bild.errors import Arguments, BildError, guard
from bild.results import read_samples, read_traces


def outputs(point: Path) -> Iterator[dict[str, Any]]:
    """Yield id, output and vanilla's output of each finished example of a point."""
    for sample in read_samples(point):
        yield {"id": sample.id, "output": sample.text, "vanilla": sample.baseline.text}


def acceptance(point: Path) -> Iterator[dict[str, Any]]:
    """Yield how many drafted tokens were judged and stood, place by place, and large passes by the tokens they added.

    A token is judged where all before it in its draft stand: behind the first that does not, the text is another.
    """
    judged, stood, added = Counter[int](), Counter[int](), Counter[int]()
    for each in chain.from_iterable(read_traces(point).values()):
        if each["token_nll"]:  # else its tokens were not verified
            kept = each["kept"]
            stood.update(range(1, kept + 1))
            judged.update(range(1, min(kept + 1, len(each["drafted"])) + 1))
        if each["wrote"] is not None or each["token_nll"]:
            added[each["kept"] + (each["wrote"] is not None)] += 1
    for place in sorted(judged):
        yield {"place": place, "judged": judged[place], "stood": stood[place], "share": stood[place] / judged[place]}
    for tokens in sorted(added):
        yield {"tokens": tokens, "large_passes": added[tokens]}


def main(argv: Sequence[str] | None = None) -> int:
    """Write JSON lines to stdout. Returns 0, or 2 after one sentence on stderr."""
    parser = Arguments(prog="bild export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("point", type=Path, help="the folder of a point")
    parser.add_argument("--acceptance", action="store_true", help="how drafts fared, in the place of the outputs")

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
