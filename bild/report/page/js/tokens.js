// Tokens coloured by who wrote them, and what is told of the one under the pointer or the focus.
"use strict";
((bild) => {
  const { el, fixed } = bild;

  const FATES = {
    small: "small model, kept",
    large: "large model",
    rollback: "large model, taking back",
    taken: "small model, taken back",
    dropped: "small model, unsure: dropped",
  };

  /** Why a draft ended, in words. */
  const ENDED = { unsure: "small model unsure", limit: "draft full", eos: "end of text", none: "no draft", oracle: "before a rollback" };

  /**
   * The tokens of a round in the order they were written: {token, fate, round, why, prob, nll}. Those with fate "taken"
   * and "dropped" are not in the text.
   */
  function tokensOf(round, number) {
    const found = round.drafted.map((token, i) => ({
      token, round: number, fate: i < round.kept ? "small" : "taken", prob: round.probs[i], nll: round.tokenNll[i],
      first: i === round.kept, by: round.rollback ? round.wrote : null,
    }));
    if (round.stop === "unsure" && round.unsureToken !== undefined) {
      found.push({ token: round.unsureToken, round: number, fate: "dropped", prob: round.probs.at(-1) });
    }
    if (round.wrote !== null) {
      found.push({ token: round.wrote, round: number, fate: round.rollback ? "rollback" : "large", nll: round.wroteNll, stop: round.stop });
    }
    return found;
  }

  const quote = (text) => `“${text.trim() || "␣"}”`;

  /** One token in words, with its probabilities. */
  function tell(item, piece) {
    const parts = [quote(piece(item.token))];
    if (item.fate === "large") {
      parts.push(item.stop === "unsure" ? "large model, at a fallback" : item.stop === "none" ? "large model, on its own turn" : "large model, after a draft");
    } else if (item.fate === "taken") {
      parts.push(item.first ? `small model, taken back: the large model wrote ${quote(piece(item.by))}` : "small model, thrown away with the draft");
    } else {
      parts.push(FATES[item.fate]);
    }
    parts.push(`round ${item.round}`);
    if (item.prob !== undefined) parts.push(`p small ${item.prob < 0.0995 ? item.prob.toPrecision(2) : fixed(item.prob, 3)}`);
    if (item.nll !== undefined && item.nll !== null) parts.push(`−ln p large ${fixed(item.nll, 2)}`);
    return parts.join(" · ");
  }

  /** Tokens as spans; hovering or focusing one calls `onTell` with words about it. */
  function spans(items, piece, onTell) {
    return items.map((item) => {
      const text = piece(item.token);
      const end = text === "⏎" ? " end" : "";
      const span = el("span", { class: `tok ${item.fate}${end}`, tabindex: "-1", "aria-label": tell(item, piece) }, text.replace(/^ +/, "") || "␣");
      const say = () => onTell(tell(item, piece));
      span.addEventListener("pointerenter", say);
      span.addEventListener("focus", say);
      return [text.startsWith(" ") ? " " : "", span];
    });
  }

  /** The key to the colours. */
  function key() {
    const entry = (fate) => el("li", {}, el("span", { class: `tok ${fate}` }, FATES[fate]));
    return el("ul", { class: "key", "aria-label": "Key" }, ...Object.keys(FATES).map(entry));
  }

  Object.assign(bild, { tokensOf, spans, key, ENDED });
})(globalThis.bild ??= {});
