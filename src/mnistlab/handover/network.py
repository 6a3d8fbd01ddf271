"""The script's Part 3: `build_model()`, written layer by layer from the model that the run trained."""

import inspect
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from mnistlab.config import pretrained_bases
from mnistlab.handover.data_code import DataFacts
from mnistlab.handover.document import Section
from mnistlab.handover.python_code import CannotBeWrittenError, call, literal, object_code
from mnistlab.handover.recorded import RecordedRun

INITIAL_WEIGHTS = "initial.weights.h5"
INITIAL_MODEL = "initial_model.keras"
MAX_DRAWS = 20_000  # random numbers that the initial weights of a network may need
OF_RUN = "Written out from the model that the run trained."


@dataclass(frozen=True)
class NetworkCode:
    """body: of `build_model`, indented; text: what to know about it; file: of the weights or the model that the script
    loads: INITIAL_WEIGHTS, INITIAL_MODEL or ''."""

    body: str
    text: str
    file: str = ""

    def section(self) -> Section:
        """The section of the script."""
        code = f"keras.utils.set_random_seed(SEED)\n\n\ndef build_model():\n{self.body}\n\n\nmodel = build_model()\n"
        if self.file == INITIAL_WEIGHTS:
            code += f"model.load_weights({literal(INITIAL_WEIGHTS)})\n"
        seeded = (
            " The seed decides the random numbers that the weights start from: the same seed, the same order of the "
            "layers, the same weights as in the run."
        )
        return Section("Part 3: Build the network", self.text + ("" if self.file else seeded), f"{code}model.summary()")


def whole_model(model: keras.Model) -> NetworkCode:
    """The model from a file, for one that cannot be written out as layers of Keras."""
    loaded = f"keras.models.load_model({literal(INITIAL_MODEL)}, compile=False)"
    body = f"    return {loaded}"
    if seeds := [int(keras.ops.convert_to_numpy(state)[0]) for state in seed_states(model)]:
        body = (
            f"    model = {loaded}\n"
            '    states = [one for one in model.variables if "seed" in one.path.split("/")[-1]]\n'
            f"    for state, seed in zip(states, {literal(seeds)}):  # the file does not have these seeds\n"
            "        state.assign([seed, 0])\n"
            "    return model"
        )
    text = f"The network has parts that a short function cannot show, so {INITIAL_MODEL} holds it as it was before the"
    return NetworkCode(body, f"{text} training.", INITIAL_MODEL)


def seed_states(model: keras.Layer) -> list[Any]:
    """The variables of the layers that draw random numbers while they train: seed and counter."""
    return [variable for variable in model.variables if "seed" in variable.path.rpartition("/")[2]]


def network_code(run: RecordedRun, model: keras.Model, facts: DataFacts, *, file: str = "") -> NetworkCode:
    """`build_model` for the run's model.

    Args:
        model: as `building.build_model` returns it, untrained.
        file: INITIAL_WEIGHTS: the script loads the weights, and each random layer names its seed.

    Raises:
        CannotBeWrittenError: it has layers that are no calls of Keras.
    """
    explicit = bool(file)
    _, *layers = model.layers  # the scaling comes first
    augmenting, layers = layers[: facts.num_augmenting], layers[facts.num_augmenting :]
    branches = len(layers) == 1 and isinstance(layers[0], keras.Model)
    indent = 4 if branches else 12
    front = []
    if facts.in_model:
        front.append(call("layers.Rescaling", repr(facts.scale), *([repr(facts.offset)] if facts.offset else [])))
    front += [_layer_code(layer, explicit=True, indent=indent) for layer in augmenting]
    if branches:
        body = "\n".join(_functional(run, layers[0], front, explicit))
    else:
        body = _sequential([*front, *(_layer_code(layer, explicit) for layer in layers)])
    text = OF_RUN
    if augmenting:
        text += (
            " The Random layers vary the training images, and do nothing otherwise; they draw the same numbers as "
            "in the run."
        )
    if file:
        start = (
            "the weights of another run" if run.config.init.get("from") else "weights that the seed alone does not give"
        )
        text += f" It starts from {start}: they are in {INITIAL_WEIGHTS}."
    return NetworkCode(body, text, file)


def _sequential(codes: Sequence[str]) -> str:
    listed = "".join(f"            {code},\n" for code in ["keras.Input(INPUT_SHAPE)", *codes])
    return f"    return keras.Sequential(\n        [\n{listed}        ]\n    )"


def _layer_code(layer: keras.Layer, explicit: bool = False, indent: int = 12, used: int = 0) -> str:
    if isinstance(layer, keras.Model):
        raise CannotBeWrittenError(f"The model has a model within it ({layer.name}).")
    seed = _generator_seed(layer) if explicit else None
    more = {} if seed is None else {"seed": seed}
    return object_code(keras.saving.serialize_keras_object(layer), indent=indent, used=used, **more)


def _generator_seed(layer: keras.Layer) -> int | None:
    """The seed of a layer that draws random numbers while it trains."""
    states = seed_states(layer)
    return int(keras.ops.convert_to_numpy(states[0])[0]) if states else None


