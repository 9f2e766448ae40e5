// The sliders: they replay the bundled sample and show what changes.
"use strict";
((bild) => {
  const { $, el, fill, drawnIn, fixed, signed, threshold, percent } = bild;

  const CHART_STYLE = { fontFamily: "inherit", fontSize: "12.5px", background: "none" };

  /** What a setting can be judged by: [name, value of a replay, decimals, unit]. */
  const measures = (sample) => [
    ["quality", sample.metric.name, (found) => found.score, 2, ""],
    ...(sample.prices ? [["speedup", "Predicted speedup", (found) => found.speedup, 2, "×"]] : []),
    ["acceptance", "Tokens per large pass", (found) => found.counts.tokens_per_large_pass, 2, ""],
    ["fallbacks", "Fallbacks per 100 tokens", (found) => 100 * found.counts.fallback_rate, 1, ""],
    ["rollbacks", "Rollbacks per 100 tokens", (found) => 100 * found.counts.rollback_rate, 1, ""],
  ];

  const TITLES = { rb: "Rollback threshold rb", alpha: "What a token may lose, alpha", top: "Highest rank that stands, top" };

  /** The thresholds of a setting in words: "fb 0.4, rb 2"; empty where its rules have none. */
  const settingWords = ({ fb, name, value }) =>
    [["fb", fb], [name, value]].filter(([, each]) => each !== null).map(([own, each]) => `${own} ${threshold(each)}`).join(", ");

  /** The place of the nearest of some thresholds. */
  function nearest(values, wanted) {
    const finite = (value) => (value === "inf" ? 1e9 : value ?? 0);
    return d3.leastIndex(values, (value) => Math.abs(finite(value) - finite(wanted)));
  }

  class Explorer {
    /** `onTurn(found, setting, place)` is told of every setting that is shown; `found` is null off the grown tree. */
    constructor(replays, onTurn) {
      this.replays = replays;
      this.sample = replays.sample;
      this.onTurn = onTurn;
      this.measures = measures(this.sample);
      this.grids = this.sample.grids.map((grid, i) => [String(i), grid]).filter(([, grid]) => bild.knows(grid.method));
      this.showControls();
      const [[first]] = this.grids, { start } = this.sample;
      this.goTo(this.has(start) ? start : { grid: Number(first), fb: 0, value: 0 });
      this.redrawCloud = drawnIn($("cloud"), (width) => this.drawCloud(width));
      this.redrawHeat = drawnIn($("heat"), (width) => this.drawHeat(width));
    }

    get setting() {
      const { method, threshold: name, fbs, values } = this.grid;
      return { method, name, fb: fbs[this.fb], value: values[this.value] };
    }

    showControls() {
      // Radio buttons: a closed menu would cut the names, on a phone to their first words.
      $("rules").replaceChildren(...this.grids.map(([i, grid]) => el("label", {},
        el("input", { type: "radio", name: "rules", value: i, onchange: () => this.change(Number(i)) }), grid.name)));
      $("rules-picker").hidden = this.grids.length < 2;
      for (const name of ["fb", "value"]) {
        $(name).oninput = () => {
          this[name] = Number($(name).value);
          this.turn();
        };
      }
      fill($("heat-what"), this.measures.map(([key, title]) => [key, title]), "quality");
      $("heat-what").onchange = () => this.redrawHeat();
      $("explore-lead").textContent = this.sample.words;
    }

    /** Turn to other rules, at the thresholds next to the present ones. */
    change(grid) {
      const { fb, value } = this.setting, next = this.sample.grids[grid];
      this.goTo({ grid, fb: nearest(next.fbs, fb), value: nearest(next.values, value) });
    }

    /** Whether a place {grid, fb, value} lies on a grid that the page can replay. */
    has(place) {
      return Boolean(place) && this.grids.some(([i]) => Number(i) === place.grid);
    }

    /** Turn the rules and both sliders to a place on one of the grids. */
    goTo(place) {
      const other = this.sample.grids[place.grid] !== this.grid;
      Object.assign(this, { grid: this.sample.grids[place.grid], fb: place.fb, value: place.value });
      $("rules").querySelector(`[value="${place.grid}"]`).checked = true;
      $("rule").textContent = this.grid.rule;
      $("explore-charts").hidden = this.grid.fbs.length * this.grid.values.length < 2;
      this.turn();
      if (other) this.fillGrid();
    }

    turn() {
      $("value-name").textContent = TITLES[this.grid.threshold] ?? "";
      for (const name of ["fb", "value"]) {
        const slider = $(name), values = this.grid[`${name}s`], text = threshold(values[this[name]]);
        $(`${name}-slider`).hidden = values[0] === null;
        slider.max = values.length - 1;
        slider.value = this[name];
        slider.disabled = values.length < 2;
        slider.setAttribute("aria-valuetext", text === "∞" ? "infinity" : text);
        $(`${name}-value`).textContent = text;
      }
      const { method, fb, value } = this.setting, found = this.replays.at(method, fb, value);
      this.showTiles(found);
      this.redrawCloud?.();
      this.redrawHeat?.();
      this.onTurn(found, this.setting, { grid: this.sample.grids.indexOf(this.grid), fb: this.fb, value: this.value });
    }

    showTiles(found) {
      const tile = (key, title, value, beside, kind) => el("div", { class: "tile" }, el("dt", {}, title),
        el("dd", { class: "value", "data-value": key }, value), el("dd", { class: `beside ${kind ?? ""}` }, beside ?? ""));
      if (!found) {
        $("tiles").replaceChildren(tile("none", "At these thresholds", "–", "the sample’s tree was not grown for them"));
        return;
      }
      const { metric, prices } = this.sample, { counts, difference } = found, base = this.replays.vanilla;
      const kind = difference > 0.005 ? "gain" : difference < -0.005 ? "loss" : "";
      $("tiles").dataset.exact = JSON.stringify({
        score: found.score, speedup: found.speedup, seconds: found.seconds && d3.sum(found.seconds), counts,
      });
      $("tiles").replaceChildren(
        tile("quality", metric.name, fixed(found.score, 2), base ? `${signed(difference, 2)} against vanilla` : "", kind),
        tile("speedup", "Predicted speedup", prices ? `${fixed(found.speedup, 2)}×` : "–",
          prices ? `${fixed((1000 * d3.sum(found.seconds)) / found.runs.length, 1)} ms an example` : "no prices for this tree"),
        tile("acceptance", "Tokens per large pass", fixed(counts.tokens_per_large_pass, 2), `${counts.large_passes} large passes`),
        tile("fallbacks", "Fallbacks per token", percent(counts.fallback_rate), `${counts.fallbacks} of ${counts.tokens} tokens`),
        tile("rollbacks", "Rollbacks per token", percent(counts.rollback_rate), `${counts.rollbacks} of ${counts.tokens} tokens`),
        tile("kept", "Drafted tokens kept", percent(counts.drafted ? counts.kept / counts.drafted : 0), `${counts.rejected} thrown away`),
      );
    }

    /** Every cell of the grid, with what has been replayed of it: {fb, value, i, j, found}. */
    cells() {
      return this.grid.fbs.flatMap((fb, i) => this.grid.values.map((value, j) => {
        const found = this.done?.has(`${i} ${j}`) ? this.replays.at(this.grid.method, fb, value) : null;
        return { fb, value, i, j, found };
      }));
    }

    /** Replay the whole grid bit by bit, so that the page stays quick meanwhile. */
    fillGrid() {
      const grid = this.grid, todo = d3.cross(d3.range(grid.fbs.length), d3.range(grid.values.length));
      this.done = new Set();
      document.documentElement.dataset.replayed = "";
      let at = 0;
      const some = () => {
        if (this.grid !== grid) return;
        const until = performance.now() + 25;
        while (at < todo.length && performance.now() < until) {
          const [i, j] = todo[at];
          this.replays.at(grid.method, grid.fbs[i], grid.values[j]);
          this.done.add(`${i} ${j}`);
          at += 1;
        }
        if (at < todo.length) {
          setTimeout(some);
        } else {
          this.redrawCloud?.();
          this.redrawHeat?.();
          document.documentElement.dataset.replayed = "all";
        }
      };
      some();
    }

    drawCloud(width) {
      const priced = Boolean(this.sample.prices);
      const x = priced ? (found) => found.speedup : (found) => found.counts.tokens_per_large_pass;
      const points = this.cells().filter((cell) => cell.found).map((cell) => ({ ...cell, x: x(cell.found), y: cell.found.score }));
      const { method, fb, value } = this.setting, now = this.replays.at(method, fb, value), base = this.replays.vanilla;
      const here = now ? [{ x: x(now), y: now.score }] : [];
      const chart = Plot.plot({
        width, height: Math.round(Math.max(250, Math.min(330, width * 0.68))), marginLeft: 46, marginBottom: 40, marginRight: 14, marginTop: 26,
        style: CHART_STYLE,
        x: { label: priced ? "Predicted speedup →" : "Tokens per large pass →", nice: true, ticks: 6, tickFormat: (value) => `${+value.toFixed(3)}${priced ? "×" : ""}` },
        y: { label: `↑ ${this.sample.metric.name} of the sample`, nice: true, ticks: 6, tickFormat: (value) => +value.toFixed(3) },
        marks: [
          Plot.gridX({ stroke: "var(--grid)", strokeOpacity: 1 }), Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1 }),
          base ? Plot.ruleY([base.score], { stroke: "var(--quiet)", strokeDasharray: "1 3" }) : null,
          Plot.dot(points, { x: "x", y: "y", r: 2.6, stroke: "var(--m-bild)", strokeOpacity: 0.55 }),
          Plot.line(points.filter((point) => point.i === this.fb), { x: "x", y: "y", stroke: "var(--rollback)", strokeOpacity: 0.7 }),
          Plot.line(points.filter((point) => point.j === this.value), { x: "x", y: "y", stroke: "var(--m-bild)", strokeOpacity: 0.7 }),
          Plot.dot(here, { x: "x", y: "y", r: 6.5, fill: "var(--accent)", stroke: "var(--paper)", strokeWidth: 1.5 }),
        ],
      });
      chart.setAttribute("role", "img");
      chart.setAttribute("aria-label", "Quality against predicted speedup of all settings of the sample; the full mark is the present one.");
      $("cloud").replaceChildren(chart);
      const line = (values, color, name) => (values.length > 1
        ? [el("span", { style: `color:${color}` }, "A line"), ` moves ${name} alone. `] : []);
      $("cloud-caption").replaceChildren("The full mark is the present setting. ",
        ...line(this.grid.values, "var(--rollback)", this.grid.threshold), ...line(this.grid.fbs, "var(--m-bild)", "fb"), "Dotted: vanilla.");
    }

    drawHeat(width) {
      const [, title, value, decimals, unit] = this.measures.find(([key]) => key === $("heat-what").value);
      const cells = this.cells(), known = cells.filter((cell) => cell.found);
      const room = (width - 52) / Math.max(1, this.grid.fbs.length);
      const [least, most] = d3.extent(known, (cell) => value(cell.found));
      const isDark = (cell) => value(cell.found) - least > 0.55 * (most - least);
      const chart = Plot.plot({
        width, height: Math.max(200, Math.min(330, 30 * this.grid.values.length + 70)), marginLeft: 46, marginBottom: 40, marginTop: 26, marginRight: 6,
        padding: 0.06, style: CHART_STYLE,
        x: { type: "band", label: this.grid.fbs[0] === null ? null : "fb →", domain: this.grid.fbs, tickSize: 0, tickFormat: threshold },
        y: { type: "band", label: this.grid.threshold && `↑ ${this.grid.threshold}`, domain: [...this.grid.values].reverse(), tickSize: 0, tickFormat: threshold },
        color: { type: "linear", scheme: "ylgnbu" },
        marks: [
          Plot.cell(known, { x: "fb", y: "value", fill: (cell) => value(cell.found), rx: 2 }),
          ...[true, false].map((dark) => (room < 30 ? null : Plot.text(known.filter((cell) => isDark(cell) === dark), {
            x: "fb", y: "value", text: (cell) => fixed(value(cell.found), Math.min(decimals, room > 44 ? 2 : 1)),
            fontSize: room > 40 ? 11.5 : 10.5, fill: dark ? "white" : "#1b1d21", pointerEvents: "none",
          }))),
          Plot.cell(cells.filter((cell) => cell.i === this.fb && cell.j === this.value), {
            x: "fb", y: "value", stroke: "#d55e00", strokeWidth: 3, fill: "none", inset: -1, rx: 3, pointerEvents: "none",
          }),
        ],
      });
      this.nameCells(chart, known, (cell) => `${title} ${fixed(value(cell.found), decimals)}${unit}`);
      $("heat").replaceChildren(chart);
    }

    nameCells(chart, known, text) {
      const rects = known.length ? chart.querySelector("g[aria-label=cell]").querySelectorAll("rect") : [];
      [...rects].forEach((rect, at) => {
        const cell = known[at];
        rect.classList.add("cell");
        rect.append(document.createElementNS("http://www.w3.org/2000/svg", "title"));
        rect.firstChild.textContent = `${settingWords({ ...cell, name: this.grid.threshold })}: ${text(cell)}`;
        rect.addEventListener("click", () => {
          this.fb = cell.i;
          this.value = cell.j;
          this.turn();
        });
      });
      chart.setAttribute("role", "img");
      chart.setAttribute("aria-label", "Heat map over the thresholds; the sliders reach every cell.");
    }
  }

  Object.assign(bild, { Explorer, settingWords });
})(globalThis.bild ??= {});
