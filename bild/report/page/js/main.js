// Puts the page together from the data in it.
"use strict";
((bild) => {
  const { $, el, fill, copyButton, csvButton } = bild;

  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
  }

  function followTheme() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    setTheme(dark.matches ? "dark" : "light");
    dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
    $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  }

  /** Show one section: its points, and the sliders and examples where it has a sample. */
  function show(section) {
    shown = section;
    const sample = section.sample?.grids.some((grid) => bild.knows(grid.method)) ? section.sample : null;
    $("subtitle").textContent = section.title;
    for (const id of ["explore", "examples"]) $(`${id}-body`).hidden = !sample;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let explorer = null;
    bild.showFront(section, sample && {
      can: (point) => Boolean(explorer?.has(point.at)),
      go: (point) => {
        explorer.goTo(point.at);
        $("explore").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
      },
    });
    if (!sample) {
      for (const id of ["explore-lead", "examples-lead"]) $(id).textContent = section.missing || "This page knows none of the rules that the tree was grown for.";
      return;
    }
    const replays = new bild.Replays(sample);
    const examples = new bild.Examples(replays);
    explorer = new bild.Explorer(replays, (found, setting, place) => {
      if (found) examples.update(found, setting);
      here(section, place);
      if (explorer) hold(section, place); // not where the page opens
    });
    Object.assign(bild, { replays, explorer, examples });
  }

  const linkTo = (section, place) =>
    bild.linkOf({ section: data.sections.length > 1 ? section.name : null, ...bild.fieldsOf(section.sample.grids, place) });

  let later = 0;
  /** Keep the sliders in the page's address; not at every step of a drag, which browsers slow down. */
  function hold(section, place) {
    clearTimeout(later);
    later = setTimeout(() => history.replaceState(null, "", linkTo(section, place)), 200);
  }

  /** Below the sliders: the point that they stand at, how to measure it, and a link to it. */
  function here(section, place) {
    const point = section.points.find(({ at }) => at && ["grid", "fb", "value"].every((name) => at[name] === place[name]));
    const parts = [copyButton("Copy a link to this setting", () => location.href.replace(/#.*|$/, linkTo(section, place)))];
    if (point?.command) parts.unshift(copyButton("Copy its command", () => point.command), el("code", {}, point.command));
    $("here").replaceChildren(el("summary", {}, point ? `${point.name}: link, and the command that measures it` : "Link to this setting"), ...parts);
  }

  /** Turn to what the page's address says, if it says anything; a setting that is not here is told. */
  function follow(fragment) {
    const link = bild.readLink(fragment);
    if (!link?.rules) return;
    const at = Math.max(0, data.sections.findIndex((section) => section.name === link.section)), section = data.sections[at];
    if (shown !== section) {
      $("section").value = String(at);
      show(section);
    }
    const place = section.sample && bild.placeOf(section.sample.grids, link);
    if (bild.explorer?.has(place)) bild.explorer.goTo(place);
    else $("explore-lead").textContent += " The link to this page names a setting that is not in it.";
    $("explore").scrollIntoView();
  }

  function about(data) {
    const parts = data.about.map((line) => el("p", {}, line));
    if (data.left_out.length) {
      parts.push(el("h3", {}, "Left out"), el("ul", {}, ...data.left_out.map((line) => el("li", {}, line))));
    }
    $("about-body").replaceChildren(...parts);
  }

  /** Buttons for what the report wrote: commands of what is missing, and tables. */
  function buttons() {
    for (const code of document.querySelectorAll("#figures .note code")) code.after(" ", copyButton("Copy", () => code.textContent));
    for (const block of document.querySelectorAll(".table-block")) {
      const rows = () => [...block.querySelectorAll("tr")].map((row) => [...row.cells].map((each) => each.textContent));
      block.querySelector("h3").after(csvButton(block.dataset.stem, rows));
    }
  }

  const data = JSON.parse($("data").textContent);
  let shown = null;
  followTheme();
  about(data);
  fill($("section"), data.sections.map((section, i) => [String(i), section.name]), "0");
  $("section-picker").hidden = data.sections.length < 2;
  $("section").onchange = () => show(data.sections[Number($("section").value)]);
  buttons();
  show(data.sections[0]);
  follow(location.hash);
  addEventListener("hashchange", () => follow(location.hash));
  document.documentElement.dataset.ready = "yes";
})(globalThis.bild ??= {});
