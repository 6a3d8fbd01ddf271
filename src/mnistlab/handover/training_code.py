"""The script's Part 4 and 6.1: optimizer, loss, batches, callbacks and `fit`."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from mnistlab.config.metric_names import metric_name
from mnistlab.data import Dataset
from mnistlab.handover.data_code import DataFacts
from mnistlab.handover.document import Section
from mnistlab.handover.python_code import CannotBeWrittenError, call, keras_path, literal, node_code, object_code
from mnistlab.handover.recorded import RecordedRun
from mnistlab.runtime.keras_internals import inner_optimizer, learning_rate_or_schedule
from mnistlab.training.callbacks import ends_with_other_weights, lower_is_better
from mnistlab.training.compiling import LOSSES
from mnistlab.training.fitting import EVALUATION_BATCH_SIZE, saved_epoch
from mnistlab.training.plan import resolve_batch_size

KEPT = "kept.weights.h5"
BATCHES = '''
def epoch_order(num_images, epoch):
    """The order in which an epoch (the first is 0) sees the images: it depends on the seed and the epoch only."""
    return np.random.default_rng([SEED, epoch]).permutation(num_images)


class Batches(keras.utils.PyDataset):
    """The training images in batches, in another order in every epoch."""

    def __init__(self, images, targets, batch_size):
        super().__init__()
        self.images, self.targets, self.batch_size = images, targets, batch_size
        self.start_epoch(0)

    def start_epoch(self, epoch, logs=None):
        self.order = epoch_order(len(self.images), epoch)

    def __len__(self):
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.images[rows], self.targets[rows]
'''
IN_ORDER = '''


class InOrder(Batches):
    """Images in batches, unshuffled, for validation and test."""

    def start_epoch(self, epoch, logs=None):
        self.order = np.arange(len(self.images))
'''


def check_devices(run: RecordedRun) -> None:
    """Raise CannotBeWrittenError for a run that shared its batches among devices."""
    if run.config.fit.strategy is not None:
        raise CannotBeWrittenError(
            f"fit.strategy={run.config.fit.strategy}: where a batch cannot be divided evenly among the devices, plain "
            "Keras computes other gradients than the run. Train the same with fit.strategy=null and hand that over: "
            "without dropout and augmentation, it is equal but for rounding."
        )


def check(run: RecordedRun, dataset: Dataset, model: keras.Model) -> None:
    """Raise CannotBeWrittenError for what plain Keras does in another way than the run, so that numbers would differ.

    model: the run's, compiled.
    """
    if dataset.loader == "generator" and dataset.augmentation:
        raise CannotBeWrittenError(
            "source.loader=generator with data.augmentation: the random numbers of ImageDataGenerator cannot be "
            "written out. Train with source.loader=resident, where layers of Keras vary the images, and hand that over."
        )
    if ends_with_other_weights(model.optimizer):
        raise CannotBeWrittenError(
            "The optimizer ends with an average of its weights (optimizer.use_ema), which mnistlab validates after "
            "each epoch and Keras's fit does not: the script's numbers would differ. Hand over a run without it."
        )
    averaged = {
        name.split(".")[0].removeprefix("val_")
        for name in run.chosen.metrics
        if "." in name and not name.startswith(("test_", "best_epoch_", "train_"))
    }
    monitors = [run.config.save.monitor, *(str(node.get("monitor", "")) for node in run.config.callbacks.values())]
    for monitor in monitors:
        if monitor.removeprefix("val_") in averaged:
            raise CannotBeWrittenError(
                f"{monitor} has a value for each class, and Keras's callbacks cannot monitor it. Hand over a run that "
                "monitors a metric of one value, such as val_loss."
            )


def compiling(run: RecordedRun, dataset: Dataset, model: keras.Model) -> Section:
    """The section that compiles the model; model: the run's."""
    fit = run.config.fit
    loss = LOSSES[dataset.labels] if fit.loss == "auto" else fit.loss
    loss_code = literal(loss) if isinstance(loss, str) else node_code(loss, "fit.loss")
    metrics = f"[{', '.join(map(_metric, fit.metrics))}]"
    compiled = call("model.compile", optimizer="optimizer", loss=loss_code, metrics=metrics)
    text = "The optimizer decides how the weights follow the gradients; the loss is what it lowers."
    if run.config.schedule:
        text += " The learning rate changes with the steps: the schedule counts batches from 0."
    return Section("Part 4.2: Compile", text, f"optimizer = {_optimizer(run, model)}\n{compiled}")


