// One cell: its image to be looked at closely, and why the model says what it says.
import { draw, make, save } from "./elements.js";

/** The image under its contours, with zoom, light, and contours to be taken away. */
export function viewer(found) {
  const image = make("img", { src: found.image, alt: "The cell" });
  const lines = draw("svg", { viewBox: `0 0 ${found.side} ${found.side}`, "aria-hidden": "true" },
    ...["nucleus", "cell"].flatMap((part) => found.contours[part].map((points) =>
      draw("polygon", { class: `${part}-line`, points: points.map(([x, y]) => `${x + 0.5},${y + 0.5}`).join(" ") }))));
  const stack = make("div", { class: "stack" }, image, lines);
  const frame = make("div", { class: "viewer", tabindex: 0, role: "group", "aria-label": "The cell; when enlarged, move it with the arrow keys" }, stack);
  const brighten = (value) => { image.style.filter = `brightness(${value})`; };
  const zoom = (value) => {
    const middle = (scrolled, shown, whole) => (whole ? (scrolled + shown / 2) / whole : 0.5);
    const x = middle(frame.scrollLeft, frame.clientWidth, stack.clientWidth);
    const y = middle(frame.scrollTop, frame.clientHeight, stack.clientHeight);
    stack.style.width = `${100 * value}%`;
    image.style.imageRendering = value > 3 ? "pixelated" : "auto";
    frame.scrollTo(x * stack.clientWidth - frame.clientWidth / 2, y * stack.clientHeight - frame.clientHeight / 2);
  };
  brighten(found.brightening);
  const slider = (word, least, most, value, change) => make("label", {}, word, make("input", {
    type: "range", min: least, max: most, step: 0.1, value, oninput: (event) => change(Number(event.target.value)),
  }));
  const tick = make("input", { type: "checkbox", onchange: (event) => { lines.style.display = event.target.checked ? "" : "none"; } });
  tick.checked = true;
  return make("figure", {}, frame,
    make("div", { class: "viewing" }, slider("Zoom", 1, 8, 1, zoom), slider("Light", 0.5, 4, found.brightening, brighten),
      make("label", { class: "tick" }, tick, "Contours")),
    make("figcaption", {}, "Contours found: ", make("span", { class: "cell-ink" }, "cell"), ", ",
      make("span", { class: "nucleus-ink" }, "nucleus"),
      found.brightening > 1 ? `. Shown ${found.brightening.toFixed(1)} times as bright as it is.` : "."));
}

function amount(value, reach) {
  const bar = make("i", { class: value > 0 ? "for" : "against" });
  bar.style.width = `${(50 * Math.abs(value)) / reach}%`;
  return make("td", { class: "amount" }, make("div", { class: "track", "aria-hidden": "true" }, bar),
    make("small", {}, `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(3)} ${value > 0 ? "for" : "against"}`));
}

function tableOf(caption, heads, rows) {
  return make("table", {}, make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows));
}

const reach = (values) => Math.max(...values.map(Math.abs), 1e-9);

function images(found) {
  const shown = make("div", {}, viewer(found),
    found.attention ? make("figure", {}, make("img", { class: "map", src: found.attention, alt: `The cell: ${found.map_caption}` }),
      make("figcaption", {}, `${found.map_caption[0].toUpperCase()}${found.map_caption.slice(1)}.`)) : null);
  const blocks = Object.entries(found.blocks);
  if (blocks.length) {
    const most = reach(blocks.map(([, value]) => value));
    shown.append(tableOf(`What each block adds: from ${found.base.toFixed(2)} to ${found.score.toFixed(2)}`,
      ["block", found.score_unit],
      blocks.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), amount(value, most)))));
  }
  return shown;
}

const STRIP = { width: 230, names: 74, row: 12, letters: 13 };

