"""How far a command is, in words: what is done, of how many, at which pace, and how long it will take."""

from fusion.interface.progress_display import NotebookProgress, Pace, ProgressLines
from fusion.progress import Stage, duration_in_words


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_line_at_the_end_of_a_stage_and_every_half_minute():
    clock, lines = Clock(), []
    shows = ProgressLines(lines.append, clock)
    for done in range(0, 1001, 10):
        clock.now = done / 10
        shows("measuring", done, 1000, 3 if done > 500 else 0)
    assert lines == [
        "measuring cells: 300 of 1,000, 10/s, 1 min 10 s left",
        "measuring cells: 600 of 1,000, 3 skipped, 10/s, 40 s left",
        "measuring cells: 900 of 1,000, 3 skipped, 10/s, 10 s left",
        "measuring cells: 1,000 in 1 min 40 s, 3 skipped",
    ]


def test_what_the_store_had_does_not_count_for_the_pace():
    pace = Pace(begun=0.0, at_first=900)
    assert pace.seconds_left(910, 1000, now=10.0) == 90.0
    assert pace.seconds_left(900, 1000, now=10.0) is None


def test_a_stage_that_comes_again_is_told_again():
    clock, lines = Clock(), []
    shows = ProgressLines(lines.append, clock)
    for _ in range(2):
        shows("fitting", 0, 4, 0)
        shows("fitting", 4, 4, 0)
    assert lines == ["fitting models: 4 in 0 s"] * 2


def test_what_a_network_says_of_its_training_stands_behind_its_steps():
    lines, clock = [], Clock()
    shows = ProgressLines(lines.append, clock)
    shows(Stage("fold 1 of 5", "epoch 1 of 2"), 1, 20, 0)
    clock.now += 31
    shows(Stage("fold 1 of 5", "epoch 2 of 2, loss 0.412, score 0.800"), 11, 20, 0)
    clock.now += 29
    shows(Stage("fold 1 of 5", "epoch 2 of 2, loss 0.412, score 0.800"), 20, 20, 0)
    assert lines == [
        "fold 1 of 5: 11 of 20, 0.323/s, 28 s left; epoch 2 of 2, loss 0.412, score 0.800",
        "fold 1 of 5: 20 in 1 min 0 s; epoch 2 of 2, loss 0.412, score 0.800",
    ]
    assert "loss 0.412" in NotebookProgress.markup(Stage("all cells", "loss 0.412"), 1, 2, 0, Pace(0.0, 0), 1.0)


def test_durations_read_as_one_says_them():
    assert [duration_in_words(s) for s in (0.2, 59, 60, 3599, 7500)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "2 h 5 min",
    ]


def test_a_notebook_is_shown_escaped_words():
    markup = NotebookProgress.markup("<part>", 5, 10, 1, Pace(0.0, 0), 5.0)
    assert "&lt;part&gt; 5 of 10, 1 skipped, 5 s left" in markup
    assert 'max="10" value="5"' in markup
