"""A trained model in use: `mnistlab.predict` against the import of TensorFlow, and MLflow's model server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.commands import TRAIN, new_folder
from benchmarks.common import Bench, Section, environment, format_range, format_seconds, median, run_python
from benchmarks.common import source_overrides as source

PREDICT = ("-m", "mnistlab.predict")
NAME = "digits"
NUM_IMAGES = 10_000
FROM_MEMORY = """
import json, sys, time
import numpy as np
from mnistlab.inference import trained_model
from mnistlab.tracking.chosen_models import ChosenModel
from pathlib import Path
with np.load(sys.argv[2]) as arrays:
    images = np.resize(arrays["x_test"], (int(sys.argv[3]), *arrays["x_test"].shape[1:]))
seconds = {}
start = time.perf_counter()
trained = trained_model.load(ChosenModel("", "", Path(sys.argv[1]), "model"), "raw")
seconds["load"] = time.perf_counter() - start
for name in ("first", "later"):
    start = time.perf_counter()
    trained.probabilities(images)
    seconds[name] = time.perf_counter() - start
print(json.dumps(seconds))
"""
DIRECTLY = """
import json, sys, time
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
with np.load(sys.argv[2]) as arrays:
    images = arrays["x_test"][:100]
found = {}
for name, part in (("one", images[:1]), ("many", images)):
    model.predict(part)
    found[name] = []
    for _ in range(int(sys.argv[3])):
        start = time.perf_counter()
        model.predict(part)
        found[name].append(time.perf_counter() - start)
print(json.dumps(found))
"""
SERVER_SECONDS = 120
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is reached without a proxy


def predict(bench: Bench) -> Section:
    """One picture, from start to exit; and 10,000 images that are in memory."""
    root, model = train(bench)
    picture = bench.folder / "picture.png"
    Image.fromarray(first_images(bench, 1)[0]).save(picture)
    ask = (f"images={picture}", "sheet=none", f"paths.root={root}")
    ways = {
        "`python -c 'import tensorflow'`": ("-c", "import tensorflow"),
        "**`python -m mnistlab.predict run=latest images=FILE`**": (*PREDICT, "run=latest", *ask),
        "**`python -m mnistlab.predict run=FILE.keras images=FILE`**": (*PREDICT, f"run={model}", *ask),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for words in ways.values():
        run_python(bench, *words)  # warms the disk
    for index in range(bench.scale.predict_rounds):
        for way, words in ways.items() if index % 2 == 0 else reversed(ways.items()):
            seconds[way].append(run_python(bench, *words))
    importing, latest, _ = (median(values) for values in seconds.values())
    ratios = [median(values) / importing for values in seconds.values()]
    rows = [
        [way, format_seconds(median(values)), format_range(values), f"{ratio:.2f}x"]
        for (way, values), ratio in zip(seconds.items(), ratios, strict=True)
    ]
    memory = [seconds_from_memory(bench, model) for _ in range(bench.scale.predict_rounds)]
    for name, label in (("first", "the first time in a process"), ("later", "the second time")):
        values = [one[name] for one in memory]
        row = [f"{NUM_IMAGES:,} images from memory, {label}", format_seconds(median(values)), format_range(values), "-"]
        rows.append(row)
    return Section(
        "Prediction",
        ["", "seconds", "lowest-highest", "time / the import"],
        rows,
        [f"Medians of {bench.scale.predict_rounds} rounds in alternating order; the guide's network."],
        {
            "predict.over_import": latest / importing,
            "predict.seconds_from_memory": median([one["first"] for one in memory]),
        },
        {**seconds, "from memory": memory},
    )


def serving(bench: Bench) -> Section:
    """`mlflow models serve` on a logged model: one image after the other, and 100 in each request."""
    root, _ = train(bench)
    images = first_images(bench, 100)
    one, many = ({"inputs": part.tolist()} for part in (images[:1], images))
    with server(bench, root) as address:
        for body in (one, many):
            post(address, body)
        single = [post(address, one) for _ in range(bench.scale.requests)]
        batches = [post(address, many) for _ in range(bench.scale.requests)]
    directly = seconds_directly(bench, root)
    rows = []
    for label, values, alone, count in (
        ("one image in a request", single, directly["one"], 1),
        ("100 images in a request", batches, directly["many"], len(images)),
    ):
        for way, measured in ((f"{label}, the server", values), (f"{label}, `mlflow.pyfunc` without one", alone)):
            latencies = (f"{1000 * float(np.quantile(measured, share)):.1f}" for share in (0.5, 0.95))
            ratio = median(measured) / median(alone)
            rows.append([way, *latencies, f"{count / median(measured):,.0f}", f"{ratio:.2f}x"])
    return Section(
        "MLflow's model server, `mlflow models serve --env-manager local`",
        ["", "median latency, ms", "95th percentile, ms", "images per second", "time / without a server"],
        rows,
        [f"{bench.scale.requests} requests each, one after the other, raw pixels as JSON; the guide's network."],
        {"serving.one_over_pyfunc": median(single) / median(directly["one"])},
        {"one image": single, "100 images": batches, **directly},
    )


def seconds_directly(bench: Bench, root: Path) -> dict[str, list[float]]:
    """Of `mlflow.pyfunc`'s predict in a process of its own: 'one' image, and 'many'."""
    return last_line(
        ("-c", DIRECTLY, f"models:/{NAME}/1", str(bench.images.path), str(bench.scale.requests)),
        MLFLOW_TRACKING_URI=store_of(root),
    )


