"""Fairness: warnings, notes, and which runs have the same data."""

import pytest
from synthetic_runs import failed, flagship, make_run, make_sweep

from mnistlab.comparison import RunRecord, across_data, compare, compare_by_data, fairness
from mnistlab.comparison.data_sets import split_by_data


def warnings(records, axis="optimizer"):
    return [note.text for note in fairness(records, axis) if note.level == "warning"]


def test_a_clean_sweep_has_no_warning():
    assert warnings(make_sweep(["adam", "momentum", "rmsprop"])) == []
    assert warnings(flagship()) == []


def test_batch_size_is_part_of_the_strategy_and_milder():
    notes = fairness(make_sweep(["adam", "sgd"]), "optimizer")
    assert [note.level for note in notes] == ["note", "note"]
    assert notes[0].text == "fit.batch_size is part of each option's strategy: 1 (sgd), 32 (adam)"
    assert "162,000 (sgd)" in notes[1].text


def test_batch_size_that_varies_within_an_option_is_a_warning():
    records = make_sweep(["adam", "momentum"])
    records[0] = make_run("adam", 0, params={"fit.batch_size": 64})
    assert any(text.startswith("fit.batch_size differs") for text in warnings(records))


def test_batch_size_is_a_warning_when_models_are_compared():
    records = [
        make_run("adam", seed, run_id=f"{model}{seed}", params={"model": model, "fit.batch_size": size})
        for model, size in (("mlp", 32), ("cnn", 64))
        for seed in range(2)
    ]
    assert any(
        text == "fit.batch_size differs but is not on the axis: 32 (mlp), 64 (cnn)"
        or text == "fit.batch_size differs but is not on the axis: 64 (cnn), 32 (mlp)"
        for text in warnings(records, "model")
    )


def test_another_setting_is_named_with_its_values():
    records = make_sweep(["adam", "momentum"])
    records[-1] = make_run("momentum", 4, params={"model.units": "[256]"})
    expected = "model.units differs but is not on the axis: [128, 64] (adam, momentum), [256] (momentum)"
    assert expected in warnings(records)


def test_a_setting_only_some_runs_have_is_named():
    records = make_sweep(["adam", "momentum"])
    records[0] = make_run("adam", 0, params={"data.augmentation": "flip"})
    assert any("data.augmentation" in text and "(not set)" in text for text in warnings(records))


def test_settings_of_a_group_may_differ_between_options_but_not_within():
    records = make_sweep(["adam", "momentum"])
    records[0] = make_run("adam", 0, params={"optimizer.learning_rate": 0.5})
    assert any(text.startswith("optimizer.learning_rate differs") for text in warnings(records))


def test_seeds_and_tracking_settings_are_ignored():
    records = make_sweep(["adam", "momentum"])
    records[0] = make_run("adam", 0, params={"tracking.uri": "elsewhere", "tracking": "none"})
    assert warnings(records) == []


@pytest.mark.parametrize(("tag", "words"), [("initial_weights", "initial weights"), ("batch_order", "batch order")])
def test_a_different_initial_state_is_named_with_option_and_seed(tag, words):
    records = make_sweep(["adam", "momentum", "rmsprop"])
    records[1] = make_run("adam", 1, tags={f"hash.{tag}": "other"})
    found = warnings(records)
    assert len(found) == 1 and words in found[0] and "adam (seeds 1)" in found[0]


def test_initial_weights_differ_by_design_when_the_model_is_swept():
    records = [
        make_run(
            "adam",
            seed,
            run_id=f"{model}{seed}",
            params={"model": model, "model.units": model},
            tags={"hash.initial_weights": f"{model}{seed}"},
        )
        for model in ("mlp", "cnn")
        for seed in range(2)
    ]
    assert warnings(records, "model") == []


def test_batch_orders_of_other_batch_sizes_are_not_compared():
    assert not any("batch order" in text for text in warnings(make_sweep(["adam", "sgd"])))


