"""One finished example of a point, as a line of `samples.jsonl`: tokens, text, times and counts of a method beside its
baselines. Times are in nanoseconds, at batch size 1; a token list begins with the start token."""

from __future__ import annotations

from dataclasses import dataclass

from bild.results.work import Passes


@dataclass(frozen=True)
class PhaseTimes:
    """Nanoseconds of one decoding from source ids to finished text, in all and by phase (0: a model was not asked)."""

    total: int
    encode_large: int
    encode_small: int
    small: int
    large: int
    rest: int


@dataclass(frozen=True)
class BaselineRun:
    """The example by the library's own greedy `generate()`."""

    tokens: list[int]
    ns: int

    @property
    def written(self) -> int:
        """Return how many tokens were generated: the end token counts, the start token never does."""
        return len(self.tokens) - 1


@dataclass(frozen=True)
class VanillaRun(BaselineRun):
    """The example by same-engine vanilla decoding."""

    text: str
    passes_run: int | None = None
    captures: int | None = None


@dataclass(frozen=True)
class Sample:
    """One example decoded by one point, beside its baselines.

    `index` is the example's place in its task, `session` the number of the process that decoded it, `source_tokens`
    the length of its source and `truncated` whether that was cut to the source limit. `large_widths` counts large
    passes by their new positions; the other counts are those of `Counts`. For CALM, `layers` has the decoder layers
    that each token took, of `depth`. `library` is null where the library was not asked. `*_passes_run` count the passes
    that an engine ran for those that were asked for, `captures` what it compiled or captured meanwhile.
    `small_sums` and `large_sums` are what the work of the passes follows from; where both models share an engine's
    first layers, `exit_sums` has the passes through these, whichever asked.
    `gap` is by how many nats the large model prefers vanilla's token where the text of an exact method first differs,
    `library_gap` the same of the library's text; null where none does.
    """

    id: str
    index: int
    session: int
    source_tokens: int
    truncated: bool
    tokens: list[int]
    text: str
    ns: PhaseTimes
    reached_limit: bool
    small_passes: int
    small_positions: int
    large_passes: int
    large_positions: int
    large_widths: dict[int, int]
    rounds: int
    drafted: int
    kept: int
    rejected: int
    fallbacks: int
    full_drafts: int
    rollbacks: int
    baseline: VanillaRun
    library: BaselineRun | None
    layers: list[int] | None = None
    depth: int | None = None
    small_passes_run: int | None = None
    large_passes_run: int | None = None
    captures: int | None = None
    gap: float | None = None
    library_gap: float | None = None
    small_sums: Passes | None = None
    large_sums: Passes | None = None
    exit_sums: Passes | None = None

    @property
    def written(self) -> int:
        """Return how many tokens were generated: the end token counts, the start token never does."""
        return len(self.tokens) - 1

    @property
    def seconds(self) -> float:
        """Return the seconds of the method."""
        return self.ns.total / 1e9

    @property
    def baseline_seconds(self) -> float:
        """Return the seconds of vanilla."""
        return self.baseline.ns / 1e9

    @property
    def baselines_ns(self) -> int:
        """Return the nanoseconds of what was decoded beside the method: vanilla, and the library where it was asked."""
        return self.baseline.ns + (self.library.ns if self.library is not None else 0)
