// Predicted seconds: `Prices.seconds_each` of bild/results/prices.py, from tables that Python laid out.
"use strict";
((bild) => {
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  /** Between the entries of a table [[x], [y]]; flat beyond its ends, as numpy.interp. */
  function interpolate([xs, ys], at) {
    if (at <= xs[0]) return ys[0];
    for (let i = 1; i < xs.length; i += 1) {
      if (at <= xs[i]) return ys[i - 1] + ((ys[i] - ys[i - 1]) * (at - xs[i - 1])) / (xs[i] - xs[i - 1]);
    }
    return ys.at(-1);
  }

  /** All passes of one model over one text. `price.seconds` is a table by width. */
  function ofPasses(price, passes, source, length) {
    if (!passes.length) return 0;
    const fed = sum(passes);
    let before = 0, places = 0;
    for (const width of passes) {
      places += before;
      before += width;
    }
    places *= Math.min(length / Math.max(fed, 1), 1);
    const seconds = sum(passes.map((width) => price.seconds[width]))
      + price.per_position * (places - passes.length * price.position)
      + price.per_source * passes.length * (source - price.source);
    return Math.max(seconds, 0);
  }

  /** Predicted seconds of one replayed text, end to end. */
  function secondsOf(prices, source, run) {
    const small = run.smallPasses, large = run.largePasses, length = run.tokens.length;
    const both = small.length > 0 && large.length > 0;
    return prices.example
      + (large.length || prices.one_encoder ? interpolate(prices.encode_large, source) : 0)
      + (small.length ? interpolate(prices.encode_small, source) : 0)
      + ofPasses(small.length ? prices.large : prices.large_alone, large, source, length)
      + ofPasses(large.length ? prices.small : prices.small_alone, small, source, length)
      + (both ? prices.round * large.length : 0);
  }

  Object.assign(bild, { secondsOf });
})(globalThis.bild ??= {});
