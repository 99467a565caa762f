// The page of fusion serve for a model of patients: sends the cells of each, shows what it is called and by which cells.
// No library, nothing from elsewhere.
import { counted, find, make, save, saveTable } from "./elements.js";
import { clear, collator, fault, fetchExample, isImage, note, pathOf, placeAt, post, rulesOf, say, takeFiles } from "./uploads.js";

const settings = JSON.parse(document.body.dataset.settings);
const ZIP = /\.zip$/i;
/** Synthetic cells of a patient to try. */
const EXAMPLES = 12;

/** Every patient judged so far, with its files, for a page of its own. */
let patients = [];
let asked = 0; // turns of asking: answers to a turn that was cleared are dropped
let queue = Promise.resolve();
// ---- asking -------------------------------------------------------------------------------------------------------

/** Name and files of each patient: a zip file, a folder, or what was chosen image by image. */
function patientsOf(files) {
  const found = new Map();
  const add = (name, file) => found.set(name, [...(found.get(name) ?? []), file]);
  for (const file of files) {
    const folder = pathOf(file).split("/").slice(0, -1).join("/");
    if (ZIP.test(file.name)) add(pathOf(file).replace(ZIP, ""), file);
    else if (isImage(file)) add(folder || `patient ${patients.length + 1}`, file);
  }
  return [...found].sort(([a], [b]) => collator.compare(a, b));
}

function judge(files) {
  const turn = asked;
  queue = queue.then(() => (turn === asked ? judgeNow(files, turn) : null));
  return queue;
}

async function judgeNow(files, turn) {
  const groups = patientsOf(files);
  const left = files.length - groups.reduce((sum, [, own]) => sum + own.length, 0);
  if (left) fault(counted(left, "file"), "left out, named like neither an image nor a zip file");
  const progress = find("#progress");
  progress.max = groups.length;
  progress.value = 0;
  progress.hidden = false;
  let judged = 0;
  for (const [name, own] of groups) {
    say(`Judging ${name}, ${counted(own.length, "file")} …`);
    try {
      const answer = await (await post("/api/predict?images=true", own)).json();
      if (turn !== asked) return;
      for (const row of answer.faults) fault(`${name}: ${row.name}`, row.reason);
      patients.push({ name, files: own, ...answer });
      note([...answer.notes.filter((line) => !line.startsWith("1 patient: ")), ...rulesOf(answer, "patient")]);
      judged += 1;
    } catch (error) {
      if (turn !== asked) return;
      fault(name, error.message);
    }
    progress.value += 1;
    show();
  }
  progress.hidden = true;
  say(`${counted(judged, "patient")} judged${judged < groups.length ? `, ${groups.length - judged} not: see “No answer”` : ""}.`);
}

async function tryExample() {
  try {
    const files = await Promise.all(Array.from({ length: Math.min(EXAMPLES, settings.examples) }, (_, at) => fetchExample(at)));
    for (const file of files) placeAt(file, `synthetic cells/${file.name}`);
    await judge(files);
  } catch (error) {
    say(error.message);
  }
}

// ---- answers ------------------------------------------------------------------------------------------------------

const TITLES = {
  for: (label) => `Cells that speak for ${label}`,
  against: () => "Cells that speak against it",
  attention: () => "Cells that the model looked at most",
};

function cellFigure(cell, kind, most) {
  const share = 100 * Math.abs(kind === "attention" ? cell.attention : cell.adds) / (most || 1);
  const bar = make("i", { class: kind });
  bar.style.width = `${share.toFixed(1)}%`;
  return make("figure", {}, cell.image ? make("img", { src: cell.image, alt: `Cell ${cell.name}`, width: 144, height: 144 }) : null,
    make("div", { class: "track" }, bar),
    make("figcaption", {}, `adds ${signed(cell.adds)}`, ...(cell.attention === null ? [] : [make("br"), `attention ${(100 * cell.attention).toFixed(1)}%`]),
      make("br"), cell.name, cell.in_training ? make("span", { class: "flag" }, "learnt from") : null));
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;

function card(one) {
  const { patient } = one;
  const byIndex = new Map(one.cells.map((cell) => [cell.index, cell]));
  const reach = Math.max(...one.cells.map((cell) => Math.abs(cell.adds)));
  const look = Math.max(...one.cells.map((cell) => cell.attention ?? 0));
  const parts = Object.entries(one.shown).filter(([, places]) => places.length).flatMap(([kind, places]) => [
    make("h4", {}, TITLES[kind](patient.class)),
    make("div", { class: "strip" }, ...places.map((place) => cellFigure(byIndex.get(place), kind, kind === "attention" ? look : reach))),
  ]);
  const chances = one.classes.map((label) => `${label} ${patient.probability[label].toFixed(3)}`).join(", ");
  const known = one.cells.filter((cell) => cell.in_training).length;
  return make("section", { class: "patient" },
    make("h3", {}, one.name),
    make("p", {}, make("b", {}, patient.class), ` — ${chances}; ${counted(patient.cells, "cell")}`),
    patient.out_of_distribution ? make("p", { class: "stamp" }, `Out of distribution: the median cell lies ${patient.distance.toFixed(1)} times as far from the training cells as is usual. The class means little.`) : null,
    known ? make("p", { class: "stamp" }, `The model has learnt from ${counted(known, "cell")} of these.`) : null,
    make("p", { class: "soft" }, `${patient.half} of ${counted(patient.cells, "cell")} hold half of what speaks for it.`),
    make("details", {}, make("summary", {}, "The cells that it rests on"), ...parts),
    make("p", {}, make("button", { type: "button", onclick: (event) => saveWhole(event.target, one) }, "Save its page")));
}

async function saveWhole(button, one) {
  button.disabled = true;
  try {
    const page = await post(`/api/explain?format=html&name=${encodeURIComponent(one.name.slice(-120))}`, one.files);
    save(await page.blob(), `${one.name.replaceAll(/[^\w.-]+/g, "_")}-explained.html`);
  } catch (error) {
    say(error.message);
  }
  button.disabled = false;
}

function show() {
  find("#results").hidden = !patients.length;
  find("#patients").replaceChildren(...patients.map(card));
}

function saveAnswers() {
  const classes = settings.classes;
  const rows = patients.map((one) => [one.name, one.patient.class, ...classes.map((label) => one.patient.probability[label]), one.patient.cells, one.faults.length, one.patient.out_of_distribution]);
  saveTable([["patient", "class", ...classes, "cells", "not_measured", "out_of_distribution"], ...rows], "patients.csv");
}

// ---- what a person does -------------------------------------------------------------------------------------------

takeFiles(judge);
find("#example").addEventListener("click", tryExample);
find("#csv").addEventListener("click", saveAnswers);
find("#clear").addEventListener("click", () => {
  asked += 1;
  patients = [];
  clear();
  show();
});
show();
