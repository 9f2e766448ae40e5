// The two sliders: they replay the bundled sample and show what changes.
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

  class Explorer {
    /** `onTurn(found, setting)` is told of every setting that is shown. */
    constructor(replays, onTurn) {
      this.replays = replays;
      this.sample = replays.sample;
      this.onTurn = onTurn;
      this.measures = measures(this.sample);
      this.grid = this.sample.grids[0];
      this.fb = this.nearest(this.grid.fbs, this.sample.start.fb);
      this.rb = this.nearest(this.grid.rbs, this.sample.start.rb);
      this.showControls();
      this.redrawCloud = drawnIn($("cloud"), (width) => this.drawCloud(width));
      this.redrawHeat = drawnIn($("heat"), (width) => this.drawHeat(width));
      this.turn();
      this.fillGrid();
    }

    nearest(values, wanted) {
      const exact = values.findIndex((value) => value === wanted);
      if (exact >= 0) return exact;
      const finite = (value) => (value === "inf" ? 1e9 : value);
      return d3.leastIndex(values, (value) => Math.abs(finite(value) - finite(wanted)));
    }

    get setting() {
      return { method: this.grid.method, fb: this.grid.fbs[this.fb], rb: this.grid.rbs[this.rb] };
    }

    showControls() {
      const picker = $("rules");
      fill(picker, this.sample.grids.map((grid, i) => [String(i), grid.name]), "0");
      $("rules-picker").hidden = this.sample.grids.length < 2;
      picker.onchange = () => {
        const { fb, rb } = this.setting;
        this.grid = this.sample.grids[Number(picker.value)];
        this.fb = this.nearest(this.grid.fbs, fb);
        this.rb = this.nearest(this.grid.rbs, rb);
        this.turn();
        this.fillGrid();
      };
      for (const name of ["fb", "rb"]) {
        $(name).oninput = () => {
          this[name] = Number($(name).value);
          this.turn();
        };
      }
      fill($("heat-what"), this.measures.map(([key, title]) => [key, title]), "quality");
      $("heat-what").onchange = () => this.redrawHeat();
      $("explore-lead").textContent = this.sample.words;
    }

    /** The grid that a point of BiLD lies on, or undefined. */
    gridOf(point) {
      // Without rollbacks the verdict on the end is left out whatever the switch says.
      const same = (key, grid) => grid.method[key] === point.method[key] || (key === "verify_eos" && point.rb === "inf");
      return this.sample.grids.find((grid) => point.method && Object.keys(grid.method).every((key) => same(key, grid))
        && grid.fbs.includes(point.fb) && grid.rbs.includes(point.rb));
    }

    /** Turn the rules and both sliders to a point on one of the grids. */
    goTo(point) {
      const grid = this.gridOf(point);
      const other = grid !== this.grid;
      this.grid = grid;
      $("rules").value = String(this.sample.grids.indexOf(grid));
      this.fb = grid.fbs.indexOf(point.fb);
      this.rb = grid.rbs.indexOf(point.rb);
      this.turn();
      if (other) this.fillGrid();
    }

    turn() {
      for (const name of ["fb", "rb"]) {
        const slider = $(name), values = this.grid[`${name}s`], text = threshold(values[this[name]]);
        slider.max = values.length - 1;
        slider.value = this[name];
        slider.setAttribute("aria-valuetext", text === "∞" ? "infinity" : text);
        $(`${name}-value`).textContent = text;
      }
      const { method, fb, rb } = this.setting;
      const found = this.replays.at(method, fb, rb);
      this.showTiles(found);
      this.redrawCloud?.();
      this.redrawHeat?.();
      if (found) this.onTurn(found, this.setting);
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

    /** Every cell of the grid that has been replayed: {fb, rb, i, j, found}. */
    cells() {
      return this.grid.fbs.flatMap((fb, i) => this.grid.rbs.map((rb, j) => {
        const found = this.done?.has(`${i} ${j}`) ? this.replays.at(this.grid.method, fb, rb) : null;
        return { fb, rb, i, j, found };
      }));
    }

    /** Replay the whole grid bit by bit, so that the page stays quick meanwhile. */
    fillGrid() {
      const grid = this.grid, todo = d3.cross(d3.range(grid.fbs.length), d3.range(grid.rbs.length));
      this.done = new Set();
      let at = 0;
      const some = () => {
        if (this.grid !== grid) return;
        const until = performance.now() + 25;
        while (at < todo.length && performance.now() < until) {
          const [i, j] = todo[at];
          this.replays.at(grid.method, grid.fbs[i], grid.rbs[j]);
          this.done.add(`${i} ${j}`);
          at += 1;
        }
        if (at < todo.length) {
          setTimeout(some);
        } else {
          this.redrawCloud();
          this.redrawHeat();
          document.documentElement.dataset.replayed = "all";
        }
      };
      some();
    }

    drawCloud(width) {
      const priced = Boolean(this.sample.prices);
      const x = priced ? (found) => found.speedup : (found) => found.counts.tokens_per_large_pass;
      const points = this.cells().filter((cell) => cell.found).map((cell) => ({ ...cell, x: x(cell.found), y: cell.found.score }));
      const { method, fb, rb } = this.setting, now = this.replays.at(method, fb, rb), base = this.replays.vanilla;
      const here = now ? [{ x: x(now), y: now.score }] : [];
      const trail = points.filter((point) => point.i === this.fb || point.j === this.rb);
      const chart = Plot.plot({
        width, height: Math.round(Math.max(250, Math.min(330, width * 0.68))), marginLeft: 46, marginBottom: 40, marginRight: 14, marginTop: 26,
        style: CHART_STYLE,
        x: { label: priced ? "Predicted speedup →" : "Tokens per large pass →", nice: true, ticks: 6, tickFormat: (value) => (priced ? `${value}×` : value) },
        y: { label: `↑ ${this.sample.metric.name} of the sample`, nice: true, ticks: 6 },
        marks: [
          Plot.gridX({ stroke: "var(--grid)", strokeOpacity: 1 }), Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1 }),
          base ? Plot.ruleY([base.score], { stroke: "var(--quiet)", strokeDasharray: "1 3" }) : null,
          Plot.dot(points, { x: "x", y: "y", r: 2.6, stroke: "var(--m-bild)", strokeOpacity: 0.55 }),
          Plot.line(trail.filter((point) => point.i === this.fb), { x: "x", y: "y", stroke: "var(--rollback)", strokeOpacity: 0.7 }),
          Plot.line(trail.filter((point) => point.j === this.rb), { x: "x", y: "y", stroke: "var(--m-bild)", strokeOpacity: 0.7 }),
          Plot.dot(here, { x: "x", y: "y", r: 6.5, fill: "var(--accent)", stroke: "var(--paper)", strokeWidth: 1.5 }),
        ],
      });
      chart.setAttribute("role", "img");
      chart.setAttribute("aria-label", "Quality against predicted speedup of all settings of the sample; the full mark is the present one.");
      $("cloud").replaceChildren(chart);
      $("cloud-caption").replaceChildren(
        "The full mark is where the sliders stand; ", el("span", { style: "color:var(--rollback)" }, "one line"),
        " moves the rollback threshold, ", el("span", { style: "color:var(--m-bild)" }, "the other"), " the fallback threshold. Dotted: vanilla.");
    }

    drawHeat(width) {
      const [, title, value, decimals, unit] = this.measures.find(([key]) => key === $("heat-what").value);
      const cells = this.cells(), known = cells.filter((cell) => cell.found);
      const room = (width - 52) / Math.max(1, this.grid.fbs.length);
      const [least, most] = d3.extent(known, (cell) => value(cell.found));
      const isDark = (cell) => value(cell.found) - least > 0.55 * (most - least);
      const chart = Plot.plot({
        width, height: Math.max(200, Math.min(330, 30 * this.grid.rbs.length + 70)), marginLeft: 46, marginBottom: 40, marginTop: 26, marginRight: 6,
        padding: 0.06, style: CHART_STYLE,
        x: { type: "band", label: "Fallback threshold →", domain: this.grid.fbs, tickSize: 0, tickFormat: threshold },
        y: { type: "band", label: "↑ Rollback threshold", domain: [...this.grid.rbs].reverse(), tickSize: 0, tickFormat: threshold },
        color: { type: "linear", scheme: "ylgnbu" },
        marks: [
          Plot.cell(known, { x: "fb", y: "rb", fill: (cell) => value(cell.found), rx: 2 }),
          ...[true, false].map((dark) => (room < 30 ? null : Plot.text(known.filter((cell) => isDark(cell) === dark), {
            x: "fb", y: "rb", text: (cell) => fixed(value(cell.found), Math.min(decimals, room > 44 ? 2 : 1)),
            fontSize: room > 40 ? 11.5 : 10.5, fill: dark ? "white" : "#1b1d21", pointerEvents: "none",
          }))),
          Plot.cell(cells.filter((cell) => cell.i === this.fb && cell.j === this.rb), {
            x: "fb", y: "rb", stroke: "#d55e00", strokeWidth: 3, fill: "none", inset: -1, rx: 3, pointerEvents: "none",
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
        rect.firstChild.textContent = `fb ${threshold(cell.fb)}, rb ${threshold(cell.rb)}: ${text(cell)}`;
        rect.addEventListener("click", () => {
          this.fb = cell.i;
          this.rb = cell.j;
          this.turn();
        });
      });
      chart.setAttribute("role", "img");
      chart.setAttribute("aria-label", "Heat map over both thresholds; the sliders reach every cell.");
    }
  }

  Object.assign(bild, { Explorer });
})(globalThis.bild ??= {});
