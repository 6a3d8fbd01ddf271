"""Which axes change the data, the data sets of a sweep, and what is said about their differences."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared_data import hashes, run_on, sweep
from synthetic_runs import make_run, make_sweep

from mnistlab.comparison import RunRecord, compare, compare_by_data, data_axes, fairness
from mnistlab.comparison.data_sets import data_difference, data_identity, group_by_data, split_by_data
from mnistlab.comparison.records import format_setting, option_name
from mnistlab.comparison.report import write_report
from mnistlab.comparison.terminal import terminal_summary


def without_hashes(run):
    return dataclasses.replace(run, status="FAILED", metrics={}, history={}, tags={"error": "ValueError: no images"})


def varied(key, values, options=("adam", "sgd"), seeds=2, same_data=False):
    """A sweep over the optimizer and a setting; each value of the setting has its own data, or all the same."""
    return [
        make_run(
            option,
            seed,
            run_id=f"{option}-{value}-{seed}",
            params={key: value},
            tags={"hash.data": "d" if same_data else f"d{value}"},
        )
        for value, option, seed in itertools.product(values, options, range(seeds))
    ]


DATA = [("data", ["default", "imbalanced"]), ("data.limit", [400, None]), ("data.split_seed", [0, 1])]
DATA += [
    ("data.validation_fraction", [0.1, 0.2]),
    ("source", ["mnist", "fashion"]),
    ("experiment", ["guide", "cnn_99"]),
]


@pytest.mark.parametrize(("key", "values"), DATA)
def test_a_setting_that_changes_the_hash_selects_the_data(key, values):
    records = varied(key, values)
    assert data_axes(records, ("optimizer", key)) == [key]
    found = compare_by_data(records, ("optimizer", key))
    assert {one.data for one in found} == {option_name([key], [value]) for value in values}
    assert [(one.axis, one.data_axis, len(one.options)) for one in found] == [(["optimizer"], [key], 2)] * 2


@pytest.mark.parametrize(
    ("key", "values"),
    [("data.class_weight", [None, "balanced"]), ("data", ["default", "augmented"]), ("data.scaling", ["unit", "none"])],
)
def test_a_data_setting_that_keeps_the_hash_distinguishes_options(key, values):
    records = varied(key, values, same_data=True)
    assert data_axes(records, ("optimizer", key)) == []
    (found,) = compare_by_data(records, ("optimizer", key))
    assert len(found.options) == 4 and found.data_axis == [] and found.axis == ["optimizer", key]


def test_optimizers_never_select_the_data():
    """Bytes that changed between two sweeps: the data sets are split by hash, whatever the optimizers were."""
    records = make_sweep(["adam"], 2) + [
        dataclasses.replace(run, tags={**run.tags, "hash.data": "e2e2"}) for run in make_sweep(["sgd"], 2)
    ]
    assert data_axes(records, ["optimizer"]) == []
    assert [one.data for one in compare_by_data(records)] == ["mnist d0d0d0d0", "mnist e2e2"]


def test_three_axes_with_two_that_select_the_data():
    values = itertools.product((400, 1000), ("default", "imbalanced"), ("adam", "sgd"), range(2))
    records = [
        run_on(data, option, seed, params={"data.limit": limit}, tags={"hash.data": f"{data}{limit}"})
        for limit, data, option, seed in values
    ]
    found = compare_by_data(records, ("data.limit", "optimizer", "data"))
    names = ["limit=400 default", "limit=400 imbalanced", "limit=1000 default", "limit=1000 imbalanced"]
    assert [one.data for one in found] == names
    assert {tuple(one.data_axis) for one in found} == {("data.limit", "data")}


def test_a_split_determined_by_the_seed_does_not_split_a_data_set():
    records = sweep(("by_seed", "default"), seeds=3)
    found = compare_by_data(records, ("optimizer", "data"))
    assert {one.data: len(one.seeds) for one in found} == {"by_seed": 3, "default": 3}


def test_a_filter_with_gaps_is_decided_by_the_runs_that_differ_least():
    """adam ran on default only, momentum on imbalanced only."""
    records = [run_on("default", "adam", 0), run_on("imbalanced", "momentum", 0)]
    assert data_axes(records, ("optimizer", "data")) == ["data"]


def test_runs_that_failed_early_are_with_the_values_of_their_axes():
    records = [
        without_hashes(run) if run.params["data"] == "imbalanced" else run for run in sweep(options=("adam", "sgd"))
    ]
    assert data_axes(records, ("optimizer", "data")) == ["data"]
    found = {one.data: one for one in compare_by_data(records, ("optimizer", "data"))}
    assert found["imbalanced"].verdict == "No result: no run of any option trained to the end."
    assert [option.num_failed for option in found["imbalanced"].options] == [2, 2]
    assert found["default"].options[0].mean is not None
    lost = [without_hashes(run) for run in varied("experiment", ["a", "b"])]
    assert data_axes(lost, ("experiment", "optimizer")) == []


def test_data_that_differ_off_the_axes_have_unique_names():
    """An axis value with several hashes: another setting of the data differs."""
    records = sweep(seeds=2)
    records += [
        dataclasses.replace(run, run_id=f"{run.run_id}-v", tags={"hash.data": f"{run.params['data']}-v"})
        for run in sweep(seeds=1)
    ]
    found = compare_by_data(records, ("optimizer", "data"))
    names = [one.data for one in found]
    assert len(set(names)) == 4
    assert set(names) >= {"default mnist default-", "imbalanced mnist imbalanc"}


def test_seeds_on_different_data_off_the_axis_are_not_one_data_set():
    records = [run_on("default", option, 0) for option in ("adam", "sgd")]
    records += [run_on("imbalanced", option, 1) for option in ("adam", "sgd")]
    assert sorted(split_by_data(records)) == ["mnist t1-v1-x1", "mnist t2-v1-x1"]


DIFFERENCES = [
    ("default", "balanced", "none"),
    ("default", "imbalanced", "training images"),
    ("default", "other_split", "validation images"),
    ("by_seed", "other_split", "validation images"),
]


@pytest.mark.parametrize(("one", "other", "expected"), DIFFERENCES)
def test_how_two_data_sets_differ(one, other, expected):
    first, second = (data_identity(sweep([data], seeds=3)) for data in (one, other))
    assert data_difference(first, second) == data_difference(second, first) == expected


def test_how_data_sets_differ_by_other_evidence():
    old = {"hash.data": "a"}, {"hash.data": "b"}
    first, second = (data_identity([run_on("default", "adam", 0, tags=tags)]) for tags in old)
    # run_on merges the tags over those of a synthetic run, which has hash.data only
    assert data_difference(first, second) == "images"
    sources = [run_on(data, "adam", 0, params={"source": data}) for data in ("default", "fashion")]
    assert data_difference(*(data_identity([run]) for run in sources)) == "source"
    nothing = data_identity([without_hashes(run_on("default", "adam", 0))])
    assert data_difference(nothing, first) == "unknown"
    tests = [run_on("default", "adam", 0, tags=hashes("default") | {"hash.data": t, "hash.test": t}) for t in "ab"]
    assert data_difference(*(data_identity([run]) for run in tests)) == "test images"


def test_only_data_on_the_axis_with_the_same_validation_images_is_a_note():
    (found,) = compare_by_data(sweep(options=["adam"]), "data")
    expected = "data changes the data: the options were trained on different images and validated on the same ones"
    assert [note.text for note in found.notes if note.level == "note"] == [expected]
    assert [note for note in found.notes if note.level == "warning"] == []
    assert {option.name for option in found.options} == {"default", "imbalanced"} and found.data == "mnist"


def test_only_data_on_the_axis_with_other_validation_images_is_a_warning():
    (found,) = compare_by_data(sweep(("default", "other_split"), ["adam"]), "data")
    (warning,) = [note.text for note in found.notes if note.level == "warning"]
    assert warning == (
        "data changes the data: the options were not evaluated on the same images, so a difference may come from the "
        "images' difficulty"
    )


def test_an_axis_that_keeps_its_value_is_no_option_beside_data():
    (found,) = compare_by_data(sweep(options=["adam"]), ("optimizer", "data"))
    assert (found.axis, found.data_axis) == (["data"], [])
    assert {option.name for option in found.options} == {"default", "imbalanced"}


def test_data_as_options_on_two_sources_are_two_comparisons():
    records = [
        run_on(data, "adam", seed, params={"source": source}, tags={"hash.data": source + data})
        for data, source, seed in itertools.product(("default", "imbalanced"), ("mnist", "fashion"), range(2))
    ]
    found = compare_by_data(records, "data")
    assert sorted((one.data, len(one.options)) for one in found) == [("fashion", 2), ("mnist", 2)]


def test_validation_on_the_test_images_is_a_warning():
    records = [
        dataclasses.replace(run, tags={**run.tags, "hash.validation": "x1"}) for run in sweep(["default"], seeds=2)
    ]
    expected = (
        "the validation images are the test images (their hashes are the same): options are ranked by the test set, "
        "so the best value is optimistic"
    )
    assert expected in [note.text for note in compare(records).notes if note.level == "warning"]
    by_setting = sweep(["default"], params={"data.validation": "test"})
    text = expected.replace("their hashes are the same", "data.validation=test")
    assert text in [note.text for note in fairness(by_setting, "optimizer") if note.level == "warning"]
    assert not any("test images" in note.text for note in fairness(sweep(["default"]), "optimizer"))


def test_an_experiment_on_the_axis_sets_other_settings():
    records = varied("experiment", ["a", "b"], ["adam"], same_data=True)
    records = [
        dataclasses.replace(run, params={**run.params, "fit.epochs": {"a": 3, "b": 5}[run.params["experiment"]]})
        for run in records
    ]
    notes = fairness(records, "experiment")
    text = "options of experiment differ in several settings: fit.epochs"
    assert [(note.level, note.text) for note in notes] == [("note", text)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (False, "false"), (0.01, "0.01"), (1e-7, "1e-07"), (3, "3"), ("null", "null")],
)
def test_values_are_shown_as_one_writes_them_in_hydra(value, text):
    assert format_setting(value) == text
    assert option_name(["fit.shuffle"], [value]) == f"shuffle={text}"


def test_rates_that_differ_in_the_seventh_digit_are_two_options():
    assert option_name(["optimizer.learning_rate"], [0.12345678]) == "lr=0.12345678"


AXES = {
    "optimizer": ["adam", "sgd", "momentum"],
    "model": ["mlp", "cnn"],
    "data": ["default", "imbalanced", "balanced"],
    "data.limit": [400, None],
    "data.class_weight": [None, "balanced"],
    "source": ["mnist", "fashion"],
    "fit.shuffle": [True, False],
    "experiment": ["guide", None],
}
CHANGES_DATA = {"data.limit", "source"}


@st.composite
def sweeps(draw):
    """A sweep over one to three axes with failed and missing runs."""
    keys = draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=3, unique=True))
    random = draw(st.randoms(use_true_random=False))
    records = []
    for index, values in enumerate(itertools.product(*(AXES[key] for key in keys))):
        given_values = dict(zip(keys, values, strict=True))
        data = given_values.get("data", "default")
        key_hash = "-".join(str(given_values.get(key)) for key in sorted(CHANGES_DATA)) + data.replace("bal", "def")
        key_hash = key_hash.replace("defanced", "default")
        for seed in range(2):
            if random.random() < 0.1:
                continue
            run = make_run("adam", seed, run_id=f"{index}-{seed}", params=given_values, tags={"hash.data": key_hash})
            run.metrics["best_epoch_val_accuracy"] = 0.9 + 0.01 * random.random()
            records.append(without_hashes(run) if random.random() < 0.15 else run)
    return keys, records


@settings(max_examples=60, deadline=None)
@given(sweeps())
def test_any_sweep_has_every_run_in_one_comparison(sweep_and_keys):
    keys, records = sweep_and_keys
    if not any(run.status == "FINISHED" for run in records):
        return
    found = compare_by_data(records, keys, resamples=0)
    assert sum(option.num_runs for one in found for option in one.options) == len(records)
    assert len({one.data for one in found}) == len(found)
    groups = group_by_data(records, [*found[0].data_axis, *found[0].axis])
    assert [group.name for group in groups.data_sets] == [one.data for one in found]
    for one, group in zip(found, groups.data_sets, strict=True):
        digests = {run.tags["hash.data"] for run in group.records if "hash.data" in run.tags}
        assert len(digests) <= 1 or not one.data_axis
        heading = f"Data: {one.data}\n" if len(found) > 1 else ""
        assert terminal_summary(one).startswith(heading + one.verdict)
        for option in one.options:
            runs = [run for run in group.records if all(run.params[key] == option.values[key] for key in one.axis)]
            values = [run.metrics["best_epoch_val_accuracy"] for run in runs if run.status == "FINISHED"]
            assert option.num_runs == len(runs)
            assert option.mean == (pytest.approx(sum(values) / len(values)) if values else None)


@pytest.mark.parametrize("key", ["data", "data.limit", "data.split_seed", "data.validation_fraction"])
def test_the_report_has_a_section_per_data_set(key, tmp_path):
    """The sweeps whose report used to end in "records: none for the data mnist, mnist"."""
    records = varied(key, [0, 1])
    compared = compare_by_data(records, ("optimizer", key))
    names = {path.name for path in write_report(compared, records, tmp_path)}
    html = (tmp_path / "report.html").read_text()
    assert len(compared) == 2 and all(f"<h1>Data: {one.data}</h1>" in html for one in compared)
    assert {"by_data.csv", "across.json", "table.csv", "data2-table.csv"} <= names


def test_two_axes_that_change_the_data_are_options_of_one_comparison(tmp_path):
    records = [
        run_on(data, "adam", seed, params={"data.limit": limit}, tags={"hash.data": f"{data}{limit}"})
        for data, limit, seed in itertools.product(("default", "imbalanced"), (400, 1000), range(2))
    ]
    (found,) = compare_by_data(records, ("data", "data.limit"))
    names = {"default limit=400", "default limit=1000", "imbalanced limit=400", "imbalanced limit=1000"}
    assert {option.name for option in found.options} == names
    assert write_report([found], records, tmp_path)[0].name == "report.html"


def test_a_report_on_other_records_names_the_choices(tmp_path):
    compared = compare_by_data(sweep(), ("optimizer", "data"))
    others = sweep(("default", "other_split"))
    with pytest.raises(ValueError, match=r"no run was trained on imbalanced. Choices: default, other_split"):
        write_report(compared, others, tmp_path)


def test_a_record_without_settings_of_the_axis_does_not_end_the_comparison():
    lost = RunRecord("", "job 9", "FAILED", {"optimizer": "adam", "seed": 0}, tags={"error": "no images"})
    found = compare_by_data([*sweep(), lost], ("optimizer", "data"))
    assert {one.data: sum(option.num_runs for option in one.options) for one in found} == {
        "default": 4,
        "imbalanced": 4,
        "data=null": 1,
    }
