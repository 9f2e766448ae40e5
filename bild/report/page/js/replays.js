// All that the sliders need of one bundled sample: its replays, their scores, counts and predicted seconds, remembered.
"use strict";
((bild) => {
  const number = (value) => (value === "inf" ? Infinity : value);

  class Replays {
    constructor(sample) {
      this.sample = sample;
      this.nodes = bild.unpackNodes(sample);
      this.known = new Map();
      this.pieces = new Map(sample.pieces);
      this.outputs = sample.examples.map((example) => new Map(example.outputs.map((output) => [output.key, output])));
      this.vanilla = this.at({ name: "vanilla" }, null, null);
    }

    /** What a text is filed under: the node before its last token, and that token. */
    key(nodes, tokens) {
      let at = 0;
      for (let i = 1; i < tokens.length - 1; i += 1) at = nodes.child(at, tokens[i]);
      return `${at}:${tokens.at(-1)}`;
    }

    /** The whole sample by one method, at its fallback threshold and that of its keep rule: {runs, outputs, score, counts, seconds, speedup}; null off the grown tree. */
    at(method, fb, value) {
      const name = JSON.stringify([method, fb, value]);
      if (!this.known.has(name)) this.known.set(name, this.compute(method, fb, value));
      return this.known.get(name);
    }

    compute(method, fb, value) {
      const { sample } = this;
      let runs, outputs;
      try {
        runs = this.nodes.map((nodes) => bild.replay(method, fb, number(value), nodes, sample.limits));
        outputs = runs.map((run, i) => this.outputs[i].get(this.key(this.nodes[i], run.tokens)));
      } catch (error) {
        if (error instanceof bild.Unknown) return null;
        throw error;
      }
      if (outputs.includes(undefined)) return null;
      const found = { runs, outputs, counts: bild.countsOf(runs) };
      found.score = bild.corpusScore(sample.metric.kind, outputs.map((output) => output.stats));
      found.scores = outputs.map((output) => bild.exampleScore(sample.metric.kind, output.stats));
      found.seconds = sample.prices
        ? runs.map((run, i) => bild.secondsOf(sample.prices, sample.examples[i].source_tokens, run)) : null;
      const base = this.vanilla ?? found;
      found.speedup = found.seconds && base.seconds ? d3.sum(base.seconds) / d3.sum(found.seconds) : null;
      found.difference = found.score - base.score;
      return found;
    }

    /** A token as text; what stands for no word has a name of its own. */
    piece(token) {
      if (token === this.sample.limits.eos) return "⏎";
      return this.pieces.get(token) ?? `<${token}>`;
    }
  }

  Object.assign(bild, { Replays });
})(globalThis.bild ??= {});
