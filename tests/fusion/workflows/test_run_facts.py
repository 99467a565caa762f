"""What a result says of its data: what became of every image."""

from fusion.data.dataset import load_dataset
from fusion.data.units import units_of
from fusion.workflows.run_facts import image_flow
from tests.builders.images import paint, write_image


def test_every_image_found_is_left_out_skipped_or_used_and_copies_merge_their_subjects(tmp_path):
    rows = ["path,label,subject"]
    for at in range(8):
        write_image(tmp_path / f"{at}.png", paint(at if at != 3 else 0))  # 3 is a copy of 0, of another subject
        rows.append(f"{at}.png,{'' if at == 7 else 'all' if at < 4 else 'hem' if at < 6 else 'other'},s{at}")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (tmp_path / "cells.csv").write_text("\n".join([*rows, "broken.png,all,s9"]) + "\n")
    read = load_dataset(tmp_path / "cells.csv", store=tmp_path / "store")
    dataset = read.select(classes=["all", "hem"]).labelled()
    flow = image_flow(dataset, units_of(dataset))
    assert flow["found"] == 9
    assert [step["images"] for step in flow["steps"]] == [1, 2]
    assert flow["found"] - sum(step["images"] for step in flow["steps"]) == flow["used"] == 6
    assert (flow["identical"], flow["subjects"], flow["groups"], flow["nameless"]) == (1, 6, 5, 0)
    unlabelled = read.labelled()
    assert [step["reason"] for step in image_flow(unlabelled, units_of(unlabelled))["steps"]] == [
        "could not be read",
        "without a label",
    ]
