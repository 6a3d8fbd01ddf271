"""Each private name of Hydra, Keras, MLflow and Python that mnistlab uses still does what mnistlab needs.

A library may rename them in any release. The failing test's id is the name; the function that calls it is in
`config/hydra_internals.py`, `runtime/keras_internals.py`, `runtime/exits.py` or `tracking/mlflow_internals.py`.
"""

from __future__ import annotations

import importlib.util
import inspect
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import optuna
import pytest
import tensorflow as tf
import yaml
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from mlflow import MlflowClient, server
from mlflow.server.handlers import get_endpoints
from mlflow.tracking._tracking_service.utils import _get_store
from mlflow.utils.rest_utils import http_request
from omegaconf import OmegaConf
from PIL import Image
from small_data import copy_empty_database

from mnistlab.config import conf_folder, hydra_internals, register
from mnistlab.runtime import keras_internals, startup, studies
from mnistlab.tracking import mlflow_internals

pytestmark = pytest.mark.hydra_itself
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def check_argument_parser(folder: Path) -> None:
    arguments = hydra_internals.argument_parser().parse_args(["a=1", "--multirun", "--config-dir", "mine"])
    assert (arguments.overrides, arguments.multirun, arguments.config_dir) == (["a=1"], True, "mine")
    expected = {"help", "hydra_help", "cfg", "info", "shell_completion", "config_path", "config_name"}
    assert expected | {"experimental_rerun"} <= set(vars(arguments))


def check_composing(folder: Path) -> None:
    register()
    job = GlobalHydra.instance().hydra = object()  # as inside a job
    try:
        with hydra_internals.composing(str(conf_folder())):
            assert compose("train", overrides=["seed=7"]).seed == 7
        assert GlobalHydra.instance().hydra is job
    finally:
        GlobalHydra.instance().hydra = None


def check_starting_jobs_quickly(folder: Path) -> None:
    method = inspect.getsource(hydra_internals.Sweeper.validate_batch_is_legal)
    assert "load_sweep_config" in method  # what it costs: it composes each job
    sweeper = Plugins.instance()._instantiate(OmegaConf.create({"_target_": BASIC_SWEEPER, "max_batch_size": None}))
    launcher = Plugins.instance()._instantiate(OmegaConf.create({"_target_": BASIC_LAUNCHER}))
    with hydra_internals.starting_jobs_quickly(lambda overrides: 0.5):
        sweeper.validate_batch_is_legal([["optimizer=sgd"]])  # with no configuration to compose from
        (result,) = launcher.launch([["optimizer=sgd"]], initial_job_idx=0)
        assert (result.overrides, result.return_value) == (["optimizer=sgd"], 0.5)
    assert inspect.getsource(hydra_internals.Sweeper.validate_batch_is_legal) == method
    with pytest.raises(AssertionError):  # it was not set up
        launcher.launch([["optimizer=sgd"]], initial_job_idx=0)


def check_composing_files_once(folder: Path) -> None:
    register()
    (folder / "optimizer").mkdir()
    (folder / "optimizer" / "of_this_test.yaml").write_text("_target_: keras.optimizers.SGD\nlearning_rate: 0.25\n")
    names = (
        (hydra_internals.ConfigRepository, "load_config"),
        (hydra_internals.config_loader_impl, "create_defaults_list"),
        (hydra_internals.ConfigLoaderImpl, "_compose_config_from_defaults_list"),
    )
    originals = [getattr(owner, name) for owner, name in names]
    source = inspect.getsource(hydra_internals.ConfigLoaderImpl._load_configuration_impl)
    assert "create_defaults_list(" in source
    assert "_compose_config_from_defaults_list(" in source
    with hydra_internals.composing_files_once(), hydra_internals.composing(str(conf_folder())):
        assert [compose("train", overrides=[f"seed={seed}"]).seed for seed in (7, 8)] == [7, 8]
        assert all(getattr(owner, name) is not one for (owner, name), one in zip(names, originals, strict=True))
        # A copy of a repository that looks in other places leaves the original as it is.
        loader = GlobalHydra.instance().config_loader()
        sources = [(source.provider, source.path) for source in loader.repository.get_sources()]
        other = compose("train", overrides=[f"hydra.searchpath=['file://{folder}']", "optimizer=of_this_test"])
        assert other.optimizer.learning_rate == 0.25
        assert [(source.provider, source.path) for source in loader.repository.get_sources()] == sources
    assert [getattr(owner, name) for owner, name in names] == originals
    assert "__deepcopy__" not in vars(hydra_internals.ConfigRepository)


