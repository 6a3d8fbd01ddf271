"""The terminal summary: values and alignment, no escape codes outside a terminal, one screenful."""

import io
import re
import subprocess
import sys

import pytest
from synthetic_runs import MORE, STRATEGIES, flagship, make_run, make_sweep, scores_as_runs

from mnistlab.comparison import compare, print_summary, terminal_summary

ESCAPE = "\x1b"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def terminal_variables(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


def printed(comparison, file):
    print_summary(comparison, file)
    return file.getvalue()


def without_styles(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def test_values_and_alignment():
    scores = [[0.97, 0.972, 0.974], [0.95, 0.951, 0.955]]
    lines = terminal_summary(compare(scores_as_runs(scores), resamples=0)).splitlines()
    assert lines == [
        "a beats b by 2.0 points [1.8, 2.2] (a: 97.20 % best_epoch_val_accuracy; 3 seeds).",
        "",
        "option     mean  95 % interval  sd, points  seeds  failed  test accuracy  seconds",
        "a       97.20 %              -        0.20      3       0              -        -",
        "b       95.20 %              -        0.26      3       0              -        -",
        "",
        "a beats b by 2.0 points [1.8, 2.2]",
    ]


def test_one_screenful():
    lines = terminal_summary(compare(flagship())).splitlines()
    assert len(lines) <= 24 and any(line.startswith("rmsprop") and "1 of 5" in line for line in lines)
    table = lines[2:10]
    assert max(map(len, table)) <= 100 and len({len(line) for line in table}) == 1


def test_what_exceeds_a_screenful_is_counted():
    records = make_sweep([*STRATEGIES, *MORE])
    records += [make_run("adam", seed, params={"optimizer": f"adam{seed}"}) for seed in range(5)]
    lines = terminal_summary(compare(records)).splitlines()
    assert len(lines) <= 24 and "and 3 more options in the report" in lines
    assert lines[-1].endswith("more pairs in the report")


def test_warnings_leave_room_for_the_ranking():
    records = flagship()
    records[0] = make_run("batch_gd", 0, params={f"model.setting_{i}": i for i in range(9)})
    text = terminal_summary(compare(records))
    assert len(text.splitlines()) <= 24 and "warning: model.setting_0 differs" in text
    assert "more warnings in the report" in text


@pytest.mark.parametrize("name", ["n" * 150, "[bold]x[/bold] :smile:", "多" * 60])
def test_names_are_printed_as_they_are(name):
    records = [make_run("adam", seed, params={"optimizer": name}) for seed in range(2)] + make_sweep(["sgd"], 2)
    text = printed(compare(records), io.StringIO())
    assert text == f"{terminal_summary(compare(records))}\n"
    assert any(line.startswith(name) and "95." in line for line in text.splitlines())


def test_the_best_option_is_bold_on_a_terminal():
    comparison = compare(flagship())
    text = printed(comparison, Terminal())
    bold = [line for line in text.splitlines() if line.startswith(f"{ESCAPE}[1m")]
    assert len(bold) == 1 and "97.07 %" in bold[0] and without_styles(bold[0]).startswith("sgd ")
    assert without_styles(text).split() == terminal_summary(comparison).split()
    assert max(len(line) for line in without_styles(text).splitlines()) <= 100


def test_a_process_without_the_terminal_can_style_for_it():
    text = terminal_summary(compare(flagship()), terminal_width=100)
    assert f"{text}\n" == printed(compare(flagship()), Terminal())


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_plain_lines_if_the_terminal_should_have_no_styles(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    comparison = compare(flagship())
    text = printed(comparison, Terminal())
    assert ESCAPE not in text and text == f"{terminal_summary(comparison)}\n"


@pytest.mark.parametrize("force_color", [False, True])
def test_plain_lines_if_the_output_is_piped(force_color, monkeypatch):
    if force_color:
        monkeypatch.setenv("FORCE_COLOR", "1")
    comparison = compare(flagship())
    text = printed(comparison, io.StringIO())
    assert ESCAPE not in text and text == f"{terminal_summary(comparison)}\n"


def test_rich_is_imported_only_to_print():
    code = "import sys, mnistlab.comparison; assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
