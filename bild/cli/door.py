"""The command `bild`: a verb for each command line, lists of what there is, and shell completion."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

from bild import __version__
from bild.cli.overrides import all_options, conf_dir, groups, options
from bild.decoding.methods import METHODS, MethodConfig, ThresholdConfig, heeds
from bild.decoding.policies import live_refusal
from bild.errors import BildError, did_you_mean, guard, shown
from bild.options import options_of


class Verb(NamedTuple):
    """A command line: the module whose `main` it is, its schema there or in `bild.<room>.config`, and what it does."""

    module: str
    schema: str | None
    about: str

    def load_schema(self) -> type | None:
        """Import the config dataclass of its options; None where it takes no overrides."""
        if self.schema is None:
            return None
        module, _, name = self.schema.rpartition(".")
        found: type = getattr(import_module(module), name)
        return found


VERBS = {
    "run": Verb("bild.run", "bild.run.TracedConfig", "measure one method at one setting beside vanilla decoding"),
    "sweep": Verb(
        "bild.sweep.__main__", "bild.sweep.config.SweepConfig", "price every threshold, and measure the front live"
    ),
    "paper": Verb("bild.paper", None, "everything the paper shows, cheapest first, and an atlas"),
    "report": Verb("bild.report.__main__", None, "figures, tables and one page from a results folder"),
    "claims": Verb("bild.claims", None, "judge every point: shown, refuted or undecided at a margin"),
    "export": Verb("bild.export", None, "outputs of a point, or how its drafts fared, as JSON lines"),
    "bench": Verb("bild.bench.__main__", "bild.bench.config.BenchConfig", "every engine against the machine's limit"),
    "train": Verb("bild.train", "bild.training.config.TrainConfig", "fine-tune a checkpoint, or train from scratch"),
    "align": Verb("bild.align", "bild.training.config.AlignConfig", "teach the small model what the large one writes"),
    "demo": Verb("bild.demo", "bild.demo.DemoConfig", "a handful of points side by side, and a figure"),
    "gpu-check": Verb("bild.gpu_check", None, "ten minutes on a GPU: right, and as fast as it should be?"),
    "doctor": Verb("bild.doctor", None, "what this machine has, what is missing, how to fix it"),
}
OWN = {"list": "tasks, models, methods, engines, experiments, ...", "completion": "a script for bash, zsh or fish"}
LISTS = {f"{group}s": group for group in ("task", "model", "method", "threshold", "engine", "experiment", "shape")}
HELP = """\
bild: a benchmark of BiLD, the Big Little Decoder.

    bild VERB [flags] [group=option ...] [key=value ...]

{verbs}

    bild demo
    bild run task=xsum model=t5-large threshold.fb=0.6
    bild sweep task=xsum plan=only
    bild list models
    eval "$(bild completion bash)"

bild VERB --help says more; bild --version prints the version."""
SCRIPTS = {
    "bash": """\