def check_list_options_quickly(folder: Path) -> None:
    register()
    original = hydra_internals.ConfigLoaderImpl.get_group_options
    try:
        with hydra_internals.composing(str(conf_folder())):
            loader = GlobalHydra.instance().config_loader()
            expected = [loader.get_group_options("optimizer"), loader.list_groups("hydra")]
            hydra_internals.list_options_quickly()
            assert [loader.get_group_options("optimizer"), loader.list_groups("hydra")] == expected
            assert "adam" in expected[0]
    finally:
        hydra_internals.ConfigLoaderImpl.get_group_options = original


def parsed(overrides: list[str]) -> list:
    with hydra_internals.composing(str(conf_folder())):
        return hydra_internals.parse_overrides(overrides)


def check_parse_overrides(folder: Path) -> None:
    plain, swept, flag = parsed(["seed=1", "optimizer=glob(ada*)", "hydra.verbose=true"])
    assert (plain.get_key_element(), plain.is_sweep_override(), plain.is_hydra_override()) == ("seed", False, False)
    assert swept.is_sweep_override()
    assert swept.is_discrete_sweep()
    assert flag.is_hydra_override()


def check_split_sweep(folder: Path) -> None:
    jobs = hydra_internals.split_sweep(parsed(["fit.epochs=1", "optimizer=sgd,adam", "seed=range(0,2)"]))
    assert [sorted(job) for job in jobs] == [
        ["fit.epochs=1", f"optimizer={optimizer}", f"seed={seed}"] for optimizer in ("sgd", "adam") for seed in (0, 1)
    ]
    globbed = hydra_internals.split_sweep(parsed(["optimizer=glob(ada*)"]))  # needs Hydra's list of the group's options
    assert ["optimizer=adagrad"] in globbed
    assert len(globbed) == len(list((conf_folder() / "optimizer").glob("ada*.yaml")))


def check_all_layers(folder: Path) -> None:
    inner = keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(2, name="inner")], name="nested")
    wrapped = keras.layers.TimeDistributed(keras.layers.Dense(1, name="wrapped"), name="wrapper")
    model = keras.Sequential([keras.Input((4, 3)), inner, wrapped])
    names = [layer.name for layer in keras_internals.all_layers(model)]
    assert {"nested", "inner", "wrapper", "wrapped"} <= set(names)
    assert model.name not in names


def check_learning_rate_or_schedule(folder: Path) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    assert keras_internals.learning_rate_or_schedule(keras.optimizers.SGD(schedule)) is schedule
    rate = keras_internals.learning_rate_or_schedule(keras.optimizers.SGD(0.25))
    assert not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    assert float(rate) == 0.25


def check_last_scheduled_rate(folder: Path) -> None:
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 4, 0.0)
    optimizer, weight = keras.optimizers.SGD(schedule, gradient_accumulation_steps=2), keras.Variable([0.0])
    assert keras_internals.last_scheduled_rate(optimizer) is None
    for rate in (1.0, 0.75, 0.5):
        optimizer.apply([np.ones(1, np.float32)], [weight])
        assert float(keras_internals.last_scheduled_rate(optimizer)) == rate
    assert keras_internals.last_scheduled_rate(keras.optimizers.SGD(0.1)) is None


def check_load_samples(folder: Path) -> None:
    for name, level in (("a", 10), ("b", 20), ("c", 30)):
        (folder / name).mkdir()
        Image.new("L", (4, 5), level).save(folder / name / "image.png")
    generator = tf.keras.preprocessing.image.ImageDataGenerator()
    iterator = generator.flow_from_directory(
        folder, target_size=(5, 4), color_mode="grayscale", class_mode="sparse", batch_size=2, shuffle=False
    )
    images, labels = keras_internals.load_samples(iterator, np.array([2, 0, 2]))
    assert images.shape == (3, 5, 4, 1)
    assert images[:, 0, 0, 0].tolist() == [30, 10, 30]
    assert labels.tolist() == [2, 0, 2]


def check_dispose_engine(folder: Path) -> None:
    file = copy_empty_database(folder)

    def connections() -> int:
        return sum(link.resolve() == file for link in Path("/proc/self/fd").iterdir())

    MlflowClient(f"sqlite:///{file}").search_experiments()
    assert connections() > 0
    mlflow_internals.dispose_engine(f"sqlite:///{file}")
    assert connections() == 0
    assert MlflowClient(f"sqlite:///{file}").search_experiments()  # it connects again


