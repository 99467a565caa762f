// Labels that a person gives, kept in the browser by the content of the image, and the table of them.
import { saveTable } from "./elements.js";

const KEPT = "fusion-labels";

/** What a person chooses who cannot tell; kept, so that the cell is not asked about again, and left out of the table. */
export const UNSURE = "?";

let kept = read();

function read() {
  try {
    const found = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    return { labels: found.labels ?? {}, classes: found.classes ?? [] };
  } catch {
    return { labels: {}, classes: [] };
  }
}

/** Whether the browser keeps it beyond this page: a private window, or one that is full, may not. */
function write() {
  try {
    localStorage.setItem(KEPT, JSON.stringify(kept));
    return true;
  } catch {
    return false;
  }
}

addEventListener("storage", (event) => {
  if (event.key === KEPT) kept = read(); // another tab
});

export const labelOf = (cell) => kept.labels[cell.key]?.label ?? "";
export const addedClasses = () => kept.classes;

export const counts = () => {
  const all = Object.values(kept.labels);
  return { labelled: all.filter((one) => one.label !== UNSURE).length, unsure: all.filter((one) => one.label === UNSURE).length };
};

export function setLabel(cell, label, subject) {
  if (!label) delete kept.labels[cell.key];
  else {
    kept.labels[cell.key] = {
      path: cell.path, label, subject, predicted: cell.class, probability: cell.probability[cell.class],
      out_of_distribution: cell.out_of_distribution,
    };
  }
  return write();
}

/** The subjects of labelled cells, as they are now said to be. */
export function setSubjects(cells, subjectOf) {
  for (const cell of cells) if (kept.labels[cell.key]) kept.labels[cell.key].subject = subjectOf(cell);
  write();
}

export function addClass(name) {
  kept.classes = [...new Set([...kept.classes, name])];
  return write();
}

export function forget() {
  kept = { labels: {}, classes: [] };
  write();
}

/** A row an image, as fusion reads it: paths relative to the table; "./" keeps a spreadsheet from calculating with a name. */
export function saveLabels() {
  const chosen = Object.values(kept.labels).filter((one) => one.label !== UNSURE);
  const withSubject = chosen.some((one) => one.subject);
  const head = ["path", "label", ...(withSubject ? ["subject"] : []), "predicted", "probability", "out_of_distribution"];
  const word = (value) => (value === null ? "" : value ? "True" : "False");
  saveTable([head, ...chosen.map((one) => [
    `./${one.path}`, one.label, ...(withSubject ? [one.subject] : []), one.predicted, one.probability, word(one.out_of_distribution),
  ])], "labels.csv");
}
