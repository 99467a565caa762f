// The page of fusion serve: sends images, shows answers, keeps nothing. No library, nothing from elsewhere.
"use strict";

(() => {
  const settings = JSON.parse(document.body.dataset.settings);
  const find = (selector) => document.querySelector(selector);
  // Images of one request: few enough that the table grows while many are judged.
  const together = Math.min(16, settings.files);

  /** Everything judged so far; each keeps its file, for an explanation of it. */
  let cells = [];
  let sorted = { by: "", down: false };
  let asked = 0; // turns of asking: answers to a turn that was cleared are dropped
  let example = 0;
  let queue = Promise.resolve();

  /** An element with attributes and children; text is always text, never markup. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "onclick") element.addEventListener("click", value);
      else if (value !== undefined && value !== null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const say = (text) => { find("#status").textContent = text; };
  const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const megabytes = (count) => `${Math.round(count / 1048576)} MB`;

  // ---- asking -----------------------------------------------------------------------------------------------------

  /** The server's answer; an Error with one clear sentence where there is none. */
  async function post(address, files) {
    const body = new FormData();
    for (const file of files) body.append("files", file, file.name);
    let answer;
    try {
      answer = await fetch(address, { method: "POST", body });
    } catch {
      throw new Error("The server does not answer. Is fusion serve still running?");
    }
    if (answer.ok) return answer;
    const answered = await answer.json().catch(() => ({}));
    throw new Error(answered.detail ?? `The server answers with status ${answer.status}.`);
  }

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

  function fault(name, reason) {
    find("#faults").hidden = false;
    find("#faults ul").append(make("li", {}, make("b", {}, name), `: ${reason}`));
  }

  /** Judge files, group by group, after whatever is being judged now. */
  function judge(files) {
    const turn = asked;
    queue = queue.then(() => (turn === asked ? judgeNow(files, turn) : null));
    return queue;
  }

  async function judgeNow(files, turn) {
    const before = find("#faults ul").children.length;
    const progress = find("#progress");
    let judged = 0;
    let done = 0;
    progress.max = files.length;
    progress.value = 0;
    progress.hidden = false;
    say(`Judging ${counted(files.length, "image")} …`);
    for (const group of groups(files)) {
      try {
        const answer = await (await post("/api/predict?images=true", group)).json();
        if (turn !== asked) return;
        for (const row of answer.predictions) cells.push({ ...row, file: group[row.index], place: cells.length });
        for (const row of answer.faults) fault(row.name, row.reason);
        judged += answer.predictions.length;
        note(answer);
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
    say(`${counted(judged, "cell")} judged${failed ? `, ${counted(failed, "image")} not: see “Not judged”` : ""}.`);
  }

  /** What must be known of all answers; what counts the cells of one request is said by the table itself. */
  function note(answer) {
    const list = find("#notes");
    const lines = [
      ...answer.notes.filter((line) => !/^\d+ (cells?: |of these |is out of distribution|are out of distribution)/.test(line)),
      ...(answer.threshold ? [`A cell is predicted ${answer.threshold.class} from a probability of ${answer.threshold.probability.toFixed(3)} on.`] : []),
    ];
    const held = new Set([...list.children].map((item) => item.textContent));
    for (const line of lines) if (!held.has(line)) list.append(make("li", {}, line));
  }

  async function tryExample() {
    const number = example;
    example = (example + 1) % settings.examples;
    try {
      const answer = await fetch(`/api/example?number=${number}`);
      if (!answer.ok) throw new Error(`The server answers with status ${answer.status}.`);
      const name = `synthetic-${number + 1}-drawn-as-${answer.headers.get("X-Drawn-As")}.png`;
      await judge([new File([await answer.blob()], name, { type: "image/png" })]);
    } catch (error) {
      say(error instanceof TypeError ? "The server does not answer. Is fusion serve still running?" : error.message);
    }
  }

  // ---- the table ----------------------------------------------------------------------------------------------------

  const sure = (cell) => cell.probability[cell.class];
  const keys = {
    "": (cell) => cell.place,
    name: (cell) => cell.name,
    class: (cell) => cell.class,
    probability: sure,
    distance: (cell) => cell.distance ?? -1,
  };
  const collator = new Intl.Collator("en", { numeric: true });

  function chosen() {
    const name = find("#name").value.toLowerCase();
    const label = find("#class").value;
    const onlyOutside = find("#ood").checked;
    const kept = cells.filter((cell) =>
      cell.name.toLowerCase().includes(name) && (!label || cell.class === label) && (!onlyOutside || cell.out_of_distribution));
    const key = keys[sorted.by];
    kept.sort((a, b) => {
      const order = typeof key(a) === "string" ? collator.compare(key(a), key(b)) : key(a) - key(b);
      return (sorted.down ? -order : order) || a.place - b.place;
    });
    return kept;
  }

  function show() {
    find("#results").hidden = !cells.length;
    const kept = chosen();
    const counts = settings.classes.map((label) => `${label} ${kept.filter((cell) => cell.class === label).length}`);
    const outside = kept.filter((cell) => cell.out_of_distribution).length;
    find("#shown").textContent =
      `${kept.length === cells.length ? counted(cells.length, "cell") : `${kept.length} of ${counted(cells.length, "cell")}`}: ` +
      `${counts.join(", ")}${outside ? `; ${outside} out of distribution` : ""}.`;
    find("#cells tbody").replaceChildren(...kept.map(row));
    for (const head of document.querySelectorAll("#cells th[data-sort]")) {
      if (head.dataset.sort === sorted.by) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  function row(cell) {
    const others = settings.classes.filter((label) => label !== cell.class)
      .map((label) => `${label} ${cell.probability[label].toFixed(3)}`);
    const bar = make("i");
    bar.style.width = `${100 * sure(cell)}%`;
    const like = cell.out_of_distribution === null ? "not known to this model"
      : `${cell.distance.toFixed(2)} of the usual distance`;
    return make("tr", { role: "row" },
      make("td", { role: "cell", class: "image" },
        make("img", { src: cell.image, width: 72, height: 72, alt: `${cell.name}, with the contours found` })),
      make("th", { role: "rowheader", scope: "row" }, cell.name,
        cell.in_training ? make("small", {}, "A training image: the answer is no evidence.") : null),
      make("td", { role: "cell", class: "class label" }, cell.class),
      make("td", { role: "cell", class: "p" }, sure(cell).toFixed(3), make("div", { class: "sure", "aria-hidden": "true" }, bar),
        make("small", {}, others.join(", "))),
      make("td", { role: "cell", class: "distance" },
        cell.out_of_distribution ? make("span", { class: "flag" }, "out of distribution") : null, make("small", {}, like)),
      make("td", { role: "cell", class: "why" },
        make("button", { type: "button", "aria-label": `Why ${cell.name} was predicted ${cell.class}`, onclick: () => explain(cell) }, "Why?")));
  }

  function save(blob, name) {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /** As fusion predict --csv writes it; a spreadsheet takes a name that begins with "=" for a formula, so it gets a quote. */
  function table() {
    const quoted = (value) => {
      const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const head = ["name", "class", ...settings.classes.map((label) => `p_${label}`), "out_of_distribution", "distance", "in_training"];
    const word = (value) => (value === null ? "" : value ? "True" : "False");
    const lines = chosen().map((cell) => [
      cell.name, cell.class, ...settings.classes.map((label) => cell.probability[label]), word(cell.out_of_distribution), cell.distance,
      word(cell.in_training),
    ]);
    return [head, ...lines].map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
  }

  // ---- one cell -----------------------------------------------------------------------------------------------------

  async function explain(cell) {
    const dialog = find("#why");
    find("#about").textContent = cell.name;
    find("#reasons").replaceChildren(make("p", { role: "status" }, "Asking why …"));
    dialog.showModal();
    find("#about").focus();
    try {
      const found = await (await post("/api/explain", [cell.file])).json();
      if (find("#about").textContent === cell.name) find("#reasons").replaceChildren(...explanation(cell, found));
    } catch (error) {
      find("#reasons").replaceChildren(make("p", { role: "alert" }, error.message));
    }
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

  function explanation(cell, found) {
    const reach = (values) => Math.max(...values.map(Math.abs), 1e-9);
    const images = make("div", {},
      make("figure", {}, make("img", { src: found.image, alt: "The cell, with the contours found" }),
        make("figcaption", {}, "Contours found: ", make("span", { class: "cell-ink" }, "cell"), ", ",
          make("span", { class: "nucleus-ink" }, "nucleus"), ".")),
      found.attention ? make("figure", {}, make("img", { src: found.attention, alt: `The cell: ${found.map_caption}` }),
        make("figcaption", {}, `${found.map_caption[0].toUpperCase()}${found.map_caption.slice(1)}.`)) : null);
    const blocks = Object.entries(found.blocks);
    if (blocks.length) {
      const most = reach(blocks.map(([, value]) => value));
      images.append(tableOf(`What each block adds: from ${found.base.toFixed(2)} to ${found.score.toFixed(2)}`,
        ["block", found.score_unit],
        blocks.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), amount(value, most)))));
    }
    const most = reach(found.features.map((feature) => feature.contribution));
    const reasons = found.features.length
      ? tableOf(`What speaks for and against ${found.class}, the strongest first`,
        ["feature, and how it compares with training cells", found.score_unit],
        found.features.map((feature) => make("tr", {},
          make("th", { scope: "row" }, feature.sentence,
            make("small", {}, [feature.held_to, feature.usual].filter(Boolean).join("; ")),
            make("details", {}, make("summary", {}, make("small", { class: "hidden" }, `${feature.sentence}, `), `${feature.block}: definition`),
              make("small", {}, `${feature.definition || "Not described by its extractor."}${feature.unit ? ` Unit: ${feature.unit}.` : ""}`))),
          amount(feature.contribution, most))))
      : make("p", { class: "soft" }, "No features: this model sees the image alone.");
    const download = (label, form) => make("button", { type: "button", onclick: (event) => fetchFile(event.target, cell, form) }, label);
    return [
      make("p", {}, make("b", {}, found.class), ` — ${Object.entries(found.probability).map(([label, p]) => `${label} ${p.toFixed(3)}`).join(", ")}`),
      found.warning ? make("p", { class: "stamp" }, found.warning) : "",
      found.in_training ? make("p", { class: "stamp" }, "A training image: the model has learnt from it, and its answer is no evidence.") : "",
      make("div", { class: "downloads" }, download("Download as HTML", "html"), download("Download figure (SVG)", "svg")),
      make("div", { class: "two" }, images, make("div", {}, reasons, make("p", { class: "soft" }, `By ${found.method}. ${found.limits} What a model used is shown here, not what causes a disease.`))),
    ];
  }

  async function fetchFile(button, cell, form) {
    button.disabled = true;
    try {
      const answer = await post(`/api/explain?format=${form}`, [cell.file]);
      save(await answer.blob(), `${cell.name.replace(/[^\w-]/g, "_").slice(0, 60)}-explained.${form}`);
    } catch (error) {
      button.after(make("p", { role: "alert" }, error.message));
    } finally {
      button.disabled = false;
      button.focus();
    }
  }

  // ---- what a person does -------------------------------------------------------------------------------------------

  const drop = find("#drop");
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  // Anywhere on the page: a browser would otherwise leave it to show an image that missed the box.
  addEventListener("dragover", (event) => {
    if (holdsFiles(event)) { event.preventDefault(); drop.classList.add("over"); }
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) judge([...event.dataTransfer.files]);
  });
  find("#files").addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = ""; // the same file can be chosen again
    if (files.length) judge(files);
  });
  find("#example").addEventListener("click", tryExample);
  find("#tools").addEventListener("input", show);
  find("#tools").addEventListener("submit", (event) => event.preventDefault());
  find("#csv").addEventListener("click", () => save(new Blob([table()], { type: "text/csv" }), "predictions.csv"));
  find("#clear").addEventListener("click", () => {
    asked += 1;
    cells = [];
    find("#faults").hidden = true;
    find("#progress").hidden = true;
    find("#faults ul").replaceChildren();
    find("#notes").replaceChildren();
    show();
    say("Cleared.");
    find("#files").focus();
  });
  for (const head of document.querySelectorAll("#cells th[data-sort]")) {
    head.addEventListener("click", () => {
      sorted = { by: head.dataset.sort, down: sorted.by === head.dataset.sort && !sorted.down };
      show();
    });
  }
  find("#close").addEventListener("click", () => find("#why").close());
})();
