// The policy in the page: what bild/decoding/rules.py, policies.py and loop.py say, answered from a decision tree.
"use strict";
((bild) => {
  /** Asked for what the tree does not hold: these thresholds lead where it was not grown. */
  class Unknown extends Error {}

  /** KEEPS (rules.py): the rejection score of a token that is not the large model's own choice. */
  const SCORES = {
    nll: (_q, _choiceNll, tokenNll) => tokenNll,
    exact: () => Infinity,
    share: (_q, choiceNll, tokenNll) => 1 - Math.exp(choiceNll - tokenNll),
    loss: (_q, choiceNll, tokenNll) => Math.exp(-choiceNll) - Math.exp(-tokenNll),
    difference: (q, choiceNll) => Math.exp(-choiceNll) - q,
    doubt: (q) => 1 - q,
    top: (_q, _choiceNll, _tokenNll, rank) => Math.max(rank, 2),
  };

  const STOPS = ["window", "unsure", "likely", "adaptive", "oracle"];

  /** Whether both rules of a method are known here. */
  const knows = (method) => method.keep in SCORES && STOPS.includes(method.stop);

  /** Rules.rejection: whether the large model takes a token back, if nothing before it is taken back. */
  function rejects(rules, same, q, choiceNll, tokenNll, rank) {
    if (same && rules.scan === "all") return false;
    if (rules.top !== null && rank > rules.top && !same) return true;
    return SCORES[rules.keep](q, choiceNll, tokenNll, rank) > rules.threshold;
  }

  /** Rules.kept: how many drafted tokens stand. */
  function kept(rules, tokens, verdict, probs) {
    const { choice, choiceNll, tokenNll, rank } = verdict;
    const at = tokens.findIndex((token, i) => rejects(rules, token === choice[i], probs[i], choiceNll[i], tokenNll[i], rank[i]));
    return at < 0 || verdict.choice[at] === tokens[at] ? tokens.length : at;
  }

  /**
   * rules_for (policies.py), of a method with every switch resolved as `settings` has it. `fb` is the fallback threshold,
   * `threshold` that of the keep rule (rb, alpha or top; it may be Infinity); either is null where the rule has none.
   * `method.top` is a cap on the rank, or null.
   */
  function rulesOf(method, fb, threshold) {
    const top = method.keep === "top" ? null : method.top ?? null;
    const nothingFalls = method.keep === "nll" && top === null && threshold === Infinity;
    return {
      keep: method.keep,
      threshold: method.keep === "exact" ? 0 : threshold,
      top,
      scan: method.scan ?? "all",
      stop: method.stop,
      fb: method.stop === "unsure" || method.stop === "likely" ? fb : 0,
      maxDraft: method.max_draft,
      first: method.first,
      afterRollback: method.after_rollback,
      unsure: method.unsure,
      verifyEos: method.verify_eos && !nothingFalls,
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

    draft(prefix, limit, rules) {
      const { nodes } = this;
      const tokens = [], probs = [];
      let at = this.find(prefix), stop = null, likely = 1;
      while (stop === null) {
        const token = nodes.smallChoice[at];
        if (token < 0) throw new Unknown("the small model was not asked here");
        const prob = Math.exp(-nodes.smallNll[at]);
        if (rules.stop === "oracle" && this.falls(at, rules)) {
          stop = "oracle";
          break;
        }
        tokens.push(token);
        probs.push(prob);
        likely *= prob;
        if ((rules.stop === "likely" ? likely : prob) < rules.fb) stop = "unsure";
        else if (token === this.eos) stop = "eos";
        else if (tokens.length === limit) stop = "limit";
        else at = nodes.child(at, token);
      }
      if (tokens.length) {
        this.small.passes.push(this.small.missing(prefix), ...Array(tokens.length - 1).fill(1));
        this.small.fed = [...prefix, ...tokens.slice(0, -1)];
      }
      return { tokens, probs, stop };
    }

    /** Whether the large model would take the small choice at a node back. */
    falls(at, rules) {
      const { nodes } = this, same = nodes.largeChoice[at] === nodes.smallChoice[at];
      if (nodes.largeChoice[at] < 0) throw new Unknown("the large model was not asked here");
      const told = [Math.exp(-nodes.smallNll[at]), nodes.largeChoiceNll[at], nodes.largeNll[at], nodes.largeRank[at]];
      return rejects(rules, same, ...told);
    }

    /** `complete`: nothing can follow these tokens, so the tree need not know what would. */
    verify(prefix, tokens, complete) {
      const { nodes } = this;
      const choice = [], choiceNll = [], tokenNll = [], rank = [];
      let at = this.find(prefix);
      for (let i = 0; i < tokens.length + (complete ? 0 : 1); i += 1) {
        const own = nodes.largeChoice[at];
        if (own < 0) throw new Unknown("the large model was not asked here");
        choice.push(own);
        choiceNll.push(nodes.largeChoiceNll[at]);
        if (i === tokens.length) break;
        tokenNll.push(tokens[i] === own ? nodes.largeChoiceNll[at] : nodes.largeNll[at]);
        rank.push(nodes.largeRank[at]);
        if (Number.isNaN(tokenNll[i])) throw new Unknown("the large model's nll is not known here");
        if (!complete || i < tokens.length - 1) at = nodes.child(at, tokens[i]);
      }
      this.large.passes.push(this.large.missing(prefix) + tokens.length);
      this.large.fed = [...prefix, ...tokens];
      return { choice, choiceNll, tokenNll, rank };
    }
  }

  /** big_little (loop.py). `limits` are {start, eos, maxLength}; maxLength counts the start token. */
  function bigLittle(rules, memory, limits) {
    const y = [limits.start], origins = ["start"], rounds = [];
    let writer = rules.first, window = rules.maxDraft;
    while (y.length < limits.maxLength) {
      let drafted = [], probs = [], stop = "none";
      if (writer === "small") {
        ({ tokens: drafted, probs, stop } = memory.draft(y, Math.min(window, limits.maxLength - y.length), rules));
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
      const stand = kept(rules, drafted, verdict, probs);
      const rollback = stand < drafted.length;
      y.push(...drafted.slice(0, stand));
      origins.push(...Array(stand).fill("small"));
      const wrote = complete && !rollback ? null : verdict.choice[stand];
      rounds.push({
        start, drafted, probs, stop, tokenNll: verdict.tokenNll, kept: stand, wrote, rollback,
        wroteNll: wrote === null ? null : verdict.choiceNll[stand],
      });
      if (wrote === null) break;
      y.push(wrote);
      origins.push(rollback ? "rollback" : "large");
      if (wrote === limits.eos && (rules.rollbackEosEnds || !rollback)) break;
      writer = rollback ? rules.afterRollback : "small";
      if (rules.stop === "adaptive" && drafted.length) window = rollback ? Math.max(1, window - 1) : window + 2;
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
  function replay(method, fb, threshold, nodes, limits) {
    const memory = new Memory(nodes, limits);
    const decoded = method.name === "vanilla" || method.name === "small"
      ? alone(method.name === "small" ? "small" : "large", memory, limits)
      : bigLittle(rulesOf(method, fb, threshold), memory, limits);
    return { ...decoded, smallPasses: memory.small.passes, largePasses: memory.large.passes };
  }

  /** Sums over replays, as `count_rounds` of bild/measure/live.py and `counts_of` of bild/measure/aggregate.py. */
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

  Object.assign(bild, { Unknown, KEEPS: Object.keys(SCORES), STOPS, knows, replay, countsOf, rulesOf });
})(globalThis.bild ??= {});
