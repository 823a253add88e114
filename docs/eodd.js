// The sliders of chapter 05 for a page: `EODD`, the numbers of every setting, is written by docs/book.py.
"use strict";
(() => {
  const place = document.getElementById("eodd");
  const names = ["patients", "disparity", "threshold"];
  const texts = ["patients of group b", "disparity", "threshold"];
  const pValue = (p) => (p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(p < 0.1 ? 3 : 2)}`);
  const step = (v) => Math.exp((-v * v) / 2) / Math.sqrt(2 * Math.PI);
  // Normal distribution function: Abramowitz and Stegun 26.2.17, right to seven digits.
  const normal = (v) => {
    const t = 1 / (1 + 0.2316419 * Math.abs(v));
    const tail = step(v) * t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
    return v < 0 ? tail : 1 - tail;
  };
  const density = (x, sd) => {
    const [a, b] = sd.map((s) => Math.max(s, 1e-9) / 2), c = Math.hypot(a, b);
    return (Math.exp((-x * x) / (2 * c * c)) / c) * (normal((x * b) / (a * c)) + normal((x * a) / (b * c)) - 1);
  };
  const line = (points, colour, more = "") =>
    `<polyline points="${points.map((p) => p.map((n) => n.toFixed(1)).join()).join(" ")}" fill="none" stroke="${colour}" ${more}/>`;
  const dot = ([x, y], colour) => `<circle cx="${x}" cy="${y}" r="5" fill="${colour}"/>`;
  const label = (x, y, words) => `<text x="${x}" y="${y}" font-size="13" fill="currentColor">${words}</text>`;

  const sliders = names.map((name, k) => {
    const row = document.createElement("label"), slider = document.createElement("input"), value = document.createElement("b");
    slider.type = "range";
    slider.id = "eodd-" + name;
    slider.max = EODD[name].length - 1;
    slider.value = EODD[name].indexOf(EODD.start[k]);
    slider.addEventListener("input", draw);
    row.append(texts[k] + " ", slider, " ", value);
    row.style.display = "block";
    place.append(row);
    return { slider, value };
  });
  const numbers = document.createElement("p"), picture = document.createElement("div");
  numbers.id = "eodd-numbers";
  place.append(numbers, picture);

  function draw() {
    const at = sliders.map(({ slider }) => Number(slider.value));
    sliders.forEach(({ value }, k) => (value.textContent = EODD[names[k]][at[k]]));
    const seen = (t) => EODD.rows[(at[0] * EODD.disparity.length + at[1]) * EODD.threshold.length + t];
    const [tprA, tprB, fpr, eodd, low, high, expected, p, ...sd] = seen(at[2]);
    numbers.textContent =
      `TPR ${tprA.toFixed(3)} (a) and ${tprB.toFixed(3)} (b), FPR ${fpr.toFixed(3)}. EODD ${eodd.toFixed(3)}, ` +
      `interval ${low.toFixed(3)} to ${high.toFixed(3)}, expected of equal groups ${expected.toFixed(3)}, ${pValue(p)}.`;
    const roc = (x, y) => [30 + 180 * x, 200 - 180 * y], gap = (x, y) => [250 + (340 * x) / 0.6, 200 - 160 * y];
    const all = EODD.threshold.map((_, t) => seen(t));
    const curve = (k) => [roc(1, 1), ...all.map((row) => roc(row[2], row[k])), roc(0, 0)];
    const xs = Array.from({ length: 121 }, (_, k) => k / 200), ys = xs.map((x) => density(x, sd)), most = Math.max(...ys);
    const shape = xs.map((x, k) => gap(x, ys[k] / most));
    picture.innerHTML =
      `<svg viewBox="0 0 600 240" role="img" aria-label="Two groups on their ROC curves, and EODD beside what chance gives" style="width:100%;max-width:45rem">` +
      line([roc(0, 1), roc(0, 0), roc(1, 0)], "#999") + line(curve(0), "#0072B2") + line(curve(1), "#D55E00") +
      dot(roc(fpr, tprA), "#0072B2") + dot(roc(fpr, tprB), "#D55E00") + label(100, 220, "FPR") + label(0, 20, "TPR") +
      `<polygon points="${[gap(0, 0), ...shape, gap(0.6, 0)].map((q) => q.join()).join(" ")}" fill="#8888" />` +
      line([gap(0, 0), gap(0.6, 0)], "#999") + line([gap(expected, 0), gap(expected, 1)], "#888", 'stroke-dasharray="4"') +
      line([gap(low, 0.5), gap(high, 0.5)], "#D55E00", 'stroke-width="3"') + dot(gap(eodd, 0.5), "#D55E00") +
      label(250, 220, "0") + label(575, 220, "0.6") + label(390, 220, "EODD") + "</svg>";
  }
  draw();
})();
