// The page of fusion serve: sends images, shows answers, keeps nothing but the labels that are given. No library, nothing
// from elsewhere.
import { explanation } from "./cell.js";
import { counted, find, make, save, saveTable } from "./elements.js";
import { UNSURE, addClass, addedClasses, counts, forget, labelOf, saveLabels, setLabel, setSubjects } from "./labels.js";
import { clear, collator, fault, fetchExample, isImage, note, pathOf, post, rulesOf, say, takeFiles } from "./uploads.js";

const settings = JSON.parse(document.body.dataset.settings);
// Images of one request: few enough that the table grows while many are judged.
const together = Math.min(16, settings.files);

/** Everything judged so far; each keeps its file, for an explanation of it. */
let cells = [];
let sorted = { by: "place", down: false };
let asked = 0; // turns of asking: answers to a turn that was cleared are dropped
let example = 0;
let queue = Promise.resolve();

const megabytes = (count) => `${Math.round(count / 1048576)} MB`;

// ---- asking -----------------------------------------------------------------------------------------------------

/** Groups of files that each fit a request; what fits none is told at once. */
function groups(files) {
  const found = [];
  let group = [];
  let bytes = 0;
  for (const file of files) {
    if (file.size > Math.min(settings.file_bytes, settings.request_bytes)) {
      fault(file.name, `the file is too large; found ${megabytes(file.size)}; expected ${megabytes(settings.file_bytes)}`);
      continue;
    }
    if (group.length === together || bytes + file.size > settings.request_bytes) {
      found.push(group);
      group = [];
      bytes = 0;
    }
    group.push(file);
    bytes += file.size;
  }
  if (group.length) found.push(group);
  return found;
}

/** Judge files, group by group, after whatever is being judged now. */
function judge(files) {
  const turn = asked;
  queue = queue.then(() => (turn === asked ? judgeNow(files, turn) : null));
  return queue;
}

async function judgeNow(files, turn) {
  const progress = find("#progress");
  let judged = 0;
  let done = 0;
  const others = files.filter((file) => !isImage(file));
  const images = files.filter((file) => !others.includes(file));
  if (others.length) fault(counted(others.length, "file"), `left out, not named like an image (${others.slice(0, 3).map((file) => file.name).join(", ")}${others.length > 3 ? ", …" : ""})`);
  progress.max = images.length;
  progress.value = 0;
  const before = find("#faults ul").children.length;
  progress.hidden = false;
  say(`Judging ${counted(images.length, "image")} …`);
  for (const group of groups(images)) {
    try {
      const answer = await (await post("/api/predict?images=true", group)).json();
      if (turn !== asked) return;
      for (const row of answer.predictions) {
        const file = group[row.index];
        cells.push({ ...row, file, path: pathOf(file), place: cells.length });
      }
      for (const row of answer.faults) fault(row.name, row.reason);
      judged += answer.predictions.length;
      note(told(answer));
    } catch (error) {
      if (turn !== asked) return;
      for (const file of group) fault(file.name, error.message);
    }
    done += group.length;
    progress.value = done;
    show();
  }
  progress.hidden = true;
  const failed = find("#faults ul").children.length - before;
  say(`${counted(judged, "cell")} judged${failed ? `, ${counted(failed, "image")} not: see “No answer”` : ""}.`);
}

/** What must be known of all answers; what counts the cells of one request is said by the table itself. */
function told(answer) {
  return [
    ...answer.notes.filter((line) => !/^\d+ (cells?: |of these |is out of distribution|are out of distribution)/.test(line)),
    ...rulesOf(answer, "cell"),
  ];
}

async function tryExample() {
  const number = example;
  example = (example + 1) % settings.examples;
  try {
    await judge([await fetchExample(number)]);
  } catch (error) {
    say(error.message);
  }
}

// ---- the table ----------------------------------------------------------------------------------------------------

const sure = (cell) => cell.probability[cell.class];
/** How far the first class is above the second; what the model was never shown the like of comes before all. */
function lead(cell) {
  const [first, second] = Object.values(cell.probability).sort((a, b) => b - a);
  return cell.out_of_distribution ? -1 : first - (second ?? 0);
}
const keys = {
  place: (cell) => cell.place,
  unsure: (cell) => lead(cell) + (labelOf(cell) ? 10 : 0),
  name: (cell) => cell.name,
  class: (cell) => cell.class,
  probability: sure,
  distance: (cell) => cell.distance ?? -1,
};

const SUBJECTS = {
  "": () => "",
  folder: (cell) => cell.path.split("/").at(-2) ?? "",
  name: (cell) => cell.name.match(/^([^_-]+)[_-]/)?.[1] ?? "",
  cnmc: (cell) => cell.name.match(/^UID_([^_]+)_/)?.[1] ?? "",
};
const subjectOf = (cell) => SUBJECTS[find("#subject").value](cell);
/** The one subject whose cells are shown, null for all. */
let shownSubject = null;