_bild() {
    local line="${COMP_LINE:0:COMP_POINT}" before="" each
    local word="${line##* }"
    [[ "$COMP_WORDBREAKS" == *=* ]] && before="${word%"${word##*=}"}"
    COMPREPLY=()
    while IFS= read -r each; do COMPREPLY+=("${each#"$before"}"); done < <("$1" complete "$line" 2>/dev/null)
    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _bild bild""",
    "zsh": """\
#compdef bild
_bild() {
    local -a found
    found=("${(@f)$("$words[1]" complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    if [[ -n "$found[1]" ]]; then compadd -Q -S "" -a found; else _files; fi
}
compdef _bild bild""",
    "fish": "complete -c bild -a '(bild complete (commandline -cp | string collect) 2>/dev/null)'",
}


def main() -> int:
    """Run the command `bild`; returns the exit code."""
    verb, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if verb in VERBS:
        sys.argv = [f"bild {verb}", *rest]
        code: int = import_module(VERBS[verb].module).main()
        return code
    return guard(lambda: print("\n".join(_answer(verb, rest))))


def _answer(verb: str, rest: list[str]) -> Iterator[str]:
    if verb in ("--help", "-h", "help"):
        told = [(name, each.about) for name, each in VERBS.items()] + list(OWN.items())
        yield HELP.format(verbs="\n".join(f"  {name:<11} {about}" for name, about in told))
    elif verb == "--version":
        yield f"bild {__version__}"
    elif verb == "list":
        yield from _listed(rest)
    elif verb == "completion":
        yield SCRIPTS[_one_of("shell", rest, list(SCRIPTS))]
    elif verb == "complete":
        yield from candidates(rest[0] if rest else "")
    else:
        _one_of("verb", [verb], [*VERBS, *OWN])


def _one_of(what: str, given: list[str], known: list[str]) -> str:
    if len(given) == 1 and given[0] in known:
        return given[0]
    word = " ".join(given)
    wrong = f"{shown(word)} is not a {what}{did_you_mean(word, known)}" if word.strip() else f"No {what} was given"
    raise BildError(f"{wrong}: give one of {', '.join(known)}.")


def _listed(rest: list[str]) -> Iterator[str]:
    """Tell what can be listed; or the options of a group, each with what there is to say about it."""
    if not rest or rest[0] in ("--help", "-h"):
        for name, group in LISTS.items():
            yield f"bild list {name:<12} {len(options(group)):>3}, each chosen as {group}=..."
        return
    plural = f"{rest[0]}s" if rest[0] in LISTS.values() else rest[0]
    group = LISTS[_one_of("list", [plural, *rest[1:]], list(LISTS))]
    width = max(map(len, options(group)))
    for option in options(group):
        line = f"{option:<{width}}  {_about(group, option)}"
        yield textwrap.fill(line, _width(), subsequent_indent=" " * (width + 2), break_on_hyphens=False)


def _width() -> int:
    """Return the terminal's width; in a pipe every entry stays on one line, for grep."""
    return shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else 10_000


def _about(group: str, option: str) -> str:
    """Return a method's entry in `METHODS`, or else the first sentence of the option's file."""
    if group == "method":
        spec, heeded = METHODS[option], heeds(MethodConfig(option), ThresholdConfig())
        rules = f" Stop {spec.stop}, keep {spec.keep}." if spec.stop else ""
        named = [name for kind in (ThresholdConfig, MethodConfig) for name in options_of(kind) if name in heeded]
        return f"{spec.words}{rules}{' Options: ' + ', '.join(named) + '.' if named else ''}"
    told = _comment(group, option)
    if group == "engine":
        refused = [name for name in METHODS if live_refusal(MethodConfig(name), option)]
        return f"{told} Runs every method but {', '.join(refused)}."
    return told


def _comment(group: str, option: str) -> str:
    lines = (conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    head = " ".join(line[2:] for line in lines if line.startswith("# ") and not line.startswith("# @"))
    return re.split(r"(?<=\.)\s", head, maxsplit=1)[0]


def candidates(line: str) -> list[str]:
    """Complete the last word of a command line that begins with the name of the command."""
    *before, current = line.split()[1:] + ([""] if line.endswith(" ") or not line.strip() else [])
    return [word for word in _possible(before, current) if word.startswith(current)]


def _possible(before: list[str], current: str) -> list[str]:
    if not before:
        return [*VERBS, *OWN, "--help", "--version"]
    if before[0] in OWN:
        return list(LISTS if before[0] == "list" else SCRIPTS) if len(before) == 1 else []
    verb = VERBS.get(before[0])
    schema = verb.load_schema() if verb is not None else None
    if schema is None:
        return []
    key, equals, value = current.partition("=")
    if not equals:
        flags = ["--help", "--cfg", "-m"] if current.startswith("-") else []
        return [*(f"{group}=" for group in groups(schema)), *(f"{key}=" for key in all_options(schema)), *flags]
    if key in groups(schema):
        kept = value[: value.rfind(",") + 1]  # of task=xsum,cnndm the last one is completed
        return [f"{key}={kept}{option}" for option in options(key)]
    option = all_options(schema).get(key)
    words = (
        ("true", "false") if option and option.kinds == [bool] else option.metadata.get("choices", ()) if option else ()
    )
    return [f"{key}={word}" for word in words]


if __name__ == "__main__":
    sys.exit(main())
