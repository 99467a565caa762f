// Files that a person chooses or drops, what the server says of them, and where that is told on the page.
import { find, make } from "./elements.js";

/** Names of images; what else lies in a folder is left out and counted. */
const IMAGE = /\.(bmp|png|jpe?g|tiff?)$/i;
const SILENT = "The server does not answer. Is fusion serve still running?";
export const collator = new Intl.Collator("en", { numeric: true });
/** Where a file lies under the folder that was dropped. */
const paths = new WeakMap();

export const isImage = (file) => IMAGE.test(file.name) || file.type.startsWith("image/");
/** Where a file lies under the folder that was chosen or dropped; its name where it came alone. */
export const pathOf = (file) => file.webkitRelativePath || paths.get(file) || file.name;
export const placeAt = (file, path) => { paths.set(file, path); };

// ---- telling ------------------------------------------------------------------------------------------------------

export const say = (text) => { find("#status").textContent = text; };

export function fault(name, reason) {
  find("#faults").hidden = false;
  find("#faults ul").append(make("li", {}, make("b", {}, name), `: ${reason}`));
}

/** What must be known of all answers, once each. */
export function note(lines) {
  const list = find("#notes");
  const held = new Set([...list.children].map((item) => item.textContent));
  for (const line of lines) if (!held.has(line)) list.append(make("li", {}, line));
}

/** By which rule a cell or a patient is called, where it is not the most probable class. */
export const rulesOf = (answer, unit) => [
  ...(answer.costs ? [`A ${unit} is predicted as the class of the least expected cost.`] : []),
  ...(answer.threshold ? [`A ${unit} is predicted ${answer.threshold.class} from a probability of ${answer.threshold.probability.toFixed(3)} on.`] : []),
];

/** Take back all that was told. */
export function clear() {
  find("#faults").hidden = true;
  find("#progress").hidden = true;
  find("#faults ul").replaceChildren();
  find("#notes").replaceChildren();
  say("Cleared.");
  find("#files").focus();
}

// ---- asking -------------------------------------------------------------------------------------------------------

/** The server's answer; an Error with one clear sentence where there is none. */
export async function post(address, files) {
  const body = new FormData();
  for (const file of files) body.append("files", file, file.name);
  let answer;
  try {
    answer = await fetch(address, { method: "POST", body });
  } catch {
    throw new Error(SILENT);
  }
  if (answer.ok) return answer;
  const answered = await answer.json().catch(() => ({}));
  throw new Error(answered.detail ?? `The server answers with status ${answer.status}.`);
}

/** A synthetic cell as a file; an Error with one clear sentence where there is none. */
export async function fetchExample(number) {
  try {
    const answer = await fetch(`/api/example?number=${number}`);
    if (!answer.ok) throw new Error(`The server answers with status ${answer.status}.`);
    const name = `synthetic-${number + 1}-drawn-as-${answer.headers.get("X-Drawn-As")}.png`;
    return new File([await answer.blob()], name, { type: "image/png" });
  } catch (error) {
    throw error instanceof TypeError ? new Error(SILENT) : error;
  }
}

// ---- choosing and dropping ----------------------------------------------------------------------------------------

const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

/** All files under what was dropped; a folder is walked through. */
async function filesUnder(entry, folder = "") {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => { entry.file(done, failed); });
    placeAt(file, folder + file.name);
    return [file];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => { reader.readEntries(done, failed); }); // a hundred at a time
    if (!some.length) break;
    found.push(...some);
  }
  found.sort((a, b) => collator.compare(a.name, b.name));
  return (await Promise.all(found.map((each) => filesUnder(each, `${folder}${entry.name}/`)))).flat();
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [...transfer.files]; // both are gone once this function has waited
  if (!entries.some((entry) => entry.isDirectory)) return files;
  return (await Promise.all(entries.map((entry) => filesUnder(entry)))).flat();
}

/** Have files judged, however they come. */
export function takeFiles(judge) {
  const drop = find("#drop");
  // Anywhere on the page: a browser would otherwise leave it to show an image that missed the box.
  addEventListener("dragover", (event) => {
    if (holdsFiles(event)) { event.preventDefault(); drop.classList.add("over"); }
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    try {
      const files = await dropped(event.dataTransfer);
      if (files.length) judge(files);
    } catch {
      say("The folder cannot be read: choose it instead.");
    }
  });
  for (const input of [find("#files"), find("#folder")]) {
    input.addEventListener("change", () => {
      const files = [...input.files].sort((a, b) => collator.compare(a.webkitRelativePath, b.webkitRelativePath));
      input.value = ""; // the same file can be chosen again
      if (files.length) judge(files);
    });
  }
}
