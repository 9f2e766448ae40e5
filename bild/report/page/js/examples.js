// The example browser: search, order, and one example round by round, at the thresholds of the sliders.
"use strict";
((bild) => {
  const { $, el, fill, rove, fixed, signed } = bild;

  const GAIN = 0.05; // what rounds to a tenth

  class Examples {
    constructor(replays) {
      this.replays = replays;
      this.sample = replays.sample;
      this.chosen = 0;
      this.showTaken = true;
      fill($("sort"), [
        ["loss", "largest loss of quality first"], ["gain", "largest gain of quality first"],
        ...(this.sample.prices ? [["fast", "largest predicted speedup first"], ["slow", "smallest predicted speedup first"]] : []),
        ["taken", "most rollbacks first"], ["order", "order of the data"],
      ], "loss");
      $("sort").onchange = () => this.showList();
      $("search").oninput = () => this.showList();
      $("examples-lead").textContent =
        `Every token of the sample by who wrote it, at the thresholds above. Quality of one example is ${this.sample.metric.example}.`;
    }

    /** Show the sample as it was decoded at another setting. */
    update(found, setting) {
      this.found = found;
      this.setting = setting;
      const base = this.replays.vanilla;
      this.rows = this.sample.examples.map((example, i) => ({
        i, example,
        gain: base ? found.scores[i] - base.scores[i] : 0,
        speedup: found.seconds && base?.seconds ? base.seconds[i] / found.seconds[i] : null,
        rollbacks: found.runs[i].rounds.filter((round) => round.rollback).length,
        words: `${example.id} ${example.source} ${example.reference} ${found.outputs[i].text}`.toLowerCase(),
      }));
      if (this.shown === undefined) this.chosen = this.ordered()[0]?.i ?? 0;
      this.showList();
      this.showExample();
    }

    ordered() {
      const orders = {
        loss: (row) => row.gain, gain: (row) => -row.gain, fast: (row) => -row.speedup, slow: (row) => row.speedup,
        taken: (row) => -row.rollbacks, order: (row) => row.i,
      };
      const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
      return d3.sort(this.rows.filter((row) => wanted.every((word) => row.words.includes(word))), orders[$("sort").value], (row) => row.i);
    }

    showList() {
      const rows = this.ordered(), held = document.activeElement?.closest?.("#list") !== null && document.activeElement?.closest?.("#list") !== undefined;
      this.shown = rows.length;
      $("found").textContent = `${rows.length} of ${this.sample.examples.length} examples`;
      const buttons = rows.map((row) => el("button", {
        type: "button", "aria-current": row.i === this.chosen ? "true" : "false", "data-example": row.i,
        onclick: () => this.choose(row.i),
      }, el("span", { class: "text" }, this.found.outputs[row.i].text || "(empty)"),
      el("span", { class: `score ${row.gain > GAIN ? "gain" : row.gain < -GAIN ? "loss" : "quiet"}` }, signed(row.gain, 1)),
      el("span", { class: "quiet text" }, row.example.source)));
      $("list").replaceChildren(...buttons.map((button) => el("li", {}, button)));
      if (!buttons.length) return;
      const at = Math.max(0, rows.findIndex((row) => row.i === this.chosen));
      rove(buttons, { keys: ["ArrowUp", "ArrowDown"], start: at });
      if (held) buttons[at].focus({ preventScroll: true });
    }

    choose(i) {
      this.chosen = i;
      for (const button of $("list").querySelectorAll("button")) {
        button.setAttribute("aria-current", Number(button.dataset.example) === i ? "true" : "false");
      }
      this.showExample();
    }

    showExample() {
      const { found, replays, chosen } = this, row = this.rows[chosen], run = found.runs[chosen], base = replays.vanilla;
      const piece = (token) => replays.piece(token);
      const rounds = run.rounds.map((round) => this.withUnsure(round, run.tokens, replays.nodes[chosen]));
      const perRound = rounds.map((round, at) => bild.tokensOf(round, at + 1));
      const told = el("p", { class: "told", role: "status" }, "Point at a token, or reach it with Tab and the arrow keys.");
      const onTell = (text) => { told.textContent = text; };
      const inText = perRound.flat().filter((item) => this.showTaken || !["taken", "dropped"].includes(item.fate));
      const written = el("p", { class: "written" }, ...bild.spans(inText, piece, onTell).flat());
      const list = el("ol", { class: "rounds" }, ...rounds.map((round, at) => el("li", {},
        el("span", { class: "number" }, String(at + 1)), el("span", { class: "why" }, this.why(round)),
        el("span", { class: "tokens" }, ...bild.spans(perRound[at], piece, onTell).flat()))));
      const toggle = el("label", {}, el("input", { type: "checkbox", checked: this.showTaken, onchange: (event) => {
        this.showTaken = event.target.checked;
        this.showExample();
      } }), " show what was taken back");
      $("example").replaceChildren(
        el("div", { class: "head" }, el("h3", {}, `Example ${row.example.id}`), el("span", { class: "quiet" }, this.numbers(row))),
        this.texts(row, base),
        el("div", { class: "head" }, bild.key(), toggle),
        written,
        el("h3", {}, "Round by round"),
        list,
        told,
      );
      for (const part of [written, list]) {
        const tokens = [...part.querySelectorAll(".tok")];
        if (tokens.length) rove(tokens);
      }
    }

    /** The token that the small model was unsure of and that was dropped: its choice behind the draft. */
    withUnsure(round, tokens, nodes) {
      if (round.stop !== "unsure" || round.probs.length === round.drafted.length) return round;
      let at = 0;
      for (const token of [...tokens.slice(1, round.start), ...round.drafted]) at = nodes.child(at, token);
      return { ...round, unsureToken: nodes.smallChoice[at] };
    }

    why(round) {
      const stop = bild.ENDED[round.stop];
      if (round.rollback) return `${stop}; rolled back ${round.drafted.length - round.kept}`;
      return round.drafted.length && round.tokenNll.length ? `${stop}; all kept` : stop;
    }

    numbers(row) {
      const parts = [`${this.sample.metric.name} ${fixed(this.found.scores[row.i], 1)} (${signed(row.gain, 1)})`];
      if (row.speedup !== null) parts.push(`predicted ${fixed(row.speedup, 2)}×`);
      const { largePasses, tokens } = this.found.runs[row.i];
      parts.push(`${tokens.length - 1} tokens, ${largePasses.length} large passes`);
      return parts.join(" · ");
    }

    texts(row, base) {
      const pairs = [["Source", row.example.source], ["Reference", row.example.reference]];
      if (base) pairs.push(["Vanilla", base.outputs[row.i].text]);
      pairs.push([bild.settingWords(this.setting) || "This method", this.found.outputs[row.i].text]);
      return el("dl", { class: "texts" }, ...pairs.flatMap(([term, text]) => [
        el("dt", {}, term), el("dd", text.length > 600 ? { class: "long", tabindex: "0" } : {}, text || "(empty)"),
      ]));
    }
  }

  Object.assign(bild, { Examples });
})(globalThis.bild ??= {});
