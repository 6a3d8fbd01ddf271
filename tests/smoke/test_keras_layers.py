"""Every layer of Keras that can stand in an image classifier trains with the fused engine as with plain Keras.

Found by introspection: a layer that a later Keras adds fails the first test until it has an entry here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from mnistlab import training
from mnistlab.data import Dataset, prepare
from mnistlab.data.images import Images, Split
from mnistlab.training import models
from mnistlab.training.engine import programs
from mnistlab.training.plan import choose_engine

NO_LAYERS_OF_IMAGES = {
    "InputSpec": "describes inputs, is no layer",
    "Layer": "the base class",
    "Wrapper": "the base class of wrappers",
    "InputLayer": "is in every network here",
    "FlaxLayer": "needs JAX and Flax",
    "JaxLayer": "needs JAX",
    "TorchModuleWrapper": "needs PyTorch",
    "TFSMLayer": "needs a saved program, which cannot be trained",
    "MaxNumBoundingBoxes": "takes bounding boxes",
    "StringLookup": "takes strings",
    "TextVectorization": "takes strings",
}

Apply = Callable[[Any], Any]


def sequence(images: Any) -> Any:
    return layers.Reshape((8, 24))(images)


def volume(images: Any) -> Any:
    return layers.Reshape((4, 4, 4, 3))(images)


def flat(images: Any) -> Any:
    return layers.Flatten()(images)


def categories(images: Any) -> Any:
    return layers.Discretization(bin_boundaries=[0.25, 0.5, 0.75])(flat(images))


def category(images: Any) -> Any:
    brightest = layers.GlobalMaxPooling2D()(layers.Conv2D(1, 1, trainable=False)(images))
    return layers.Discretization(bin_boundaries=[0.1, 0.2])(brightest)


def of(name: str, *arguments: Any, before: Apply | None = None, **more: Any) -> Apply:
    """The layer of this name on the images, or on what `before` makes of them."""

    def apply(images: Any) -> Any:
        return getattr(layers, name)(*arguments, **more)(before(images) if before else images)

    return apply


def merging(name: str) -> Apply:
    return lambda images: getattr(layers, name)()([images, layers.Conv2D(3, 1)(images)])


def attending(name: str, *arguments: int) -> Apply:
    return lambda images: getattr(layers, name)(*arguments, dropout=0.2)(sequence(images), sequence(images))


def dense_attending(name: str) -> Apply:
    return lambda images: getattr(layers, name)(dropout=0.2)([sequence(images), sequence(images)])


def cells(*names: str) -> Apply:
    def apply(images: Any) -> Any:
        made = [getattr(layers, name)(4, dropout=0.2) for name in names]
        return layers.RNN(made[0] if len(made) == 1 else layers.StackedRNNCells(made))(sequence(images))

    return apply


def adapted(name: str, **arguments: Any) -> Apply:
    def apply(images: Any) -> Any:
        layer = getattr(layers, name)(**arguments)
        layer.adapt(np.random.default_rng(1).random((8, 8, 8, 3)).astype(np.float32))
        return layer(images)

    return apply


RANGE: dict[str, Any] = {"value_range": (0, 1)}
JITTER = dict.fromkeys(("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor"), 0.2)
GROUPS: dict[str, dict[str, Apply]] = {
    "simple": {
        "Activation": of("Activation", "relu"),
        "ActivityRegularization": of("ActivityRegularization", 0.01),
        **{name: of(name) for name in ("ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax", "Identity", "Flatten")},
        "Dense": of("Dense", 4),
        "EinsumDense": of("EinsumDense", "abcd,de->abce", output_shape=(8, 8, 4)),
        "Lambda": of("Lambda", lambda images: images * 2),
        "Masking": lambda images: layers.LSTM(2)(layers.Masking()(sequence(images))),
        "Permute": of("Permute", (2, 1, 3)),
        "RepeatVector": of("RepeatVector", 3, before=flat),
        "Rescaling": of("Rescaling", 2.0, 0.1),
        "Reshape": of("Reshape", (4, 16, 3)),
        "CenterCrop": of("CenterCrop", 6, 6),
        "Resizing": of("Resizing", 6, 6),
        "Discretization": of("Discretization", bin_boundaries=[0.25, 0.5, 0.75]),
        "adapted Discretization": adapted("Discretization", num_bins=4),
        "Normalization": of("Normalization", mean=0.3, variance=0.2),
        "adapted Normalization": adapted("Normalization", axis=-1),
        "CategoryEncoding": of("CategoryEncoding", 4, before=categories),
        "Embedding": of("Embedding", 4, 2, before=categories),
        "ReversibleEmbedding": of("ReversibleEmbedding", 4, 2, before=categories),
        "Hashing": of("Hashing", 5, before=categories),
        "HashedCrossing": lambda images: layers.HashedCrossing(5)((category(images), category(images))),
        "IntegerLookup": of("IntegerLookup", vocabulary=[1, 2, 3], before=categories),
        "MelSpectrogram": of(
            "MelSpectrogram", num_mel_bins=8, sampling_rate=100, sequence_stride=16, fft_length=32, before=flat
        ),
        "STFTSpectrogram": of(
            "STFTSpectrogram",
            frame_length=16,
            frame_step=8,
            fft_length=16,
            before=lambda images: layers.Reshape((192, 1))(images),
        ),
    },
    "merging and normalizing": {
        **{
            name: merging(name)
            for name in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
        },
        "Dot": lambda images: layers.Dot(axes=(1, 1))([sequence(images), layers.Dense(4)(sequence(images))]),
        "AdditiveAttention": dense_attending("AdditiveAttention"),
        "Attention": dense_attending("Attention"),
        "MultiHeadAttention": attending("MultiHeadAttention", 2, 4),
        "GroupQueryAttention": attending("GroupQueryAttention", 4, 4, 2),
        **{
            name: of(name)
            for name in ("BatchNormalization", "LayerNormalization", "RMSNormalization", "UnitNormalization")
        },
        "GroupNormalization": of("GroupNormalization", 3),
        "SpectralNormalization": lambda images: layers.SpectralNormalization(layers.Conv2D(2, 2))(images),
        **{name: of(name, 0.3) for name in ("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise")},
        "SpatialDropout1D": of("SpatialDropout1D", 0.3, before=sequence),
        "SpatialDropout2D": of("SpatialDropout2D", 0.3),
        "SpatialDropout3D": of("SpatialDropout3D", 0.3, before=volume),
    },
    "convolutions": {
        f"{name}{rank}D": of(f"{name}{rank}D", *arguments, before=before)
        for rank, before in ((1, sequence), (2, None), (3, volume))
        for name, arguments in (
            ("Conv", (2, 2)),
            *((("DepthwiseConv", (2,)), ("SeparableConv", (2, 2))) if rank < 3 else ()),
            ("Cropping", ()),
            ("ZeroPadding", ()),
            ("UpSampling", ()),
            ("AveragePooling", (2,)),
            ("MaxPooling", (2,)),
            ("GlobalAveragePooling", ()),
            ("GlobalMaxPooling", ()),
            ("AdaptiveAveragePooling", (2,)),
            ("AdaptiveMaxPooling", (2,)),
        )
    },
    "recurrent, transposed": {
        **{
            name: of(name, 4, dropout=0.2, recurrent_dropout=0.2, before=sequence)
            for name in ("GRU", "LSTM", "SimpleRNN")
        },
        "Bidirectional": lambda images: layers.Bidirectional(layers.LSTM(4, dropout=0.2))(sequence(images)),
        **{name: cells(name) for name in ("GRUCell", "LSTMCell", "SimpleRNNCell")},
        "RNN": cells("GRUCell"),
        "StackedRNNCells": cells("GRUCell", "LSTMCell"),
        "TimeDistributed": lambda images: layers.TimeDistributed(layers.Dense(4))(sequence(images)),
        "Conv1DTranspose": of("Conv1DTranspose", 2, 2, before=sequence),
        "Conv2DTranspose": of("Conv2DTranspose", 2, 2),
        "Conv3DTranspose": of("Conv3DTranspose", 2, 2, before=volume),
        "ConvLSTM1D": of("ConvLSTM1D", 2, 2, before=lambda images: layers.Reshape((4, 8, 6))(images)),
        "ConvLSTM2D": of("ConvLSTM2D", 2, 2, before=volume),
        "ConvLSTM3D": of("ConvLSTM3D", 2, 2, before=lambda images: layers.Reshape((3, 4, 4, 2, 2))(images)),
    },
    "augmenting": {
        **{name: of(name, **RANGE) for name in ("AutoContrast", "Equalization", "RandAugment", "Solarization")},
        **{name: of(name) for name in ("CutMix", "MixUp", "RandomFlip")},
        **{
            name: of(name, 0.5, **RANGE)
            for name in (
                *(
                    "RandomBrightness",
                    "RandomColorDegeneration",
                    "RandomContrast",
                    "RandomErasing",
                    "RandomGaussianBlur",
                ),
                *("RandomHue", "RandomInvert", "RandomSaturation", "RandomSharpness"),
            )
        },
        "ContrastLimitedAdaptiveHistogramEqualization": of(
            "ContrastLimitedAdaptiveHistogramEqualization", tile_grid_size=(2, 2), **RANGE
        ),
        "RandomColorJitter": of("RandomColorJitter", **JITTER, **RANGE),
        "RandomCrop": of("RandomCrop", 8, 8),
        "RandomGrayscale": of("RandomGrayscale", 0.5),
        "RandomPerspective": of("RandomPerspective", 0.8, 0.5),
        "RandomPosterization": of("RandomPosterization", 4, **RANGE),
        "RandomRotation": of("RandomRotation", 0.2),
        "RandomShear": of("RandomShear", 0.3, 0.3),
        "RandomTranslation": of("RandomTranslation", 0.2, 0.2),
        "RandomZoom": of("RandomZoom", 0.2),
        "Pipeline": lambda images: layers.Pipeline([layers.RandomFlip(), layers.RandomBrightness(0.2, **RANGE)])(
            images
        ),
    },
}
# Two Lambdas of one configuration may differ; the statistics of an adapted Normalization are not in its configuration;
# Keras cannot make RandomShear from it.
NOT_COPIED = ("Lambda", "adapted Normalization", "RandomShear")
KERAS_ONLY = {
    "AugMix": (of("AugMix", **RANGE), "draws random numbers of Python or NumPy: others each time that it is compiled"),
    "RandomElasticTransform": (
        of("RandomElasticTransform", 0.5, 0.5),
        "treats the images of a batch in another way there than in a compiled program",
    ),
}


def test_every_layer_of_keras_has_an_entry() -> None:
    tried = [getattr(layers, name) for name in (*set().union(*GROUPS.values()), *KERAS_ONLY) if " " not in name]
    names: dict[type, str] = {}
    for name, found in inspect.getmembers(layers, inspect.isclass):
        names.setdefault(found, name)
    missing = {name for found, name in names.items() if found not in tried}
    assert missing == set(NO_LAYERS_OF_IMAGES)


@functools.cache
def tiny(num_validation: int = 4) -> Dataset:
    """16 training images of 8 x 8 x 3 pixels in two classes."""
    generator = np.random.default_rng(0)
    counts = (16, num_validation)
    splits = [
        Split(generator.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8), np.arange(count) % 2) for count in counts
    ]
    return prepare(Images("tiny", *splits, class_names=("a", "b"), origin="made by the test"), validation="test")


def network_of(branches: dict[str, Apply]) -> keras.Model:
    """The layers side by side; each has a share of the output."""
    training.start_job(0, deterministic=False)
    images = keras.Input((8, 8, 3))
    votes = []
    for apply in branches.values():
        features = layers.Activation("tanh")(layers.Flatten()(apply(images)))
        votes.append(layers.Dense(2, activation="softmax")(features))
    outputs = layers.Average()(votes) if len(votes) > 1 else votes[0]
    model = models.with_preprocessing(keras.Model(images, outputs), (8, 8, 3), "unit")
    training.compile_model(model, keras.optimizers.SGD(0.5), loss="auto", metrics=["accuracy"], labels="one_hot")
    return model


def losses(branches: dict[str, Apply], engine: str, data: Dataset) -> tuple[str, list[float]]:
    programs._programs.clear()
    model = network_of(branches)
    plan = training.plan_fit(model, data, epochs=2, batch_size=4, seed=0, engine=engine)
    history = training.fit(model, data, plan).history
    return plan.engine, [row[name] for row in history for name in ("loss", "val_loss")]


@pytest.mark.parametrize(
    "group", [pytest.param(one, marks=pytest.mark.long if one == "augmenting" else ()) for one in GROUPS]
)
def test_the_copy_of_every_layer_gives_its_loss_and_gradients(group: str) -> None:
    """Eagerly, which takes a tenth of a training; the network may then be trained by its copy."""
    programs._programs.clear()
    model = network_of({name: apply for name, apply in GROUPS[group].items() if name not in NOT_COPIED})
    assert choose_engine("fused", model, tiny(), 4.0) == "fused"
    copied = programs.program_for(model).model
    assert copied is not model
    assert list(map(type, copied.layers)) == list(map(type, model.layers))


@pytest.mark.parametrize("name", NOT_COPIED)
def test_a_layer_that_cannot_be_copied_trains_itself(name: str) -> None:
    (apply,) = (group[name] for group in GROUPS.values() if name in group)
    model = network_of({name: apply})
    assert choose_engine("fused", model, tiny(), 4.0) == "fused"
    assert programs.program_for(model).model is model


@pytest.mark.long
def test_layers_with_state_and_random_numbers_train_with_the_fused_engine_as_with_keras() -> None:
    """One of each kind: all others are in the same way variables of Keras. Keras evaluates 1,000 images at a time, and
    some layers draw numbers in each evaluation that they do not use."""
    names = ("BatchNormalization", "Dropout", "SimpleRNN", "RandomHue", "RandomTranslation", "adapted Normalization")
    branches = {name: apply for group in GROUPS.values() for name, apply in group.items() if name in names}
    assert set(branches) == set(names)
    engine, ours = losses(branches, "auto", tiny(1001))
    assert engine == "fused"
    assert ours == pytest.approx(losses(branches, "keras", tiny(1001))[1], rel=1e-5)


@pytest.mark.parametrize("name", KERAS_ONLY)
def test_a_layer_that_cannot_be_compiled_alike_trains_with_keras(name: str, caplog) -> None:
    apply, reason = KERAS_ONLY[name]
    assert choose_engine("auto", network_of({name: apply}), tiny(), 4.0) == "keras"
    (message,) = (text for text in caplog.messages if text.startswith("Training with plain Keras"))
    assert message.startswith("Training with plain Keras: layer ")
    assert message.endswith(f"({name}) {reason}.")
