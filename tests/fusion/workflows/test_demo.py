"""The demo: the whole way on synthetic cells, told in five lines."""

import json
import re
from pathlib import Path

import click
import pytest

import cli
from fusion.errors import UsageError
from fusion.settings.commands import DemoConfig
from fusion.workflows.demo.story import run_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    config = DemoConfig(output=tmp_path_factory.mktemp("demo") / "out", subjects=8, cells=4)
    return config, run_demo(config)


def test_five_lines_say_what_was_found_and_where_to_look(demo):
    config, story = demo
    assert len(story.lines) == 5
    assert story.lines[0].startswith("32 synthetic cells of 8 subjects, 37 comparisons")
    for block in ("morphology", "texture", "colour", "cnn"):
        assert block in story.lines[2]
    assert "random split" in story.lines[3]
    assert Path(story.figures["report"]).is_file()
    assert str(config.output / "comparison" / "report.html") in story.lines[4]
    assert (config.output / "model" / "model.json").is_file()
    assert len(story.figures["predictions"]) == 3


def test_the_gallery_shows_what_is_there(demo):
    config, story = demo
    page = (config.output / "gallery.html").read_text()
    assert story.figures["gallery"] == str(config.output / "gallery.html")
    assert str(config.output / "gallery.html") in story.lines[4]
    shown = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len([each for each in shown if each.endswith(".png")]) >= 3
    for address in shown:
        assert (config.output / address).is_file(), address
    for command in re.findall(r"\$ fusion (\w+)", page):
        assert cli.fusion.get_command(click.Context(cli.fusion), command) is not None
    assert {"inspect", "ablate", "train", "predict", "explain"} <= set(re.findall(r"\$ fusion (\w+)", page))


def test_the_lines_agree_with_the_files(demo):
    config, story = demo
    rows = {
        split: {
            (tuple(row["features"]), row["classifier"]): row["image"]["balanced_accuracy"]["value"]
            for row in json.loads((config.output / split / "result.json").read_text())["results"]
        }
        for split in ("comparison", "leaky")
    }
    assert story.figures["best"]["value"] == max(rows["comparison"].values())
    gains = [rows["leaky"][entry] - rows["comparison"][entry] for entry in rows["leaky"]]
    assert story.figures["optimism"] == pytest.approx(sum(gains) / len(gains))


@pytest.mark.slow
def test_run_again_it_tells_the_same_and_paints_nothing(demo, monkeypatch):
    config, story = demo
    monkeypatch.setattr("fusion.workflows.demo.story.synthesize", lambda *_, **__: pytest.fail("painted again"))
    assert run_demo(config) == story


def test_other_cells_need_another_folder(demo):
    config, _ = demo
    with pytest.raises(UsageError, match="seed 0") as refused:
        run_demo(config.model_copy(update={"seed": 1}))
    assert refused.value.expected == "seed 1"
