"""`trace=3` on the terminal: who wrote which token, round by round, in colours or, without them, in marks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.errors import plain
from bild.report.format import plural
from bild.results import Sample, read_samples, read_traces

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens left out."""
STOPS = {"unsure": "small model unsure", "limit": "draft full", "eos": "end of text", "none": "no draft"}
END = "⏎"
UNKNOWN = "?"
"""In the place of the token that the small model was unsure of: a trace has its probability alone."""


@dataclass(frozen=True)
class Fate:
    """Who wrote a token and whether it stood: the words, the style (Okabe and Ito's colours), and marks around it."""

    words: str
    style: str
    marks: tuple[str, str]


FATES = {
    "small": Fate("small model, kept", "#56b4e9", ("", "")),
    "large": Fate("large model", "#e69f00 underline", ("[", "]")),
    "rollback": Fate("large model, taking back", "bold #d55e00 underline", ("{", "}")),
    "taken": Fate("small model, taken back", "dim #d55e00 strike", ("~", "~")),
    "dropped": Fate("small model, unsure: dropped", "dim #cc79a7 italic", ("(", ")")),
}


def pieces(ids: Iterable[int], decode: Decode) -> dict[int, str]:
    """Return the text of each id, with the space before it; empty for special tokens.

    A tokenizer drops the space where a text begins, so every token is read behind a word.
    """
    wanted = sorted({token for token in ids if token >= 0})
    before = next((token for token in wanted if decode([token]).strip().isalpha()), None)
    if before is None:
        return {token: decode([token]) for token in wanted}
    skip = len(decode([before]))
    return {token: decode([before, token])[skip:] for token in wanted}


def show_traces(folder: Path, count: int, decode: Decode, sources: Mapping[Any, str]) -> None:
    """Print the first `count` examples of a finished point; `sources` are the source texts by example id.

    BildError where the point's trace is missing or damaged.
    """
    from rich.console import Console

    console = Console(highlight=False)
    samples = {sample.id: sample for sample in read_samples(folder)[:count]}
    traces = read_traces(folder)
    known = pieces((t for name in samples for t in _tokens(samples[name], traces[name])), decode)
    console.print()
    console.print(legend(console))
    for name, sample in samples.items():
        console.print()
        for line in example(console, sample, traces[name], known, sources.get(name, "")):
            line.plain = plain(line.plain)  # whatever a source, a text or a token holds; as long as before
            console.print(line)


def legend(console: Console) -> Text:
    """Return the key to colours or marks."""
    line = _text("")
    for fate in FATES.values():
        line.append_text(_token(console, fate, fate.words)).append("   ")
    return line


def example(
    console: Console, sample: Sample, rounds: Sequence[Mapping[str, Any]], known: Mapping[int, str], source: str
) -> Iterable[Text]:
    """Return the lines of one example: what it cost, the source, the text, and its rounds."""
    tokens, passes = sample.written, sample.large_passes
    yield _text(f"{sample.id}   {plural(tokens, 'token')}, {passes} large passes", "bold")
    yield _text("source  ", "dim").append(source)
    yield _text("text    ", "dim").append(sample.text)
    if not rounds:
        yield _text("        One model wrote it all: there are no rounds.", "dim")
    for number, each in enumerate(rounds, 1):
        line = _text(f"{number:>4}    ", "dim").append(f"{reason(each):<31} ", "dim")
        for fate, token in fates(each):
            piece = UNKNOWN if token is None else known.get(token) or END
            if token is None or piece.startswith(" "):
                line.append(" ")
            line.append_text(_token(console, FATES[fate], piece.strip() or piece))
        told = numbers(each)
        room = console.width - line.cell_len - 3
        yield line.append(f"   {told}", "dim") if len(told) <= room else line
        if len(told) > room:
            yield _text(f"{'':8}{told}", "dim")


def fates(each: Mapping[str, Any]) -> Iterable[tuple[str, int | None]]:
    """Return the tokens of a round in the order they were written, each with its fate."""
    for place, token in enumerate(each["drafted"]):
        yield ("small" if place < each["kept"] else "taken"), token
    if each["stop"] == "unsure" and len(each["probs"]) > len(each["drafted"]):
        yield "dropped", None
    if each["wrote"] is not None:
        yield ("rollback" if each["rollback"] else "large"), each["wrote"]


def reason(each: Mapping[str, Any]) -> str:
    """Say why the draft ended, and what became of it."""
    words = STOPS.get(each["stop"], str(each["stop"]))
    return f"{words}; {len(each['drafted']) - each['kept']} taken back" if each["rollback"] else words


def numbers(each: Mapping[str, Any]) -> str:
    """Write `p .98 .41  nll .02`: the small model's probabilities, the large one's -ln p."""
    parts = []
    if each["probs"]:
        parts.append("p " + " ".join(f"{p:.2f}".removeprefix("0") for p in each["probs"]))
    if each["token_nll"]:
        parts.append("nll " + " ".join(f"{nll:.1f}" for nll in each["token_nll"]))
    return "  ".join(parts)


def _tokens(sample: Sample, rounds: Sequence[Mapping[str, Any]]) -> Iterable[int]:
    yield from sample.tokens
    for each in rounds:
        yield from each["drafted"]


def _text(words: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(words, style)


def _token(console: Console, fate: Fate, piece: str) -> Text:
    """Return one token: coloured where the terminal has colours (NO_COLOR, FORCE_COLOR), else marked."""
    if console.color_system is not None and not console.no_color:
        return _text(piece, fate.style)
    before, after = fate.marks
    return _text(f"{before}{piece}{after}")
