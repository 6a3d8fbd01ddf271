"""The script's Part 5, 7 and 8: evaluate, save, plot, and the run's numbers beside the new ones."""

from collections.abc import Iterator
from typing import Any

from mnistlab.data import Dataset
from mnistlab.handover.document import Section
from mnistlab.handover.recorded import RecordedRun
from mnistlab.training.fitting import EVALUATION_BATCH_SIZE

RECORDED = "recorded.json"
NUMBERS = "numbers.json"
MAX_CLASSES_WITH_NUMBERS = 20  # in the figure of the confusion matrix

COMPARED = f"""
recorded = json.loads(Path("{RECORDED}").read_text(encoding="utf-8"))
now = [
    {{name: float(np.mean(values[epoch])) for name, values in history.history.items()}}
    for epoch in range(len(history.epoch))
]
rows = [(f"epoch {{epoch + 1}}", *pair) for epoch, pair in enumerate(zip(recorded["epochs"], now))]
rows.append(("test", recorded["test"], {{name: float(np.mean(value)) for name, value in tested.items()}}))
largest = 0.0
print(f"\\n{{'':<10}}{{'':<16}}{{'recorded':>10}}{{'now':>10}}")
for place, before, after in rows:
    for name in before:
        print(f"{{place:<10}}{{name:<16}}{{before[name]:>10.4f}}{{after[name]:>10.4f}}")
        largest = max(largest, abs(before[name] - after[name]))
print(f"\\nThe largest difference is {{largest:.2g}}.")
if len(now) != len(recorded["epochs"]):
    print("WARNING:", len(recorded["epochs"]), "epochs were recorded, and", len(now), "were trained now.")
if keras.__version__ != recorded["versions"].get("keras"):
    print("The run was trained with Keras", recorded["versions"].get("keras"), "and not", keras.__version__)
Path("{NUMBERS}").write_text(json.dumps({{"epochs": now, "test": rows[-1][2]}}, indent=1), encoding="utf-8")
"""


def sections(run: RecordedRun, dataset: Dataset) -> Iterator[Section]:
    """The sections after the training."""
    size = EVALUATION_BATCH_SIZE
    evaluated = f"X_test, y_test, batch_size={size}" if dataset.test.resident else f"InOrder(X_test, y_test, {size})"
    predicted = evaluated.replace("X_test, y_test, b", "X_test, b")
    decided = "y_pred_prob.argmax(axis=1)"
    if dataset.labels == "binary":
        decided = "(y_pred_prob[:, 0] > 0.5).astype(int)"
    numbers = "" if dataset.num_classes <= MAX_CLASSES_WITH_NUMBERS else ", include_values=False"
    yield Section(
        "Part 5: Evaluate on the test images",
        "The test images have had no part in the training and in no decision, so they show how good the model is on "
        "new ones. Rows of the confusion matrix are the true classes, columns the predicted ones.",
        f"""
tested = model.evaluate({evaluated}, return_dict=True, verbose=0)
y_pred_prob = model.predict({predicted}, verbose=0)
y_pred = {decided}
y_true = test_labels
classes = np.arange(len(CLASS_NAMES))
print(classification_report(y_true, y_pred, labels=classes, target_names=CLASS_NAMES, zero_division=0))
matrix = confusion_matrix(y_true, y_pred, labels=classes)
ConfusionMatrixDisplay(matrix, display_labels=CLASS_NAMES).plot(cmap="Blues", colorbar=False{numbers})
plt.xticks(rotation=90 if max(map(len, CLASS_NAMES)) > 2 else 0)
plt.tight_layout()
plt.savefig("confusion_matrix.png")
""",
    )
    yield Section(
        "Part 7: Save the model",
        "One file with the network, its weights and the optimizer's state. It takes images that were prepared as in "
        "Part 2.",
        'model.save("model.keras")\nsame_model = keras.models.load_model("model.keras")',
    )
    yield Section(
        "Part 8: The learning curves",
        "If the validation loss rises while the training loss still falls, the network learns its training images by "
        "heart: it overfits.",
        """
epochs = np.arange(1, len(history.epoch) + 1)
plt.figure()
plt.plot(epochs, history.history["loss"], marker="o", label="training")
plt.plot(epochs, history.history["val_loss"], marker="s", linestyle="--", label="validation")
plt.title("Loss per epoch")
plt.xlabel("Epoch")
plt.ylabel("Loss")
plt.xticks(epochs[:: max(1, len(epochs) // 10)])
plt.legend()
plt.grid()
plt.savefig("learning_curves.png")
""",
    )
    yield Section(
        "The numbers of the run beside the new ones",
        f"{RECORDED} has what the run recorded. {difference(run)}",
        COMPARED,
    )


def difference(run: RecordedRun) -> str:
    """How equal the script's numbers are, in words."""
    if run.tags.get("engine") == "fused":
        return (
            "mnistlab ran many steps as one compiled program, which adds numbers in another order than Keras's fit. "
            "The first epochs agree to three digits or more; then rounding grows with the steps: hardly with SGD and "
            "momentum, but adam and rmsprop at a learning rate of 0.01 may differ by points after thousands of steps."
        )
    return (
        "The run was trained by Keras's own fit: on the same machine with the same versions the numbers are the same."
    )


def recorded(run: RecordedRun) -> dict[str, Any]:
    """The content of RECORDED."""
    return {
        "run": run.chosen.name,
        "run_id": run.chosen.run_id,
        "epochs": run.epochs,
        "test": run.test,
        "versions": run.versions,
    }
