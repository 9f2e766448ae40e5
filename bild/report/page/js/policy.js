// The policy in the page: what bild/decoding/rules.py and bild/decoding/loop.py say, answered from a decision tree.
"use strict";
((bild) => {
  /** Asked for what the tree does not hold: these thresholds lead where it was not grown. */
  class Unknown extends Error {}

  /** keep_within (rules.py): back to the first token above rb that differs from the large model's choice. */
  const keepWithin = (rb) => (tokens, verdict) => {
    const at = tokens.findIndex((token, i) => verdict.tokenNll[i] > rb && verdict.choice[i] !== token);
    return at < 0 ? tokens.length : at;
  };

  /** keep_within_first: only the earliest token above rb is looked at. */
  const keepWithinFirst = (rb) => (tokens, verdict) => {
    const at = tokens.findIndex((_, i) => verdict.tokenNll[i] > rb);
    return at < 0 || verdict.choice[at] === tokens[at] ? tokens.length : at;
  };

  /** keep_exact: speculative decoding. */
  const keepExact = (tokens, verdict) => {
    const at = tokens.findIndex((token, i) => verdict.choice[i] !== token);
    return at < 0 ? tokens.length : at;
  };

  /** The loop's setting of a method with every switch resolved, as `settings` in methods.py has it; rb may be Infinity. */
  function rulesOf(method, fb, rb) {
    if (method.name === "speculative") {
      return {
        keep: keepExact, fb: 0, maxDraft: method.max_draft, first: method.first, afterRollback: "small",
        unsure: "drop", verifyEos: true, rollbackEosEnds: true,
      };
    }
    return {
      keep: method.scan === "first" ? keepWithinFirst(rb) : keepWithin(rb),
      fb,
      maxDraft: method.max_draft,
      first: method.first,
      afterRollback: method.after_rollback,
      unsure: method.unsure,
      verifyEos: method.verify_eos && rb < Infinity,
      rollbackEosEnds: method.rules !== "authors",
    };
  }

  /** What one model has cached, and the new positions of every pass: `CachedModel` of bild/measure/live.py. */
  class Hand {
    fed = [];
    passes = [];

    /** How many tokens of `prefix` are new to the cache; at least the last one. */
    missing(prefix) {
      const most = Math.min(this.fed.length, prefix.length - 1);
      let shared = 0;
      while (shared < most && this.fed[shared] === prefix[shared]) shared += 1;
      return prefix.length - shared;
    }
  }

  /** Answers drafts and verdicts for one example. `nodes` are the columns of its tree, `limits` are {start, eos}. */
  class Memory {
    constructor(nodes, limits) {
      this.nodes = nodes;
      this.eos = limits.eos;
      this.small = new Hand();
      this.large = new Hand();
    }

    /** The node behind `prefix`, which begins with the start token. */
    find(prefix) {
      let at = 0;
      for (let i = 1; i < prefix.length; i += 1) at = this.nodes.child(at, prefix[i]);
      return at;
    }

    draft(prefix, limit, stopBelow) {
      const { nodes } = this;
      const tokens = [], probs = [];
      let at = this.find(prefix), stop = null;
      while (stop === null) {
        const token = nodes.smallChoice[at];
        if (token < 0) throw new Unknown("the small model was not asked here");
        const prob = Math.exp(-nodes.smallNll[at]);
        tokens.push(token);
        probs.push(prob);
        if (prob < stopBelow) stop = "unsure";
        else if (token === this.eos) stop = "eos";
        else if (tokens.length === limit) stop = "limit";
        else at = nodes.child(at, token);
      }
      this.small.passes.push(this.small.missing(prefix), ...Array(tokens.length - 1).fill(1));
      this.small.fed = [...prefix, ...tokens.slice(0, -1)];
      return { tokens, probs, stop };
    }

    /** `complete`: nothing can follow these tokens, so the tree need not know what would. */
    verify(prefix, tokens, complete) {
      const { nodes } = this;
      const choice = [], choiceNll = [], tokenNll = [];
      let at = this.find(prefix);
      for (let i = 0; i < tokens.length + (complete ? 0 : 1); i += 1) {
        const own = nodes.largeChoice[at];
        if (own < 0) throw new Unknown("the large model was not asked here");
        choice.push(own);
        choiceNll.push(nodes.largeChoiceNll[at]);
        if (i === tokens.length) break;
        tokenNll.push(tokens[i] === own ? nodes.largeChoiceNll[at] : nodes.largeNll[at]);
        if (Number.isNaN(tokenNll[i])) throw new Unknown("the large model's nll is not known here");
        if (!complete || i < tokens.length - 1) at = nodes.child(at, tokens[i]);
      }
      this.large.passes.push(this.large.missing(prefix) + tokens.length);
      this.large.fed = [...prefix, ...tokens];
      return { choice, choiceNll, tokenNll };
    }
  }

  /** big_little (loop.py). `limits` are {start, eos, maxLength}; maxLength counts the start token. */
  function bigLittle(rules, memory, limits) {
    const y = [limits.start], origins = ["start"], rounds = [];
    let writer = rules.first;
    while (y.length < limits.maxLength) {
      let drafted = [], probs = [], stop = "none";
      if (writer === "small") {
        ({ tokens: drafted, probs, stop } = memory.draft(y, Math.min(rules.maxDraft, limits.maxLength - y.length), rules.fb));
        if (stop === "unsure" && rules.unsure === "drop") drafted = drafted.slice(0, -1);
      }
      const start = y.length;
      const complete = drafted.length > 0
        && (drafted.at(-1) === limits.eos || start + drafted.length === limits.maxLength);
      if (complete && !rules.verifyEos && stop !== "unsure") {
        y.push(...drafted);
        origins.push(...drafted.map(() => "small"));
        rounds.push({ start, drafted, probs, stop, tokenNll: [], kept: drafted.length, wrote: null, rollback: false });
        break;
      }
      const verdict = memory.verify(y, drafted, complete);
      const kept = rules.keep(drafted, verdict);
      const rollback = kept < drafted.length;
      y.push(...drafted.slice(0, kept));
      origins.push(...Array(kept).fill("small"));
      const wrote = complete && !rollback ? null : verdict.choice[kept];
      rounds.push({
        start, drafted, probs, stop, tokenNll: verdict.tokenNll, kept, wrote, rollback,
        wroteNll: wrote === null ? null : verdict.choiceNll[kept],
      });
      if (wrote === null) break;
      y.push(wrote);
      origins.push(rollback ? "rollback" : "large");
      if (wrote === limits.eos && (rules.rollbackEosEnds || !rollback)) break;
      writer = rollback ? rules.afterRollback : "small";
    }
    return { tokens: y, origins, rounds };
  }

  /** alone (loop.py): greedy decoding by one model, "large" or "small". */
  function alone(author, memory, limits) {
    const { nodes } = memory;
    const column = author === "large" ? nodes.largeChoice : nodes.smallChoice;
    const nll = author === "large" ? nodes.largeChoiceNll : nodes.smallNll;
    const y = [limits.start], probs = [];
    let at = 0;
    while (y.length < limits.maxLength) {
      if (y.length > 1) at = nodes.child(at, y.at(-1));
      if (column[at] < 0) throw new Unknown(`the ${author} model was not asked here`);
      y.push(column[at]);
      probs.push(Math.exp(-nll[at]));
      if (column[at] === limits.eos) break;
    }
    memory[author].passes = Array(y.length - 1).fill(1);
    const drafted = y.slice(1);
    const rounds = author === "large" ? [] : [{
      start: 1, drafted, probs, stop: drafted.at(-1) === limits.eos ? "eos" : "limit", tokenNll: [],
      kept: drafted.length, wrote: null, rollback: false,
    }];
    return { tokens: y, origins: ["start", ...drafted.map(() => author)], rounds };
  }

  /** One example by one method: its text, rounds and passes. Throws Unknown where the tree does not reach. */
  function replay(method, fb, rb, nodes, limits) {
    const memory = new Memory(nodes, limits);
    const decoded = method.name === "vanilla" || method.name === "small"
      ? alone(method.name === "small" ? "small" : "large", memory, limits)
      : bigLittle(rulesOf(method, fb, rb), memory, limits);
    return { ...decoded, smallPasses: memory.small.passes, largePasses: memory.large.passes };
  }

  /** Sums over replays, as `count_rounds` of bild/measure/aggregate.py and `counts_of` of bild/measure/aggregate.py. */
  function countsOf(runs) {
    const counts = {
      tokens: 0, rounds: 0, small_passes: 0, large_passes: 0, drafted: 0, kept: 0, fallbacks: 0, full_drafts: 0, rollbacks: 0,
    };
    for (const run of runs) {
      counts.tokens += run.tokens.length - 1;
      counts.rounds += run.rounds.length;
      counts.small_passes += run.smallPasses.length;
      counts.large_passes += run.largePasses.length;
      for (const round of run.rounds) {
        counts.drafted += round.drafted.length;
        counts.kept += round.kept;
        counts.fallbacks += round.stop === "unsure";
        counts.full_drafts += round.stop === "limit";
        counts.rollbacks += round.rollback;
      }
    }
    counts.rejected = counts.drafted - counts.kept;
    counts.fallback_rate = counts.fallbacks / counts.tokens;
    counts.rollback_rate = counts.rollbacks / counts.tokens;
    counts.tokens_per_large_pass = counts.large_passes ? counts.tokens / counts.large_passes : 0;
    return counts;
  }

  Object.assign(bild, { Unknown, replay, countsOf, rulesOf });
})(globalThis.bild ??= {});
