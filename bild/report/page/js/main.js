// Puts the page together from the data in it.
"use strict";
((bild) => {
  const { $, el, fill } = bild;

  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
  }

  function follow() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    setTheme(dark.matches ? "dark" : "light");
    dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
    $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  }

  /** Show one section: its points, and the sliders and examples where it has a sample. */
  function show(section) {
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
    explorer = new bild.Explorer(replays, (found, setting) => examples.update(found, setting));
    Object.assign(bild, { replays, explorer, examples });
  }

  function about(data) {
    const parts = data.about.map((line) => el("p", {}, line));
    if (data.left_out.length) {
      parts.push(el("h3", {}, "Left out"), el("ul", {}, ...data.left_out.map((line) => el("li", {}, line))));
    }
    $("about-body").replaceChildren(...parts);
  }

  const data = JSON.parse($("data").textContent);
  follow();
  about(data);
  fill($("section"), data.sections.map((section, i) => [String(i), section.name]), "0");
  $("section-picker").hidden = data.sections.length < 2;
  $("section").onchange = () => show(data.sections[Number($("section").value)]);
  show(data.sections[0]);
  document.documentElement.dataset.ready = "yes";
})(globalThis.bild ??= {});
