// Scores from per-example statistics, which Python computed for every text that the sliders can reach.
"use strict";
((bild) => {
  const ORDERS = 4;

  /**
   * sacreBLEU's `compute_bleu` with exponential smoothing. `sums` are the lengths of output and reference, then correct
   * and all n-grams by order. `effective` leaves out the orders that a short text cannot have (for single sentences).
   */
  function bleu(sums, effective = false) {
    const [length, reference] = sums;
    const correct = sums.slice(2, 2 + ORDERS), total = sums.slice(2 + ORDERS);
    if (!correct.some((count) => count > 0)) return 0;
    const brevity = length < reference ? (length > 0 ? Math.exp(1 - reference / length) : 0) : 1;
    let logs = 0, orders = ORDERS, smooth = 1;
    for (let n = 0; n < ORDERS; n += 1) {
      if (total[n] === 0) {
        if (!effective) return 0; // sacreBLEU takes the logarithm of this precision as -9999999999
        break;
      }
      if (effective) orders = n + 1;
      if (correct[n] === 0) smooth *= 2;
      logs += Math.log(correct[n] === 0 ? 100 / (smooth * total[n]) : (100 * correct[n]) / total[n]);
    }
    return brevity * Math.exp(logs / orders);
  }

  /** The corpus score of rows of statistics: "bleu", or the mean of a score per example, 0..100. */
  function corpusScore(kind, rows) {
    const sums = rows[0].map((_, column) => rows.reduce((sum, row) => sum + row[column], 0));
    return kind === "bleu" ? bleu(sums) : (100 * sums[0]) / rows.length;
  }

  /** The score of one example, for sorting: BLEU of a sentence takes the orders that it has. */
  const exampleScore = (kind, row) => (kind === "bleu" ? bleu(row, true) : 100 * row[0]);

  Object.assign(bild, { bleu, corpusScore, exampleScore });
})(globalThis.bild ??= {});