/** Rows that are shown at first, and by each asking for more. */
const PAGE = 100;
let shownRows = PAGE;

function isOfClass(cell, wanted) {
  if (wanted === "not judged") return cell.out_of_distribution;
  if (wanted === "labelled") return labelOf(cell) !== "";
  return !wanted || `is:${cell.class}` === wanted;
}

function chosen() {
  const name = find("#name").value.toLowerCase();
  const wanted = find("#class").value;
  const kept = cells.filter((cell) => cell.path.toLowerCase().includes(name) && isOfClass(cell, wanted)
    && (shownSubject === null || subjectOf(cell) === shownSubject));
  const key = new Map(kept.map((cell) => [cell, keys[sorted.by](cell)]));
  kept.sort((a, b) => {
    const [one, other] = [key.get(a), key.get(b)];
    const order = typeof one === "string" ? collator.compare(one, other) : one - other;
    return (sorted.down ? -order : order) || a.place - b.place;
  });
  return kept;
}

function show() {
  find("#results").hidden = !cells.length;
  const kept = chosen();
  const known = kept.filter((cell) => !cell.out_of_distribution);
  const shares = settings.classes.map((label) => `${label} ${known.filter((cell) => cell.class === label).length}`);
  const outside = kept.length - known.length;
  find("#shown").textContent =
    `${kept.length === cells.length ? counted(cells.length, "cell") : `${kept.length} of ${counted(cells.length, "cell")}`}` +
    `${shownSubject === null ? "" : ` (subject ${shownSubject})`}: ${shares.join(", ")}${outside ? `; ${outside} not judged, out of distribution` : ""}.`;
  find("#cells tbody").replaceChildren(...kept.slice(0, shownRows).map(row));
  find("#more").hidden = kept.length <= shownRows;
  find("#more").textContent = `Show ${Math.min(PAGE, kept.length - shownRows)} more of ${kept.length}`;
  find("#order").value = sorted.by;
  for (const head of document.querySelectorAll("#cells th[data-sort]")) {
    if (head.dataset.sort === sorted.by) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  showSubjects();
  showLabels();
}

function row(cell) {
  const others = settings.classes.filter((label) => label !== cell.class)
    .map((label) => `${label} ${cell.probability[label].toFixed(3)}`);
  const bar = make("i");
  bar.style.width = `${100 * sure(cell)}%`;
  const like = cell.out_of_distribution === null ? "distance not known to this model"
    : `${cell.distance.toFixed(2)} of the usual distance`;
  const subject = subjectOf(cell);
  return make("tr", { role: "row", class: cell.out_of_distribution ? "outside" : null },
    make("td", { role: "cell", class: "image" },
      make("img", { src: cell.image, width: 72, height: 72, alt: `${cell.name}, with the contours found` })),
    make("th", { role: "rowheader", scope: "row" }, cell.name, subject ? make("small", {}, `subject ${subject}`) : null,
      cell.in_training ? make("small", {}, "A training image: the answer is no evidence.") : null),
    make("td", { role: "cell", class: "class label" }, ...(cell.out_of_distribution
      ? [make("span", { class: "flag" }, "not judged"), make("small", {}, `out of distribution; it would be ${cell.class}`)] : [cell.class])),
    make("td", { role: "cell", class: "p" }, sure(cell).toFixed(3), make("div", { class: "sure", "aria-hidden": "true" }, bar),
      make("small", {}, others.join(", "))),
    make("td", { role: "cell", class: "distance" }, make("small", {}, like)),
    make("td", { role: "cell", class: "yours" }, labelling(cell)),
    make("td", { role: "cell", class: "why" },
      make("button", { type: "button", "aria-label": `Why ${cell.name} was predicted ${cell.class}`, onclick: () => explain(cell) }, "Why?")));
}

/** As fusion predict --csv writes it; a spreadsheet takes a name that begins with "=" for a formula, so it gets a quote. */
function saveAnswers() {
  const safe = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
  const word = (value) => (value === null ? "" : value ? "True" : "False");
  saveTable([
    ["name", "class", ...settings.classes.map((label) => `p_${label}`), "out_of_distribution", "distance", "in_training"],
    ...chosen().map((cell) => [
      safe(cell.name), cell.class, ...settings.classes.map((label) => cell.probability[label]), word(cell.out_of_distribution),
      cell.distance, word(cell.in_training),
    ]),
  ], "predictions.csv");
}

// ---- subjects -----------------------------------------------------------------------------------------------------

function showSubjects() {
  const of = Map.groupBy ? Map.groupBy(cells, subjectOf) : cells.reduce((held, cell) => held.set(subjectOf(cell), [...(held.get(subjectOf(cell)) ?? []), cell]), new Map());
  of.delete("");
  find("#by-subject").hidden = !of.size;
  find("#by-subject tbody").replaceChildren(...[...of.keys()].sort(collator.compare).map((subject) => {
    const its = of.get(subject);
    const known = its.filter((cell) => !cell.out_of_distribution);
    const means = settings.classes.map((label) => known.reduce((sum, cell) => sum + cell.probability[label], 0) / known.length);
    const most = Math.max(...means);
    const cell = (head, ...content) => make("td", { role: "cell", "data-head": head }, ...content);
    return make("tr", { role: "row" }, make("th", { role: "rowheader", scope: "row" }, subject),
      cell("Cells", `${its.length}`), cell("Not judged", `${its.length - known.length}`),
      ...settings.classes.map((label, at) => cell(label, known.length
        ? make(means[at] === most ? "b" : "span", {}, means[at].toFixed(3)) : make("span", { class: "flag" }, "not judged"))),
      make("td", { role: "cell" }, make("button", {
        type: "button", "aria-pressed": `${shownSubject === subject}`, "aria-label": `Only cells of subject ${subject}`,
        onclick: () => { shownSubject = shownSubject === subject ? null : subject; shownRows = PAGE; show(); },
      }, "Its cells")));
  }));
}

// ---- labels -------------------------------------------------------------------------------------------------------

/** Where a person says what a cell is. */
function labelling(cell) {
  const classes = [...new Set([...settings.classes, ...addedClasses(), ...[labelOf(cell)].filter((label) => label && label !== UNSURE)])];
  const select = make("select", { "aria-label": `Your label of ${cell.name}`, "data-key": cell.key }, make("option", { value: "" }, "—"),
    ...classes.map((label) => make("option", { value: label }, label)), make("option", { value: UNSURE }, "unsure"));
  select.value = labelOf(cell);
  select.addEventListener("change", () => {
    const kept = setLabel(cell, select.value, subjectOf(cell));
    for (const other of document.querySelectorAll("select[data-key]")) if (other.dataset.key === cell.key) other.value = select.value;
    showLabels(kept);
  });
  return select;
}

function showLabels(isKept = true) {
  const { labelled, unsure } = counts();
  find("#labels").hidden = !cells.length && !labelled && !unsure;
  find("#kept").textContent = `${counted(labelled, "cell")} labelled${unsure ? `, ${unsure} unsure` : ""}.`
    + (isKept ? "" : " This browser keeps nothing beyond this page: download the labels before you leave it.");
}

// ---- one cell -----------------------------------------------------------------------------------------------------

let explained = null;
/** The cells in the order that they had when the first was opened: one who labels comes to each. */
let walk = [];

async function explain(cell) {
  const dialog = find("#why");
  explained = cell;
  find("#about").textContent = cell.name;
  find("#reasons").replaceChildren(make("p", { role: "status" }, "Asking why …"));
  if (!dialog.open) {
    walk = chosen();
    dialog.showModal();
  }
  find("#previous").disabled = walk[0] === cell;
  find("#next").disabled = walk.at(-1) === cell;
  find("#about").focus();
  try {
    const found = await (await post("/api/explain", [cell.file])).json();
    const label = make("label", {}, "Your label ", labelling(cell));
    if (explained === cell) find("#reasons").replaceChildren(...explanation(cell, found, label, fetchForm));
  } catch (error) {
    if (explained === cell) find("#reasons").replaceChildren(make("p", { role: "alert" }, error.message));
  }
}

const fetchForm = async (cell, form) => (await post(`/api/explain?format=${form}`, [cell.file])).blob();

function step(by) {
  const next = walk[walk.indexOf(explained) + by];
  if (next) explain(next);
}

// ---- what a person does -------------------------------------------------------------------------------------------

takeFiles(judge);
find("#example").addEventListener("click", tryExample);
find("#tools").addEventListener("input", (event) => {
  if (event.target.id === "order") sorted = { by: event.target.value, down: false };
  if (event.target.id === "subject") {
    shownSubject = null;
    setSubjects(cells, subjectOf);
  }
  shownRows = PAGE;
  show();
});
find("#tools").addEventListener("submit", (event) => event.preventDefault());
find("#more").addEventListener("click", () => { shownRows += PAGE; show(); });
find("#csv").addEventListener("click", saveAnswers);
find("#clear").addEventListener("click", () => {
  asked += 1;
  cells = [];
  shownSubject = null;
  clear();
  show();
});
for (const head of document.querySelectorAll("#cells th[data-sort]")) {
  head.addEventListener("click", () => {
    sorted = { by: head.dataset.sort, down: sorted.by === head.dataset.sort && !sorted.down };
    show();
  });
}
find("#add").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = find("#new-class").value.trim();
  if (!name || name === UNSURE) return;
  const kept = addClass(name);
  find("#new-class").value = "";
  show();
  showLabels(kept);
});
find("#labels-csv").addEventListener("click", saveLabels);
find("#forget").addEventListener("click", () => {
  if (!confirm(`Forget the labels of ${counted(counts().labelled + counts().unsure, "cell")}?`)) return;
  forget();
  show();
});
find("#previous").addEventListener("click", () => step(-1));
find("#next").addEventListener("click", () => step(1));
find("#close").addEventListener("click", () => find("#why").close());
show();