def _functional(run: RecordedRun, network: keras.Model, front: Sequence[str], explicit: bool) -> Iterator[str]:
    """The body of `build_model` for a network of branches, a line for each layer."""
    if type(network).__name__ != "Functional" or len(network.outputs) != 1:
        raise CannotBeWrittenError(f"{type(network).__name__} is a model of your own class.")
    graph = _graph(network)
    names = {name: "images" for name, entry in graph.items() if not entry}
    last = "images"
    yield "    images = keras.Input(INPUT_SHAPE)"
    for code in front:
        yield f"    prepared = {code}({last})"
        last = "prepared"
    names = dict.fromkeys(names, last)
    counts: dict[str, int] = {}
    for name in _ordered(network, graph, run.config.seed):
        layer = network.get_layer(name)
        kind = "base" if isinstance(layer, keras.Model) else _variable(layer)
        counts[kind] = counts.get(kind, 0) + 1
        names[name] = f"{kind}_{counts[kind]}" if kind != "base" else "maps"
        inputs = [names[source] for source in graph[name]]
        argument = inputs[0] if len(inputs) == 1 else f"[{', '.join(inputs)}]"
        if kind == "base":
            yield from _base(run, layer)
            yield f"    maps = base({argument})"
            continue
        used = len(f"{names[name]} = ({argument})")
        yield f"    {names[name]} = {_layer_code(layer, explicit, indent=4, used=used)}({argument})"
    yield f"    return keras.Model(images, {names[_outputs(network)[0]]})"


def _outputs(network: keras.Model) -> list[str]:
    """The names of the layers that the network's outputs come from."""
    listed = keras.tree.flatten(network.get_config()["output_layers"])
    return [entry for entry in listed if isinstance(entry, str)]


def _variable(layer: keras.Layer) -> str:
    name = type(layer).__name__
    short = {"BatchNormalization": "norm", "Conv2D": "conv", "MaxPooling2D": "pool", "AveragePooling2D": "mean"}
    short |= {"Concatenate": "joined", "GlobalAveragePooling2D": "means", "Dense": "dense", "ReLU": "relu"}
    return short.get(name, name.lower())


def _graph(network: keras.Model) -> dict[str, list[str]]:
    """Layer name -> names of the layers whose outputs it takes; inputs take none."""
    graph: dict[str, list[str]] = {}
    for entry in network.get_config()["layers"]:
        nodes = entry["inbound_nodes"]
        if len(nodes) > 1:
            raise CannotBeWrittenError(f"The layer {entry['name']} is used more than once.")
        tensors = list(_leaves(nodes[0]["args"])) if nodes else []
        known = [one for one in tensors if _is_tensor(one)]
        more = {
            name: value for name, value in (nodes[0]["kwargs"] if nodes else {}).items() if value not in (None, False)
        }
        usual = inspect.signature(network.get_layer(entry["name"]).call).parameters if more else {}
        more = {name: value for name, value in more.items() if name not in usual or usual[name].default != value}
        if len(known) != len(tensors) or more or any(one["config"]["keras_history"][2] for one in known):
            raise CannotBeWrittenError(f"The layer {entry['name']} is called with more than the layers before it.")
        graph[entry["name"]] = [one["config"]["keras_history"][0] for one in known]
    return graph


def _leaves(value: Any) -> Iterator[Any]:
    """What is in nested lists."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _leaves(entry)
    else:
        yield value


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"


def _ordered(network: keras.Model, graph: Mapping[str, Sequence[str]], seed: int) -> list[str]:
    """The layers in the order in which they drew their random numbers, each after those that it takes."""
    source = random.Random(seed)
    position = {source.randint(1, 10**9): index for index in range(MAX_DRAWS)}
    ordered: list[str] = [name for name, inputs in graph.items() if not inputs]

    def place(name: str) -> None:
        if name not in ordered:
            for before in graph[name]:
                place(before)
            ordered.append(name)

    first = {name: min((position.get(one, MAX_DRAWS) for one in _seeds(network.get_layer(name))), default=MAX_DRAWS)
             for name in graph}  # fmt: skip
    for name in sorted(graph, key=lambda one: first[one]):
        if first[name] < MAX_DRAWS:
            place(name)
    for name in _outputs(network):
        place(name)
    return [name for name in ordered if graph[name]]


def _seeds(layer: keras.Layer) -> Iterator[int]:
    """The random numbers that a layer drew when it was made: of its initializers and its generator."""
    inner = layer.layers if isinstance(layer, keras.Model) else [layer]
    for one in inner:
        yield from (
            value.seed
            for value in vars(one).values()
            if isinstance(value, keras.initializers.Initializer) and isinstance(getattr(value, "seed", None), int)
        )
        seed = _generator_seed(one)
        yield from [] if seed is None else [seed]


def _base(run: RecordedRun, base: keras.Model) -> Iterator[str]:
    """The lines that make a network of keras.applications, with the layers frozen that the run froze."""
    settings = run.config.model
    if settings.get("_target_") != pretrained_bases.TARGET:
        raise CannotBeWrittenError(f"The model has a model within it ({base.name}).")
    weights = None if run.config.init.get("from") else settings.get("weights", "imagenet")
    from_keras = weights if weights == "imagenet" else None
    more: dict[str, Any] = {name: literal(value) for name, value in dict(settings.get("arguments") or {}).items()}
    shape = literal(tuple(base.input_shape[1:]))
    function = f"keras.applications.{settings.get('base', 'MobileNetV2')}"
    made = call(function, indent=4, include_top="False", weights=literal(from_keras), input_shape=shape, **more)
    yield f"    base = {made}"
    if weights and not from_keras:
        yield f"    base.load_weights({literal(str(weights))})"
    trainable = str(settings.get("trainable", "none"))
    if trainable == "none":
        yield "    base.trainable = False"
        return
    if trainable != "all":
        yield f"    for layer in base.layers[: len(base.layers) - {trainable}]:\n        layer.trainable = False"
    yield "    for layer in base.layers:"
    yield "        if isinstance(layer, layers.BatchNormalization):\n            layer.trainable = False"