/** Of each class a line over 90% of its training cells, a bar over the middle half, a tick at the median; this cell across all. */
function strip(feature, predicted) {
  if (!feature.strip) return make("small", {}, "no training cells to compare with");
  const { ends: [low, high], spreads } = feature.strip;
  const x = (value) => STRIP.names + (STRIP.width - STRIP.names - 4) * (Math.min(Math.max(value, low), high) - low) / (high - low);
  const height = STRIP.row * Object.keys(spreads).length + 4;
  const rows = Object.entries(spreads).flatMap(([name, [p5, p25, p50, p75, p95]], at) => {
    const y = 2 + STRIP.row * (at + 0.5);
    const kind = name === predicted ? "own" : "other";
    const line = (thick, path) => draw("path", { class: kind, "stroke-width": thick, d: path });
    return [
      draw("text", { x: STRIP.names - 6, y: y + 3.5, "text-anchor": "end" }, name.length > STRIP.letters ? `${name.slice(0, STRIP.letters - 1)}…` : name),
      line(1, `M${x(p5)} ${y}H${x(p95)}`), line(5, `M${x(p25)} ${y}H${x(p75)}`), line(2, `M${x(p50)} ${y - 4}V${y + 4}`),
    ];
  });
  const own = feature.value === null ? null : draw("path", { class: "cell", "stroke-width": 2, d: `M${x(feature.value)} 1V${height - 1}` });
  return draw("svg", { class: "spreads", role: "img", "aria-label": feature.held_to ? `this cell is ${feature.held_to}` : "this cell has no value",
    viewBox: `0 0 ${STRIP.width} ${height}`, width: STRIP.width, height }, ...rows, own);
}

function featureRow(feature, predicted, most) {
  const more = [feature.definition || "Not described by its extractor.", feature.unit && `Unit: ${feature.unit}.`,
    feature.held_to && `This cell is ${[feature.held_to, feature.usual].filter(Boolean).join("; ")}.`];
  return make("tr", { class: "feature" }, make("th", { scope: "row" }, feature.sentence, strip(feature, predicted),
    make("details", {}, make("summary", {}, make("small", { class: "hidden" }, `${feature.sentence}, `), `${feature.block}: definition`),
      make("small", {}, more.filter(Boolean).join(" ")))),
  amount(feature.contribution, most));
}

/** Groups of features, the strongest first; below each the features that are named, and all others together. */
function reasons(found) {
  if (!found.groups.length) return make("p", { class: "soft" }, "No features: this model sees the image alone.");
  const most = reach([...found.groups.flatMap((group) => [group.value, group.all_other_features]),
    ...found.features.map((feature) => feature.contribution)]);
  const rows = found.groups.flatMap((group) => {
    const own = found.features.filter((feature) => feature.block === group.block && feature.group === group.group);
    return [
      make("tr", { class: "group" }, make("th", { scope: "row" }, group.group || group.block,
        group.group && group.group !== group.block ? make("small", {}, group.block) : null), amount(group.value, most)),
      ...own.map((feature) => featureRow(feature, found.class, most)),
      ...(own.length ? [make("tr", { class: "feature" }, make("th", { scope: "row" }, make("small", {}, "all other features of the group")),
        amount(group.all_other_features, most))] : []),
    ];
  });
  return tableOf(`What speaks for and against ${found.class}, group by group, the strongest first`,
    ["group, its features, and how they compare with training cells", found.score_unit], rows);
}

/** Everything that is shown of an explanation; ``label`` is where a person says what it is, ``fetchForm`` asks for a file of it. */
export function explanation(cell, found, label, fetchForm) {
  const probabilities = Object.entries(found.probability).map(([name, p]) => `${name} ${p.toFixed(3)}`).join(", ");
  const verdict = found.out_of_distribution
    ? [make("b", {}, "not judged"), ": out of distribution. ", make("span", { class: "soft" }, `It would be ${found.class} — ${probabilities}`)]
    : [make("b", {}, found.class), ` — ${probabilities}`];
  const download = (word, form) => make("button", { type: "button", onclick: (event) => fetchFile(event.target, cell, form, fetchForm) }, word);
  return [
    make("p", {}, ...verdict),
    found.warning ? make("p", { class: "stamp" }, found.warning) : "",
    found.in_training ? make("p", { class: "stamp" }, "A training image: the model has learnt from it, and its answer is no evidence.") : "",
    make("div", { class: "downloads" }, label, download("Download as HTML", "html"), download("Download figure (SVG)", "svg")),
    make("div", { class: "two" }, images(found), make("div", {}, reasons(found),
      make("p", { class: "soft" }, `By ${found.method}. ${found.limits} What a model used is shown here, not what causes a disease.`))),
  ];
}

async function fetchFile(button, cell, form, fetchForm) {
  button.disabled = true;
  try {
    save(await fetchForm(cell, form), `${cell.name.replace(/[^\w-]/g, "_").slice(0, 60)}-explained.${form}`);
  } catch (error) {
    button.after(make("p", { role: "alert" }, error.message));
  } finally {
    button.disabled = false;
    button.focus();
  }
}