def _optimizer(run: RecordedRun, model: keras.Model) -> str:
    node = dict(run.config.optimizer)
    target = str(node.pop("_target_"))
    more: dict[str, Any] = {}
    if run.config.schedule:
        node.pop("learning_rate", None)
        schedule = learning_rate_or_schedule(model.optimizer)
        more["learning_rate"] = object_code(keras.saving.serialize_keras_object(schedule), indent=4)
    arguments: dict[str, Any] = {
        name: node_code(value, f"optimizer.{name}") for name, value in node.items() if not name.startswith("_")
    }
    made = call(keras_path(target, "optimizer._target_"), **more, **arguments)
    is_scaled = inner_optimizer(model.optimizer) is not model.optimizer and "LossScaleOptimizer" not in target
    return f'keras.optimizers.LossScaleOptimizer({made}, name="loss_scale_optimizer")' if is_scaled else made


def _metric(entry: str | Mapping[str, Any]) -> str:
    if isinstance(entry, str):
        return literal(entry)
    target = str(entry["_target_"])
    is_class = target.rpartition(".")[2][:1].isupper()
    return node_code({**entry, "name": metric_name(entry)} if is_class else entry, "fit.metrics")


def fitting(run: RecordedRun, dataset: Dataset, facts: DataFacts) -> Iterator[Section]:
    """The sections of batches, callbacks and the training itself."""
    in_files = not dataset.train.resident
    yield Section(
        "Part 4.2: The batches",
        "`fit(X_train, y_train)` would shuffle in an order of its own. The run's order comes from the seed, so that "
        "every run with this seed sees the same batches; a PyDataset gives them to `fit` in that order.",
        BATCHES + (IN_ORDER if in_files else ""),
    )
    kept = _kept_epoch(run, dataset)
    yield _callbacks(run, kept)
    batch_size = resolve_batch_size(run.config.fit.batch_size, len(dataset.train))
    validation = f"InOrder(X_val, y_val, {EVALUATION_BATCH_SIZE})" if in_files else "(X_val, y_val)"
    more: dict[str, Any] = {} if in_files else {"validation_batch_size": str(EVALUATION_BATCH_SIZE)}
    more |= {"class_weight": "class_weight"} if facts.class_weight else {}
    fit = call(
        "model.fit",
        "train_batches",
        epochs=str(run.config.fit.epochs),
        validation_data=validation,
        **more,
        callbacks="callbacks",
        shuffle="False",
        verbose="2",
    )
    code = f"history = {fit}"
    text = (
        f"An epoch is one pass through all training images, in batches of {batch_size:,}: a step of the optimizer each."
    )
    if kept:
        code += f"\nmodel.load_weights({literal(KEPT)})"
        text += f" Then the model gets the weights of the epoch that the run saved, the {kept} one."
    yield Section("Part 4.2: Fit", text, code)


def _kept_epoch(run: RecordedRun, dataset: Dataset) -> str:
    """'best', 'last', or '' if `fit` ends with the weights that the run saved."""
    which = saved_epoch(run.config.save.which, dataset)
    restores = any(node.get("restore_best_weights") for node in run.config.callbacks.values())
    return which if which == "best" or restores else ""


def _callbacks(run: RecordedRun, kept: str) -> Section:
    batch_size = run.config.fit.batch_size
    size = "len(X_train)" if batch_size == "all" else f"min({batch_size}, len(X_train))"
    codes = ["keras.callbacks.LambdaCallback(on_epoch_begin=train_batches.start_epoch)"]
    texts = ["The first callback gives each epoch its order."]
    if kept == "best":
        monitor = run.config.save.monitor
        mode = literal("min" if lower_is_better(monitor) else "max")
        settings: dict[str, Any] = {
            "monitor": literal(monitor),
            "mode": mode,
            "save_best_only": "True",
            "save_weights_only": "True",
        }
        codes.append(call("keras.callbacks.ModelCheckpoint", literal(KEPT), indent=4, **settings))
        texts.append(f"The second keeps the weights of the epoch with the best {monitor} (save.which=best).")
    elif kept:
        codes.append(call("keras.callbacks.ModelCheckpoint", literal(KEPT), indent=4, save_weights_only="True"))
        texts.append("The second keeps the weights of the last epoch (save.which=last).")
    for name, node in run.config.callbacks.items():
        codes.append(node_code(node, f"callbacks.{name}", run.folder, indent=4))
    if run.config.callbacks:
        texts.append(f"Then those of the run: {', '.join(run.config.callbacks)}.")
    if run.tags.get("outcome.step"):
        codes.append("keras.callbacks.TerminateOnNaN()")
        texts.append("The run diverged: mnistlab ended it at the first loss that was not finite.")
    listed = "".join(f"    {code},\n" for code in codes)
    made = f"train_batches = Batches(X_train, y_train, batch_size={size})\ncallbacks = [\n{listed}]"
    return Section("Part 6.1: Callbacks", " ".join(texts), made)
