// The front: speedup against quality of one section, measured points filled, predicted ones hollow.
"use strict";
((bild) => {
  const { $, el, list, rove, drawnIn, fixed, signed, percent, copyButton, csvButton } = bild;

  // As bild/report/figure.py. Colours are variables of the style sheet, so that a change of theme needs no drawing.
  const KNOWN = {
    vanilla: ["var(--m-vanilla)", d3.symbolStar, "vanilla (large model)"],
    "small model": ["var(--m-small)", d3.symbolSquare, "small model"],
    BiLD: ["var(--m-bild)", d3.symbolCircle, "BiLD fb/rb"],
    speculative: ["var(--m-speculative)", d3.symbolDiamond, "speculative"],
    CALM: ["var(--m-calm)", d3.symbolTriangle, "CALM"],
  };
  const triangleDown = { draw: (context, size) => d3.symbolTriangle.draw({
    moveTo: (x, y) => context.moveTo(x, -y), lineTo: (x, y) => context.lineTo(x, -y), closePath: () => context.closePath(),
  }, size) };
  const SPARE = [
    ["var(--m-1)", triangleDown], ["var(--m-2)", d3.symbolCross], ["var(--m-3)", d3.symbolSquare2],
    ["var(--m-4)", d3.symbolWye], ["var(--m-5)", d3.symbolDiamond2],
  ];

  /** Colour, mark and name of every method among the points, the well-known first. */
  function looksOf(points) {
    const keys = new Set(points.map((point) => point.key));
    const looks = new Map(Object.entries(KNOWN).filter(([key]) => keys.has(key)));
    [...keys].filter((key) => !(key in KNOWN)).sort().forEach((key, i) => {
      looks.set(key, [...SPARE[i % SPARE.length], key]);
    });
    return looks;
  }

  /** Whether a point holds the margin: shown, or vanilla itself. */
  const sure = (point) => point.kind === "shown" || point.kind === null;

  const rate = (point, value) => (point.rounds ? percent(value) : "–");

  function legend(points) {
    const entry = (color, shape, filled, text) => {
      const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      icon.setAttribute("viewBox", "-7 -7 14 14");
      icon.setAttribute("aria-hidden", "true");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", d3.symbol(shape, 60)());
      path.setAttribute("style", filled ? `fill:${color}` : `fill:none;stroke:${color};stroke-width:1.5`);
      icon.append(path);
      return el("li", {}, icon, text);
    };
    const items = [...looksOf(points).values()].map(([color, shape, name]) => entry(color, shape, true, name));
    if (points.some((point) => !point.measured)) items.push(entry("var(--quiet)", d3.symbolCircle, false, "hollow: predicted"));
    return el("ul", { class: "legend" }, ...items);
  }

  /** The chart alone. `onShow(point)` is called on hover and focus, `onChoose(point)` on click and Enter. */
  function draw(holder, width, section, chosen, { onShow, onChoose }) {
    const points = section.points;
    const measured = points.filter((point) => point.measured);
    const predicted = points.filter((point) => !point.measured);
    const narrow = width < 480;
    const marks = [Plot.gridX({ stroke: "var(--grid)", strokeOpacity: 1 }), Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1 })];
    const bands = [...new Set([section.margin, 1])].filter((margin) => margin > 0).sort(d3.ascending)
      .map((margin, i, all) => ({ y1: -margin, y2: i ? -all[i - 1] : 0, opacity: i ? 0.1 : 0.2 }));
    marks.push(Plot.rect(bands, { y1: "y1", y2: "y2", fill: "var(--quiet)", fillOpacity: "opacity" }));
    marks.push(Plot.ruleY([0], { stroke: "var(--quiet)", strokeDasharray: "1 3" }));
    for (const [group, dashed] of [[predicted, true], [measured, false]]) {
      const line = group.filter((point) => point.front).sort((a, b) => a.speedup - b.speedup);
      if (line.length > 1) {
        marks.push(Plot.line(line, {
          x: "speedup", y: "difference", stroke: "var(--m-bild)", strokeWidth: 1.5, strokeOpacity: dashed ? 0.5 : 0.8,
          strokeDasharray: dashed ? "4 4" : null,
        }));
      }
    }
    const bars = { strokeOpacity: 0.45, strokeWidth: 1, clip: true };
    const domain = ([low, high]) => [low - 0.05 * (high - low), high + 0.05 * (high - low)];
    const groups = d3.groups(points.map((point, i) => ({ ...point, i })), (point) => point.key, (point) => point.measured);
    const looks = looksOf(points);
    for (const [key, halves] of groups.reverse()) {
      const [color, shape] = looks.get(key);
      for (const [filled, group] of halves) {
        if (filled) {
          marks.push(Plot.ruleY(group, { x1: "speedupLow", x2: "speedupHigh", y: "difference", stroke: color, ...bars }));
          marks.push(Plot.ruleX(group, { y1: "differenceLow", y2: "differenceHigh", x: "speedup", stroke: color, ...bars }));
        }
        marks.push(Plot.dot(group, {
          x: "speedup", y: "difference", symbol: shape, r: (point) => (key === "vanilla" || point.confirmed ? 6 : filled ? 4.5 : 2.5),
          fill: filled ? color : "var(--paper)", fillOpacity: (point) => (filled && !sure(point) ? 0.35 : 1),
          stroke: (point) => (point.confirmed ? "var(--ink)" : filled && sure(point) ? "var(--paper)" : color), strokeWidth: filled ? 1 : 0.75,
          strokeOpacity: filled ? 1 : 0.5,
          render: taggedRender,
        }));
      }
    }
    const chart = Plot.plot({
      width, height: Math.round(Math.max(270, Math.min(440, width * 0.62))),
      marginLeft: 46, marginBottom: 42, marginRight: 14, marginTop: 26,
      style: { fontFamily: "inherit", fontSize: narrow ? "12px" : "13px", background: "none" },
      x: { label: "Speedup over vanilla decoding →", tickFormat: (value) => `${value}×`, ticks: narrow ? 5 : 8, nice: true, domain: domain(section.spans[0]) },
      y: { label: `↑ ${section.metric} less vanilla’s`, ticks: 6, nice: true, domain: domain(section.spans[1]) },
      marks,
    });
    chart.setAttribute("role", "group");
    chart.setAttribute("aria-label", `Speedup against ${section.metric}: ${points.length} points. Arrow keys move from point to point.`);
    holder.replaceChildren(legend(points), chart);
    const found = [...chart.querySelectorAll("[data-point]")].map((node) => [node, points[Number(node.dataset.point)]]);
    found.sort((a, b) => a[1].speedup - b[1].speedup);
    for (const [node, point] of found) {
      node.classList.add("mark");
      node.setAttribute("role", "button");
      node.setAttribute("aria-label", spoken(point, section));
      if (chosen && chosen.id === point.id) node.classList.add("chosen");
      node.addEventListener("pointerenter", () => onShow(point));
      node.addEventListener("focus", () => onShow(point));
      node.addEventListener("click", () => {
        for (const [other] of found) other.classList.toggle("chosen", other === node);
        onChoose(point);
      });
    }
    if (found.length) rove(found.map(([node]) => node), { start: Math.max(0, found.findIndex(([, point]) => chosen?.id === point.id)) });
  }

  /** Plot's own rendering, with the index of the section's point written on every mark. */
  function taggedRender(index, scales, values, dimensions, context, next) {
    const group = next(index, scales, values, dimensions, context);
    const data = this.data;
    [...group.children].forEach((node, at) => {
      node.dataset.point = data[index[at]].i;
    });
    return group;
  }

  const spoken = (point, section) =>
    `${point.name}, ${point.measured ? "measured" : "predicted"}: speedup ${fixed(point.speedup, 2)}, ${section.metric} ${fixed(point.quality, 1)}, ${point.verdict ?? "the baseline"}`;

  const between = (low, high, decimals) => ` [${fixed(low, decimals)}, ${fixed(high, decimals)}]`;

  /** What is known of one point. */
  function card(holder, point, section, { onTry }) {
    if (!point) {
      holder.replaceChildren(el("h3", {}, "No point chosen"), el("p", { class: "quiet" },
        "Point at a mark, or reach it with Tab and the arrow keys. Enter or a click holds on to it."));
      return;
    }
    const pairs = [
      ["Speedup", `${fixed(point.speedup, 2)}×${between(point.speedupLow, point.speedupHigh, 2)}`],
      [section.metric, `${fixed(point.quality, 2)}${between(point.qualityLow, point.qualityHigh, 1)}`],
    ];
    if (point.verdict) {
      pairs.push(["Against vanilla", `${signed(point.difference, 2)}${between(point.differenceLow, point.differenceHigh, 2)}`]);
      pairs.push(["Verdict", point.confirmed ? `${point.verdict}, confirmed` : point.verdict]);
    }
    if (point.sessions) pairs.push(["Between sessions", point.sessions]);
    if (point.library !== null) pairs.push(["Over generate()", `${fixed(point.library, 2)}×${point.library < 1 ? ", slower" : ""}`]);
    if (point.ms !== null) pairs.push(["ms per example", fixed(point.ms, point.ms < 10 ? 2 : point.ms < 100 ? 1 : 0)]);
    if (point.tokensPerLargePass) pairs.push(["Tokens per large pass", fixed(point.tokensPerLargePass, 2)]);
    if (point.rounds) {
      pairs.push(["Fallbacks", percent(point.fallbackRate)], ["Rollbacks", percent(point.rollbackRate)]);
    }
    if (point.switches) pairs.push(["Switches", point.switches]);
    const parts = [el("h3", {}, point.name), list(pairs)];
    parts.push(el("p", { class: "quiet" }, point.measured
      ? `Quality of ${point.examples} examples; speed of ${point.timed}, one sequence at a time, beside vanilla.`
      : `Predicted from the decision tree and the prices of passes: ${point.examples} examples.`));
    if (point.pick) parts.push(el("p", {}, `It is ${point.pick}.`));
    for (const mark of point.marks) parts.push(el("p", { class: "note" }, mark));
    if (point.command) {
      parts.push(el("details", {}, el("summary", {}, point.measured ? "Measure it again" : "Measure it"), el("code", {}, point.command), copyButton("Copy the command", () => point.command)));
    }
    if (onTry?.can(point)) {
      parts.push(el("button", { type: "button", class: "plain", onclick: () => onTry.go(point) }, "Turn the sliders to this point"));
    }
    holder.replaceChildren(...parts);
  }

  /** All points with whole numbers, a name for each column first. */
  function rowsOf({ points }) {
    const names = Object.keys(points[0]).filter((name) => !["id", "key", "rounds", "at"].includes(name));
    const plain = (value) => (Array.isArray(value) ? value.join("; ") : value);
    return [names, ...points.map((point) => names.map((name) => plain(point[name])))];
  }

  function table(holder, section) {
    const head = ["Point", "Switches", "", "Speedup", section.metric, "Against vanilla", "Verdict", "Examples", "Timed", "Tokens per large pass", "Fallbacks", "Rollbacks"];
    const side = (i) => (i < 3 || head[i] === "Verdict" ? { class: "words" } : {});
    const rows = section.points.map((point) => el("tr", {}, ...[
      point.name, point.switches || "–", point.measured ? "measured" : "predicted",
      `${fixed(point.speedup, 2)}×${between(point.speedupLow, point.speedupHigh, 2)}`,
      `${fixed(point.quality, 2)}${between(point.qualityLow, point.qualityHigh, 1)}`,
      point.verdict ? `${signed(point.difference, 2)}${between(point.differenceLow, point.differenceHigh, 2)}` : "–",
      point.verdict ?? "–", point.examples, point.timed || "–",
      point.tokensPerLargePass ? fixed(point.tokensPerLargePass, 2) : "–",
      rate(point, point.fallbackRate), rate(point, point.rollbackRate),
    ].map((text, i) => el(i ? "td" : "th", i ? side(i) : { scope: "row" }, text))));
    holder.replaceChildren(el("thead", {}, el("tr", {}, ...head.map((text, i) => el("th", { scope: "col", ...side(i) }, text)))), el("tbody", {}, ...rows));
  }

  /** Show a section's points; `onTry` is null or {can(point), go(point)}, which turns the sliders. */
  function showFront(section, onTry) {
    const state = { chosen: section.points.find((point) => point.id === section.chosen) ?? null };
    const show = (point) => card($("front-card"), point ?? state.chosen, section, { onTry });
    $("front-conditions").textContent = section.conditions;
    $("front-caption").textContent = section.caption;
    table($("front-table"), section);
    $("front-csv").replaceChildren(csvButton("points", () => rowsOf(section)));
    const again = (width) => draw($("front-chart"), width, section, state.chosen, {
      onShow: show,
      onChoose: (point) => {
        state.chosen = point;
        show(point);
      },
    });
    $("front-chart").onpointerleave = () => show(null);
    show(null);
    return drawnIn($("front-chart"), again);
  }

  Object.assign(bild, { showFront });
})(globalThis.bild ??= {});