def test_other_training_lengths_are_a_warning():
    records = [*make_sweep(["adam"]), *make_sweep(["momentum"], epochs=5)]
    assert any("numbers of epochs differ: 3 (adam), 5 (momentum)" in text for text in warnings(records))


def on_data(records, digest, source):
    return [
        RunRecord(
            **{
                **vars(run),
                "run_id": f"{run.run_id}-{digest}",
                "params": {**run.params, "source": source},
                "tags": {**run.tags, "hash.data": digest},
            }
        )
        for run in records
    ]


def test_different_data_never_share_a_table():
    records = make_sweep(["adam", "sgd"]) + on_data(make_sweep(["adam", "sgd"]), "f1f1", "fashion_mnist")
    with pytest.raises(ValueError, match=r"2 different data sets .* use compare_by_data"):
        compare(records)
    found = compare_by_data(records)
    assert [each.data for each in found] == ["fashion_mnist", "mnist"] or [each.data for each in found] == [
        "mnist",
        "fashion_mnist",
    ]
    assert all(option.num_runs == 5 for each in found for option in each.options)
    assert any("different data sets" in text for text in warnings(records))


def test_the_same_source_with_other_bytes_is_other_data():
    records = make_sweep(["adam"]) + on_data(make_sweep(["sgd"]), "e2e2", "mnist")
    assert sorted(split_by_data(records)) == ["mnist d0d0d0d0", "mnist e2e2"]


def test_a_split_drawn_from_the_seed_is_one_data_set():
    records = [
        make_run(option, seed, tags={"hash.data": f"split{seed}"}) for option in ("adam", "sgd") for seed in range(3)
    ]
    assert list(split_by_data(records)) == ["mnist"]


def test_one_seed_with_two_hashes_means_two_data_sets():
    records = make_sweep(["adam"], 2) + on_data(make_sweep(["sgd"], 1), "e2e2", "mnist")
    assert sorted(split_by_data(records)) == ["mnist d0d0d0d0", "mnist e2e2"]


def test_a_run_that_failed_before_its_data_stays_with_its_source():
    groups = split_by_data([*make_sweep(["adam"]), failed("sgd", 0)])
    assert {name: len(members) for name, members in groups.items()} == {"mnist": 6}


def test_data_on_the_axis_beside_another_setting_name_the_tables():
    records = make_sweep(["adam", "sgd"]) + on_data(make_sweep(["adam", "sgd"]), "f1f1", "fashion_mnist")
    found = compare_by_data(records, ("optimizer", "source"))
    assert {tuple(each.axis) for each in found} == {("optimizer",)}


def test_data_alone_on_the_axis_are_one_table_with_a_warning():
    records = make_sweep(["adam"]) + on_data(make_sweep(["adam"]), "f1f1", "fashion_mnist")
    (found,) = compare_by_data(records, "source")
    assert len(found.options) == 2
    assert any("changes the data" in note.text for note in found.notes)


def test_ranks_across_data_sets():
    sets = [on_data(make_sweep(["adam", "sgd", "momentum"]), f"h{k}", f"set{k}") for k in range(6)]
    found = across_data(compare_by_data([run for members in sets for run in members]))
    assert found.mean_ranks == {"sgd": 1.0, "momentum": 2.0, "adam": 3.0}
    assert found.p is not None and found.p < 0.05
    assert found.ranking == "Across 6 data sets sgd ranks best (mean rank 1 of 3) and beats adam."
    assert found.verdict == (
        "sgd leads on all 6 data sets (set0, set1, set2 and 3 more). On each data set sgd beats every other option. "
        "Across 6 data sets sgd ranks best (mean rank 1 of 3) and beats adam."
    )
    few = across_data(compare_by_data([run for members in sets[:2] for run in members]))
    assert few.ranking == "Across 2 data sets sgd ranks best (mean rank 1 of 3), but no difference is significant."
    assert few.verdict == ("sgd leads on both data sets (set0, set1). On each data set sgd beats every other option.")
