// Making and finding elements. Text goes in as text only, never as markup.
"use strict";
((bild) => {
  /** The element with an id. */
  const $ = (id) => document.getElementById(id);

  /** An element with attributes and children; a string child is text. `on...` attributes are listeners. */
  function el(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  /** A <dl> of pairs [term, value]. */
  const list = (pairs, attributes = {}) =>
    el("dl", attributes, ...pairs.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));

  /** A <select> filled with [value, text]. */
  function fill(select, options, chosen) {
    select.replaceChildren(...options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  }

  /**
   * Arrow keys, Home and End move among `items`, of which one alone is in the order of Tab. Enter and Space do what a
   * click does, also where the item is no button.
   */
  function rove(items, { keys = ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"], start = 0 } = {}) {
    const go = (to) => {
      const next = Math.max(0, Math.min(items.length - 1, to));
      items.forEach((item, i) => item.setAttribute("tabindex", i === next ? "0" : "-1"));
      items[next].focus();
    };
    items.forEach((item, i) => {
      item.setAttribute("tabindex", i === start ? "0" : "-1");
      item.addEventListener("keydown", (event) => {
        const back = keys.slice(0, keys.length / 2), forth = keys.slice(keys.length / 2);
        if (back.includes(event.key)) go(i - 1);
        else if (forth.includes(event.key)) go(i + 1);
        else if (event.key === "Home") go(0);
        else if (event.key === "End") go(items.length - 1);
        else if ((event.key === "Enter" || event.key === " ") && item.tagName !== "BUTTON") {
          item.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        } else return;
        event.preventDefault();
      });
    });
  }

  const watched = new WeakMap();

  /** Call `draw` now and when the width of `element` changes, in the place of what drew in it before. */
  function drawnIn(element, draw) {
    let width = 0;
    watched.get(element)?.disconnect();
    const again = () => {
      const now = Math.round(element.clientWidth);
      if (now > 0 && now !== width) {
        width = now;
        draw(now);
      }
    };
    const observer = new ResizeObserver(again);
    watched.set(element, observer);
    observer.observe(element);
    again();
    return () => width > 0 && draw(width);
  }

  /** A number with fixed decimals and a true minus sign. */
  const fixed = (value, decimals) => value.toFixed(decimals).replace("-", "−").replace(/^−(0(\.0*)?)$/, "$1");
  const signed = (value, decimals) => {
    const text = fixed(value, decimals);
    return value > 0 && Number(value.toFixed(decimals)) !== 0 ? `+${text}` : text;
  };
  /** A threshold as people write it; empty where there is none. */
  const threshold = (value) => (value === null ? "" : value === "inf" ? "∞" : String(value));
  const percent = (rate) => `${(100 * rate).toFixed(100 * rate < 9.95 ? 1 : 0)} %`;

  Object.assign(bild, { $, el, list, fill, rove, drawnIn, fixed, signed, threshold, percent });
})(globalThis.bild ??= {});
