"""`python -m mnistlab.tour`: its steps, their figures, its page, and what happens when one fails."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished, Store, run_command
from PIL import Image

from mnistlab import tour
from mnistlab.config import ConfigError
from mnistlab.touring.page import page
from mnistlab.touring.photographs import write_photographs
from mnistlab.touring.steps import STEPS

FIGURES = [f"{number:02}-{step.figure}.png" for number, step in enumerate(STEPS, start=1) if step.figure]


def walk(folder: Path, *words: str, **more: str) -> Finished:
    return run_command(folder, *words, module="mnistlab.tour", **more)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("all", list(range(1, len(STEPS) + 1))),
        ("3", [3]),
        ("1-3,8", [1, 2, 3, 8]),
        ("[2,1]", [2, 1]),
        ("2,1-3", [2, 1, 3]),
    ],
)
def test_steps_are_named_by_their_numbers(text: str, numbers: list[int]) -> None:
    assert tour.chosen_steps(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "13", "3-1", "one", "1-99", "1,,2", "-1"])
def test_other_steps_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="steps must be all or numbers from 1 to 12.*Received"):
        tour.chosen_steps(text)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("pause=maybe", "pause must be auto, true or false. Received: maybe."),
        ("step=3", "step"),
        ("steps=99", "1 to 12"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, word: str, message: str) -> None:
    done = walk(tmp_path, word)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_help_lists_every_step(tmp_path: Path) -> None:
    done = walk(tmp_path, "--help")
    assert done.code == 0
    for number, step in enumerate(STEPS, start=1):
        assert re.search(rf"^ +{number}  {re.escape(step.part)} +{re.escape(step.title)}$", done.out, re.MULTILINE)


def test_the_page_shows_the_steps_that_have_a_figure(tmp_path: Path) -> None:
    (tmp_path / FIGURES[1]).write_bytes(b"")
    text = page(tmp_path)
    assert [int(number) for number in re.findall(r"<h2>(\d+)\.", text)] == [2, 7]  # 7 draws none
    assert f'<img src="{FIGURES[1]}"' in text
    assert STEPS[1].command.replace("'", "&#x27;") in text


def test_photographs_are_dark_on_light_and_need_the_digits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There are none in .*0"):
        write_photographs(tmp_path, tmp_path / "made")
    for digit in range(10):
        (tmp_path / str(digit)).mkdir()
        strokes = np.zeros((28, 28), np.uint8)
        strokes[6:22, 12:16] = 255
        Image.fromarray(strokes).save(tmp_path / str(digit) / "1.png")
    write_photographs(tmp_path, tmp_path / "made")
    pictures = []
    for digit in range(10):
        with Image.open(tmp_path / "made" / f"{digit}.png") as picture:
            pictures.append(np.asarray(picture))
    assert len({picture.shape for picture in pictures}) > 5
    for picture in pictures:
        assert 150 < np.median(picture) < 220  # paper
        assert 0.005 < (picture < 90).mean() < 0.2  # ink


def test_photographs_without_digits_name_the_steps_before(tmp_path: Path) -> None:
    done = walk(tmp_path, "steps=11", "pause=false")
    assert done.code == 2
    assert "python -m mnistlab.tour steps=7,10,11" in done.err


@pytest.mark.slow
def test_a_step_runs_its_command_and_keeps_its_figure(tmp_path: Path) -> None:
    done = walk(tmp_path, "steps=1,7", "pause=false")
    assert done.code == 0, done.err
    assert STEPS[0].command in done.out.replace("\n", "")
    folder = tmp_path / "runs" / "tour"
    (drawn,) = tmp_path.glob("runs/*/*/figures/learning_curves.png")
    assert (folder / FIGURES[0]).read_bytes() == drawn.read_bytes()
    assert f"figure  {folder / FIGURES[0]}" in done.out
    assert len(list((folder / "digits" / "test").glob("*/*.png"))) == 1000
    assert done.out.rstrip().endswith("$ python -m mnistlab.ui tracking.experiment=tour")
    client = Store(tmp_path).client
    (run,) = client.search_runs([client.get_experiment_by_name("tour").experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")


@pytest.mark.long
@pytest.mark.slow
def test_a_step_that_fails_ends_the_tour_and_says_how_to_go_on(tmp_path: Path) -> None:
    done = walk(tmp_path, "steps=4,1", "pause=false")  # it explains a run that there is not yet
    assert done.code == 1
    assert "Step 4 failed with status 2" in done.out
    assert "python -m mnistlab.tour steps=4,1" in done.out
    assert "There are no runs yet" in done.err


@pytest.mark.long
def test_the_whole_tour(tmp_path: Path) -> None:
    done = walk(tmp_path, "pause=false", timeout=1200)
    assert done.code == 0, done.err
    folder = tmp_path / "runs" / "tour"
    assert sorted(file.name for file in folder.glob("*-*.png")) == FIGURES
    for name in FIGURES:
        with Image.open(folder / name) as figure:
            assert figure.width > 400
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<img src="([^"]+)"', text) == FIGURES
    client = Store(tmp_path).client
    runs = client.search_runs([client.get_experiment_by_name("tour").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
