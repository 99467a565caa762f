"""The figures of README.md and docs/tour.md, made anew: ``make figures``.

    python -m benchmarks.readme_figures --wbc segmentation_WBC --weights mobilenetv2_100.safetensors

``segmentation_WBC`` is a clone of github.com/zxaoyou/segmentation_WBC (Dataset 1, its masks and class labels; GPL-3.0).
The weights are MobileNetV2's of ImageNet in timm's names. Runs the commands that stand in docs/tour.md, as they stand,
and ``fusion demo``; writes the rows of the table, docs/comparison.svg, the tour's terminal screens, what the demo ends
with, and, where there is a Chromium, docs/report.png. ``git diff`` then tells what has changed. Networks take a
quarter of an hour on a core. What is stopped goes on where it was: the features are kept, and so are the fits.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import fusion
from fusion.cli._line_breaks import break_lines
from fusion.evaluation.scores import entry_name

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.tour_screens import WIDTH, forget_finished, write_screens  # noqa: E402
from tests.documentation import commands  # noqa: E402

#: The numbers of the classes in the data set's own table.
CLASSES = {"1": "neutrophil", "2": "lymphocyte", "3": "monocyte", "4": "eosinophil", "5": "basophil"}

#: What can be made by itself.
PARTS = ["table", "networks", "comparison", "screens", "demo"]

HANDCRAFTED = "morphology + texture + colour"
CLASSIFIERS = {"svm": "SVM", "logreg": "logistic regression"}

#: Row of the table -> the entry that it tells.
ROWS = {
    **{f"handcrafted features, {word}": f"{HANDCRAFTED}, {name}" for name, word in CLASSIFIERS.items()},
    **{f"frozen embedding, {word}": f"cnn, {name}" for name, word in CLASSIFIERS.items()},
    **{
        f"frozen embedding and handcrafted features, {word}": f"{HANDCRAFTED} + cnn, {name}"
        for name, word in CLASSIFIERS.items()
    },
    "control: the same network untrained, logistic regression": "control.random, logreg",
    "control: mean colour, SVM": "control.colour, svm",
    "control: area of the cell, SVM": "control.size, svm",
}

#: Row -> the entry that it tells, of networks by the folder of their result.
NETWORKS = {
    "tuned": {"fine-tuned network": "image, neural"},
    "gated": {"fine-tuned network, gated with handcrafted features": f"image + {HANDCRAFTED}, neural"},
}


def lay_out(wbc: Path, weights: Path, folder: Path) -> None:
    """The data set under the name and in the table that the tour uses, and the weights."""
    images = wbc / "Dataset 1"
    if not images.is_dir():
        raise SystemExit(f"{wbc} is no clone of segmentation_WBC: it has no folder 'Dataset 1'")
    (folder / "seg-wbc-1").mkdir(parents=True, exist_ok=True)
    rows = ["path,label,mask"]
    with (wbc / "Class Labels of Dataset 1.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            name = f"{int(row['image ID']):03d}"
            for ending, kind in (("bmp", "images"), ("png", "masks")):
                (folder / "seg-wbc-1" / kind).mkdir(exist_ok=True)
                shutil.copy(images / f"{name}.{ending}", folder / "seg-wbc-1" / kind)
            rows.append(f"images/{name}.bmp,{CLASSES[row['class label']]},masks/{name}.png")
    (folder / "seg-wbc-1" / "labels.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(weights, folder / "mobilenetv2_100.safetensors")


def run_commands(folder: Path, outputs: Sequence[str]) -> None:
    """The commands of the tour that write these folders, with the variables that they use."""
    todo = []
    for step in commands.steps((ROOT / "docs" / "tour.md").read_text()):
        is_variable = step.kind == "command" and re.match(r"^(ON|AS|CNN|NET)=|^for s in ", step.text)
        writes = re.search(r"-o (\S+)\s*$", step.text)
        if is_variable or (writes and writes[1] in outputs):
            todo.append(step)
    for name in outputs:
        forget_finished(folder / name)
    if failed := commands.run(todo, folder):
        raise SystemExit("\n\n".join(failed))


def table_rows(result: fusion.Result, rows: Mapping[str, str]) -> dict[str, str]:
    """Rows of the table as Markdown, by what stands in their first column; ``rows`` says which entry each one tells."""
    frame = result.to_frame()
    cells = frame[(frame.level == "cell") & (frame.kind == result.kind)].set_index(["entry", "metric"])
    known = {entry_name(scores): scores for scores in result.scores}
    found = {}
    for row, entry in rows.items():
        if entry not in known:
            raise SystemExit(f"no entry '{entry}' in the result, which has {', '.join(known)}")
        figures = [cells.loc[(entry, metric)] for metric in ("balanced_accuracy", "auroc")]
        told = " | ".join(f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in figures)
        found[row] = f"| {row} | {told} |"
    return found


def write_rows(rows: dict[str, str]) -> list[str]:
    """Put the rows in the place of those of the same name; what has changed, in words."""
    changed = []
    for page in (ROOT / "README.md", ROOT / "docs" / "tour.md"):
        text = page.read_text()
        for name, line in rows.items():
            old = re.search(rf"^\| {re.escape(name)} \|.*$", text, re.MULTILINE)
            if old is None:
                raise SystemExit(f"{page.name} has no row '{name}'")
            if old[0] != line:
                changed.append(f"{page.name}: {old[0]} -> {line}")
            text = text.replace(old[0], line)
        page.write_text(text)
    return changed


def write_demo(folder: Path) -> None:
    """What the demo ends with, and the top of its page as an image."""
    words = [sys.executable, "-m", "fusion", "demo", "fusion-demo", "-q"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    shown = "".join(f"    {line}\n" for line in break_lines(done.stdout, WIDTH).splitlines())
    text = (ROOT / "README.md").read_text()
    new = re.sub(r"(`make demo` ends with:\n\n)(?:    .*\n)+", lambda found: found[1] + shown, text)
    (ROOT / "README.md").write_text(new)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("no Chromium: docs/report.png is left as it is")
        return
    page = (folder / "fusion-demo" / "comparison" / "report.html").as_uri()
    words = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1100,900"]
    words.append(f"--screenshot={ROOT / 'docs' / 'report.png'}")
    subprocess.run([browser, *words, page], check=True, capture_output=True)


def main() -> None:
    """Make the figures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wbc", type=Path, help="a clone of github.com/zxaoyou/segmentation_WBC")
    parser.add_argument("--weights", type=Path, help="MobileNetV2's weights of ImageNet, .safetensors")
    parser.add_argument("--only", choices=PARTS, action="append", help="not all of them")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "figures", help="where it is all run")
    asked = parser.parse_args()
    wanted = asked.only or PARTS
    work = asked.folder / "page"
    work.mkdir(parents=True, exist_ok=True)
    if wanted != ["demo"]:
        if asked.wbc is None or asked.weights is None:
            parser.error("--wbc and --weights are needed for all but the demo")
        lay_out(asked.wbc, asked.weights, work)
        made = ["comparison"] if "screens" in wanted else []
        if "screens" in wanted:
            print("\n".join(write_screens(ROOT / "docs" / "tour.md", work)) or "the screens are as they were")
        # The screens are of the comparison, too.
        run_commands(work, [name for name in ("table", "comparison") if name in wanted and name not in made])
        run_commands(work, list(NETWORKS) if "networks" in wanted else [])
    known = {"table": ROWS} if "table" in wanted else {}
    for folder, rows in (known | (NETWORKS if "networks" in wanted else {})).items():
        changed = write_rows(table_rows(fusion.Result.load(work / folder), rows))
        print("\n".join(changed) or f"rows of {folder} are as they were")
    if "comparison" in wanted:
        shutil.copy(work / "comparison" / "figures" / "comparison.svg", ROOT / "docs" / "comparison.svg")
    if "demo" in wanted:
        write_demo(work)


if __name__ == "__main__":
    main()