def check_one_statement_for_many_runs(folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{copy_empty_database(folder)}")
    engine = mlflow_internals.engine_of(client.tracking_uri)
    runs = [client.create_run("0", start_time=1000 * number, tags={"key": "wanted"}).info for number in (1, 2)]
    client.log_metric(runs[0].run_id, "loss", 0.25, timestamp=7, step=3)
    client.create_run("0", tags={"key": "wanted", "kind": "other"})
    found = mlflow_internals.tagged_runs(engine, "0", ["key"], ["wanted", "more"], {"kind": ["other"]})
    assert found == [(run.run_id, "wanted", "RUNNING", run.start_time) for run in reversed(runs)]
    rows = mlflow_internals.metric_rows(engine, [run.run_id for run in runs], ["loss"])
    assert rows == [(runs[0].run_id, "loss", 3, 7, 0.25)]


def check_request_for_many_runs(folder: Path) -> None:
    routes = {path for path, *_ in get_endpoints()}
    assert mlflow_internals.BULK_HISTORY in routes | {rule.rule for rule in server.app.url_map.iter_rules()}
    assert callable(_get_store("http://127.0.0.1:1").get_host_creds)
    assert "raise_on_status" in inspect.signature(http_request).parameters


def check_write_environment(folder: Path) -> None:
    mlflow_internals.write_environment(folder, ["keras==3.13.0", "numpy==2.0.0"])
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert {"keras==3.13.0", "numpy==2.0.0"} <= set(requirements)
    conda = yaml.safe_load((folder / "conda.yaml").read_text())
    assert conda["dependencies"][-1] == {"pip": requirements}
    version = ".".join(map(str, sys.version_info[:3]))
    assert yaml.safe_load((folder / "python_env.yaml").read_text())["python"] == version


def check_database_tables(folder: Path) -> None:
    """What is written through MLflow is read by SQL, and MLflow reads what SQL has changed."""
    file, client = copy_empty_database(folder), MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.create_experiment("own", artifact_location=(folder / "old").as_uri())
    run = client.create_run("0", run_name="one", tags={"key": "value", "run.folder": "/old/run"}).info
    client.log_param(run.run_id, "seed", 1)
    client.set_terminated(run.run_id, "FAILED")
    model = client.create_logged_model("0", "model", source_run_id=run.run_id, params={"a": "1"}, tags={"b": "2"})
    with mlflow_internals.reading(file) as connection:
        assert mlflow_internals.read_experiments(connection) == {"Default": "0", "own": experiment}
        rows = mlflow_internals.read_runs(connection)
        assert rows == [(run.run_id, "one", "FAILED", run.start_time, run.artifact_uri, "0", "active")]
        assert mlflow_internals.read_pairs(connection, "tags", ["key"]) == {run.run_id: {"key": "value"}}
        assert mlflow_internals.read_pairs(connection, "params", ["seed"]) == {run.run_id: {"seed": "1"}}
        models = mlflow_internals.read_models(connection)
        assert models == [(model.model_id, "PENDING", model.artifact_location, run.run_id)]
        addresses = mlflow_internals.read_addresses(connection)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM tags")
    named = {(row.table, row.value) for row in addresses}
    assert {("runs", run.artifact_uri), ("logged_models", model.artifact_location), ("tags", "/old/run")} <= named
    with mlflow_internals.writing(file) as connection:
        mlflow_internals.write_addresses(connection, [(row, f"/new/{row.table}") for row in addresses])
        mlflow_internals.move_run(connection, run.run_id, experiment)
    moved = client.get_run(run.run_id)
    assert (moved.info.experiment_id, moved.info.artifact_uri) == (experiment, "/new/runs")
    assert moved.data.tags["run.folder"] == "/new/tags"
    (found,) = client.search_logged_models([experiment], filter_string="params.a = '1'")
    assert (found.artifact_location, found.tags["b"]) == ("/new/logged_models", "2")
    assert client.get_experiment(experiment).artifact_location == "/new/experiments"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def check_end_threads(folder: Path) -> None:
    """The requests to a pool of threads are done and it takes no more, as at Python's own end."""
    code = """
from concurrent.futures import ThreadPoolExecutor
from mnistlab.runtime import exits
pool = ThreadPoolExecutor(1)
futures = [pool.submit(sum, range(10_000)) for _ in range(200)]
exits._end_threads()
print(all(future.done() for future in futures))
try:
    pool.submit(int)
except RuntimeError:
    print("refused")
"""
    assert run_python(code).splitlines() == ["True", "refused"]


def check_run_exit_functions(folder: Path) -> None:
    code = "import atexit; from mnistlab.runtime import exits; atexit.register(print, 'last')\n"
    assert run_python(f"{code}exits._run_exit_functions(); print('end')") == "last\nend\n"


def check_direction_error(folder: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile(loss="mse", metrics=["accuracy", keras.metrics.MeanMetricWrapper(lambda one, two: two, name="own")])
    model.evaluate(np.ones((1, 2)), np.ones((1, 2)), verbose=0)
    stops = {name: keras.callbacks.EarlyStopping(monitor=f"val_{name}") for name in ("loss", "accuracy", "own")}
    errors = {name: keras_internals.direction_error(stop, model) for name, stop in stops.items()}
    assert (
        errors["loss"] == errors["accuracy"] == keras_internals.direction_error(keras.callbacks.History(), model) == ""
    )
    assert "isn't able to automatically determine" in errors["own"]
    assert all(stop.monitor_op is None for stop in stops.values())  # asked of a copy


def check_is_only_its_configuration(folder: Path) -> None:
    plain, excluding, by_variable = (keras.optimizers.AdamW(0.1) for _ in range(3))
    excluding.exclude_from_weight_decay(var_names=["bias"])
    by_variable.exclude_from_weight_decay(var_list=[keras.Variable([0.0])])
    own = type("Own", (keras.optimizers.SGD,), {})(0.1)
    found = [keras_internals.is_only_its_configuration(one) for one in (plain, excluding, by_variable, own)]
    assert found == [True, False, False, False]


def check_profiles_batches(folder: Path) -> None:
    callbacks = [keras.callbacks.TensorBoard(folder / "a", profile_batch=batches) for batches in (0, 2, (10, 12))]
    assert [keras_internals.profiles_batches(one) for one in callbacks] == [False, True, True]


def check_take_whole_batches(folder: Path) -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert model.distribute_strategy is strategy
    keras_internals.take_whole_batches(model)
    assert model.distribute_strategy is tf.distribute.get_strategy() is not strategy


def check_saves_without_secrets(folder: Path) -> None:
    from hydra._internal.core_plugins import basic_sweeper
    from hydra.core import utils

    assert utils._save_config is hydra_internals._save_without_secrets
    assert "_save_config(" in inspect.getsource(utils.run_job)
    assert "OmegaConf.save(" in inspect.getsource(basic_sweeper.BasicSweeper)


def check_writes_texts_as_omegaconf_does(folder: Path) -> None:
    values = {
        "a": "3",
        "b": "1e-3",
        "c": "yes",
        "d": "plain",
        "e": 3,
        "f": 0.001,
        "g": True,
        "h": None,
        "i": "é: ${seed}",
    }
    hydra_internals._save_yaml(OmegaConf.create({"list": [values], "none": {}}), folder / "saved.yaml")
    written = (folder / "saved.yaml").read_text(encoding="utf-8")
    assert written == OmegaConf.to_yaml(OmegaConf.create({"list": [values], "none": {}}))
    assert OmegaConf.to_container(OmegaConf.load(folder / "saved.yaml"), resolve=False) == {
        "list": [values],
        "none": {},
    }


def check_reads_yaml_as_omegaconf_does(folder: Path) -> None:
    file = folder / "read.yaml"
    file.write_text("a: 1e-3\nb: 2026-11-28\nc: [1_000, .5, yes, 'yes', ~]\nd: {<<: {e: 1}, f: é}\n")
    expected = {"a": 0.001, "b": "2026-11-28", "c": [1000, 0.5, True, "yes", None], "d": {"e": 1, "f": "é"}}
    assert OmegaConf.load(file) == expected
    file.write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(yaml.constructor.ConstructorError, match="found duplicate key a"):
        OmegaConf.load(file)


def check_eager_random_state(folder: Path) -> None:
    tf.random.set_seed(4)
    state = keras_internals.eager_random_state()
    drawn = tf.random.uniform((3,)).numpy()
    assert (tf.random.uniform((3,)).numpy() != drawn).any()
    keras_internals.set_eager_random_state(state)
    tf.random.uniform((3,))  # the kernels keep a state of their own
    assert keras_internals.eager_random_state() != state


def check_let_threads_sleep(folder: Path) -> None:
    """In a new process: TensorFlow reads it when it starts."""
    code = """
import tensorflow as tf
from tensorflow.python.eager import context
from mnistlab.runtime import keras_internals
keras_internals.let_threads_sleep()
tf.constant(1)
assert context.context().config.experimental.disable_thread_spinning
keras_internals.let_threads_sleep()  # too late, and no error
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def check_global_seed_state(folder: Path) -> None:
    keras.utils.clear_session(free_memory=False)
    assert keras_internals.global_seed_state() is None
    keras.random.normal((2,))
    state = keras_internals.global_seed_state()
    drawn = keras.ops.convert_to_numpy(keras.random.normal((2,)))
    keras_internals.set_global_seed_state(state)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.random.normal((2,))), drawn)


def check_trial_of(folder: Path) -> None:
    study = optuna.create_study(storage=studies.open_storage(str(folder / "study.log")), study_name="one")
    study.ask()
    asked = study.ask()
    other = optuna.load_study(study_name="one", storage=studies.open_storage(str(folder / "study.log")))
    studies.trial_of(other, asked.number).report(0.5, 1)
    assert [trial.intermediate_values for trial in study.get_trials()] == [{}, {1: 0.5}]


PRIVATE_NAMES: dict[str, Callable[[Path], None]] = {
    "hydra._internal.utils.get_args_parser": check_argument_parser,
    "hydra.plugins.sweeper.Sweeper.validate_batch_is_legal, BasicLauncher.launch": check_starting_jobs_quickly,
    "hydra._internal.config_loader_impl.create_defaults_list": check_composing_files_once,
    "hydra._internal.config_loader_impl.ConfigLoaderImpl.get_group_options": check_list_options_quickly,
    "hydra.core.global_hydra.GlobalHydra.hydra": check_composing,
    "hydra.core.override_parser.overrides_parser.OverridesParser": check_parse_overrides,
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": check_split_sweep,
    "hydra.core.utils._save_config": check_saves_without_secrets,
    "omegaconf._utils.get_yaml_loader": check_reads_yaml_as_omegaconf_does,
    "omegaconf._utils.OmegaConfDumper": check_writes_texts_as_omegaconf_does,
    "keras.Model._flatten_layers": check_all_layers,
    "keras.Optimizer._exclude_from_weight_decay, _exclude_from_weight_decay_pattern": check_is_only_its_configuration,
    "keras.Model._distribute_strategy": check_take_whole_batches,
    "keras.callbacks.TensorBoard._start_batch": check_profiles_batches,
    "keras.Optimizer._learning_rate": check_learning_rate_or_schedule,
    "keras.Optimizer._iterations": check_last_scheduled_rate,
    "keras.callbacks.MonitorCallback._set_monitor_op, Callback._model": check_direction_error,
    "keras.src.backend.common.global_state: global_seed_generator": check_global_seed_state,
    "tensorflow.python.eager.context.Context._rng": check_eager_random_state,
    "tensorflow.python.eager.context.Context._config, _context_handle": check_let_threads_sleep,
    "ImageDataGenerator iterator._get_batches_of_transformed_samples": check_load_samples,
    "mlflow.tracking._tracking_service.utils._get_store": check_dispose_engine,
    "mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore.engine": check_one_statement_for_many_runs,
    "mlflow.utils.rest_utils.http_request, RestStore.get_host_creds": check_request_for_many_runs,
    "mlflow.utils.environment._process_pip_requirements, _PythonEnv": check_write_environment,
    "mlflow.store.tracking.dbmodels: the tables of its database": check_database_tables,
    "optuna.trial.FrozenTrial._trial_id": check_trial_of,
    "threading._shutdown": check_end_threads,
    "atexit._run_exitfuncs": check_run_exit_functions,
}


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_private_name(name: str, tmp_path: Path) -> None:
    PRIVATE_NAMES[name](tmp_path)


@pytest.mark.parametrize("name", sorted({*startup.DEFERRED, *startup.IMPORTED_WITHOUT}))
def test_deferred_module_exists(name: str) -> None:
    """`importlib.util.find_spec` imports the parents of a module, which for Keras and TensorFlow is done here."""
    assert importlib.util.find_spec(name) is not None
