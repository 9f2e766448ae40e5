// What leaves the page: links that hold the sliders, tables as CSV, texts for the clipboard.
"use strict";
((bild) => {
  /** Fields as the fragment of a link, by names and values, so that a link outlives the order of a report. */
  const linkOf = (fields) => `#${Object.entries(fields).filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%20", "+")}`).join("&")}`;

  /** The fields of a fragment; null where it has none, as that of an anchor. */
  function readLink(fragment) {
    const pairs = fragment.replace(/^#/, "").split("&").map((pair) => pair.split("="));
    try {
      return pairs.every((pair) => pair.length === 2)
        ? Object.fromEntries(pairs.map(([name, value]) => [name, decodeURIComponent(value.replaceAll("+", " "))])) : null;
    } catch {
      return null; // a % that stands for no letter
    }
  }

  /** What a link says of a place {grid, fb, value} of the sliders. */
  function fieldsOf(grids, { grid: at, fb, value }) {
    const grid = grids[at];
    return { rules: grid.name, fb: grid.fbs[fb], ...(grid.threshold ? { [grid.threshold]: grid.values[value] } : {}) };
  }

  /** The place that a link names; null where these grids do not have it. */
  function placeOf(grids, fields) {
    const at = grids.findIndex((grid) => grid.name === fields.rules), grid = grids[at];
    if (!grid) return null;
    const find = (values, wanted) => (values[0] === null ? 0 : values.findIndex((each) => String(each) === wanted));
    const place = { grid: at, fb: find(grid.fbs, fields.fb), value: find(grid.values, fields[grid.threshold]) };
    return place.fb < 0 || place.value < 0 ? null : place;
  }

  /** One cell of a CSV; what a spreadsheet would take for a formula is quoted, as in the report's own files. */
  function cell(value) {
    if (value === null || value === undefined) return "";
    const text = typeof value === "string" && /^[=@+-]./.test(value) && !/^[+-]\d/.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  /** Rows of values as CSV (RFC 4180). */
  const csvOf = (rows) => rows.map((row) => `${row.map(cell).join(",")}\n`).join("");

  /** Hand a text to the reader as a file. */
  function download(name, text) {
    const link = bild.el("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /** A button that downloads what `rows()` returns. */
  const csvButton = (name, rows) =>
    bild.el("button", { type: "button", class: "plain small", onclick: () => download(`${name}.csv`, csvOf(rows())) }, "Download as CSV");

  /** A button that copies what `text()` returns, and says so. */
  function copyButton(title, text) {
    const button = bild.el("button", { type: "button", class: "plain small", onclick: async () => {
      button.textContent = await put(text()) ? "Copied" : "Not copied: select it by hand";
      setTimeout(() => { button.textContent = title; }, 1500);
    } }, title);
    return button;
  }

  /** Put a text into the clipboard; true where that was allowed. */
  async function put(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { // an old browser, or one that does not trust a file
      const area = bild.el("textarea", { class: "off", readonly: true });
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  Object.assign(bild, { linkOf, readLink, fieldsOf, placeOf, csvOf, csvButton, copyButton });
})(globalThis.bild ??= {});