def store_of(root: Path) -> str:
    """The address of the tracking store."""
    return f"sqlite:///{root}/mlruns/mlflow.db"


def last_line(arguments: Sequence[str], **variables: str) -> Any:
    """What a Python program prints last, from JSON."""
    words = [sys.executable, *arguments]
    done = subprocess.run(words, env=environment(**variables), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split())[-500:])
    return json.loads(done.stdout.splitlines()[-1])


def train(bench: Bench) -> tuple[Path, Path]:
    """Train and register the guide's network for an epoch; returns the folder of all results and the model's file."""
    root = new_folder(bench, "model")
    run_python(bench, *TRAIN, *source(bench), "fit.epochs=1", f"save.register={NAME}", f"paths.root={root}")
    (model,) = root.glob("runs/*/*/model_files/model.keras")
    return root, model


def first_images(bench: Bench, count: int) -> np.ndarray:
    """uint8, shape (count, height, width)."""
    with np.load(bench.images.path) as arrays:
        images: np.ndarray = arrays["x_test"][:count]
    return images


def seconds_from_memory(bench: Bench, model: Path) -> dict[str, float]:
    """Of loading the model, and of predicting NUM_IMAGES images the first and the second time, after all imports."""
    found: dict[str, float] = last_line(("-c", FROM_MEMORY, str(model), str(bench.images.path), str(NUM_IMAGES)))
    return found


@contextlib.contextmanager
def server(bench: Bench, root: Path) -> Iterator[str]:
    """A model server; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binaries = str(Path(sys.executable).parent)
    variables = environment(MLFLOW_TRACKING_URI=store_of(root))
    variables["PATH"] = f"{binaries}{os.pathsep}{variables['PATH']}"
    words = ["mlflow", "models", "serve", "-m", f"models:/{NAME}/1", "--env-manager", "local", "-p", str(port)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=bench.folder, env=variables, start_new_session=True, **silent)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SERVER_SECONDS
        while not answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the model server did not start")
            time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    """Whether the server is ready."""
    with contextlib.suppress(urllib.error.URLError, TimeoutError, ConnectionError):
        return bool(OPENER.open(f"{address}/ping", timeout=5).status == 200)
    return False


def post(address: str, body: dict[str, object]) -> float:
    """The seconds of a request, from writing the JSON to reading the answer."""
    start = time.perf_counter()
    content = json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", content, {"Content-Type": "application/json"})
    with OPENER.open(request, timeout=60) as answer:
        json.load(answer)
    return time.perf_counter() - start
