"""What is seen inside a network, against closed forms: saliency, feature maps, hidden outputs, weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as kl

from mnistlab.training import models, precision
from mnistlab.training.attribution import View

SHAPE = (6, 5, 1)
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (4, *SHAPE)).astype(np.uint8)
CLASSES = np.array([0, 2, 1, 2])


def classifier(*layers: keras.Layer, num_outputs: int = 3, shape=SHAPE, dtype: str = "uint8") -> keras.Model:
    activation = "sigmoid" if num_outputs == 1 else "softmax"
    return models.with_preprocessing(
        models.stack(shape, num_outputs, activation, layers=layers), shape, "unit", dtype=dtype
    )


def view(*layers: keras.Layer, shape=SHAPE, **more) -> View:
    return View(classifier(*layers, shape=shape, **more), shape)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_saliency_of_a_linear_softmax_model_is_its_weights(dtype: str) -> None:
    """Score of class c: w_c * (pixel / 255) + b_c, whatever the image and its noise."""
    seen = view(kl.Flatten(), dtype=dtype)
    kernel = np.asarray(seen.model.layers[-1].kernel)
    expected = np.abs(kernel[:, CLASSES].T / 255).reshape(4, 6, 5)
    np.testing.assert_allclose(seen.saliency(IMAGES.astype(dtype), CLASSES), expected, rtol=1e-5)


def test_of_several_channels_the_largest_gradient_counts() -> None:
    shape = (6, 5, 3)
    seen = view(kl.Flatten(), shape=shape)
    images = GENERATOR.integers(0, 256, (4, *shape)).astype(np.uint8)
    kernel = np.asarray(seen.model.layers[-1].kernel)
    expected = np.abs(kernel[:, CLASSES].T / 255).reshape(4, *shape).max(axis=-1)
    np.testing.assert_allclose(seen.saliency(images, CLASSES), expected, rtol=1e-5)


def test_one_sigmoid_unit_has_a_score_for_both_classes() -> None:
    seen = view(kl.Flatten(), num_outputs=1)
    kernel = np.asarray(seen.model.layers[-1].kernel)[:, 0]
    found = seen.saliency(IMAGES[:2], np.array([0, 1]))
    np.testing.assert_allclose(found, np.abs(np.stack([kernel, kernel]) / 255).reshape(2, 6, 5), rtol=1e-5)
    hidden = view(kl.Conv2D(2, 3, padding="same"), kl.Flatten(), num_outputs=1)
    positive, negative = (hidden.class_activation(IMAGES[:1], np.array([label])) for label in (1, 0))
    assert (positive + negative).any() and not (positive * negative).any()


def test_the_noise_smooths_and_repeats() -> None:
    seen = view(kl.Flatten(), kl.Dense(16, activation="relu"))
    first = seen.saliency(IMAGES, CLASSES)
    np.testing.assert_array_equal(first, seen.saliency(IMAGES, CLASSES))
    np.testing.assert_array_equal(first[2:3], seen.saliency(IMAGES[2:3], CLASSES[2:3]))


def test_grad_cam_of_a_linear_head() -> None:
    """Average pooling, so that the gradient of a score with respect to map k is w_k / area everywhere."""
    seen = view(kl.Conv2D(4, 3, padding="same", activation="relu"), kl.GlobalAveragePooling2D())
    maps = np.asarray(seen.model.layers[1](IMAGES / np.float32(255)))
    kernel = np.asarray(seen.model.layers[-1].kernel)
    expected = np.maximum(0, np.einsum("nhwk,kn->nhw", maps, kernel[:, CLASSES])) / 30
    np.testing.assert_allclose(seen.class_activation(IMAGES, CLASSES), expected, atol=1e-7)


def test_without_feature_maps_there_is_no_grad_cam() -> None:
    assert view(kl.Flatten()).class_activation(IMAGES, CLASSES) == "the model has no feature maps of convolutions"


def test_the_last_hidden_outputs_give_the_probabilities() -> None:
    seen = view(kl.Flatten(), kl.Dense(7, activation="relu"), kl.BatchNormalization(), kl.Dropout(0.5))
    hidden, head = seen.last_hidden(IMAGES), seen.model.layers[-1]
    assert hidden.shape == (4, 7)
    scores = hidden @ np.asarray(head.kernel) + np.asarray(head.bias)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, seen.model.predict(IMAGES, verbose=0), atol=1e-6)
    assert head.activation is keras.activations.softmax
    assert not [layer for layer in seen.model.layers if "call" in vars(layer)]


@pytest.mark.parametrize("policy", [None, "mixed_bfloat16", "mixed_float16", "float64"])
def test_nested_models_of_any_precision(policy: str | None) -> None:
    """A network with branches within the classifier; the softmax is a layer of its own."""
    with precision.policy(policy):
        images = keras.Input(SHAPE)
        maps = kl.Conv2D(4, 3, padding="same")(images)
        maps = kl.Add()([maps, kl.Conv2D(4, 1)(maps)])
        outputs = kl.Softmax(dtype="float32")(kl.Dense(3)(kl.GlobalAveragePooling2D()(maps)))
        network = keras.Model(images, outputs)
    seen = View(models.with_preprocessing(network, SHAPE, "unit"), SHAPE)
    kind, _, weights = seen.first_layer()
    assert (kind, weights.shape, weights.dtype) == ("filters", (4, 3, 3, 1), np.float32)
    np.testing.assert_allclose(weights[2, ..., 0], np.asarray(network.layers[1].kernel, np.float32)[..., 0, 2])
    assert seen.last_hidden(IMAGES).shape == (4, 4)
    for found in (seen.saliency(IMAGES, CLASSES), seen.class_activation(IMAGES, CLASSES)):
        assert (found.shape, found.dtype) == ((4, 6, 5), np.float32)
        assert np.isfinite(found).all() and found.min() >= 0
    assert seen.saliency(IMAGES, CLASSES).max() > 0


def test_the_weights_of_a_dense_layer_are_images() -> None:
    seen = view(kl.Flatten(), kl.Dense(8))
    kind, _, weights = seen.first_layer()
    assert (kind, weights.shape) == ("units", (8, *SHAPE))
    kernel = np.asarray(seen.model.layers[2].kernel)
    np.testing.assert_array_equal(weights[3].ravel(), kernel[:, 3])
    with_normalization = view(kl.BatchNormalization(), kl.Flatten(), kl.Dense(8))
    assert with_normalization.first_layer()[2].shape == (8, *SHAPE)


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        ([kl.DepthwiseConv2D(3), kl.Flatten()], "DepthwiseConv2D"),
        ([kl.Reshape((6, 5)), kl.LSTM(4)], "LSTM"),
        ([kl.AveragePooling2D(2), kl.Flatten(), kl.Dense(4)], "Dense"),
    ],
    ids=["depthwise", "recurrent", "pooled"],
)
def test_other_first_layers_have_no_picture(layers: list[keras.Layer], kind: str) -> None:
    seen = view(*layers)
    reason = seen.first_layer()
    assert f"({kind}), is neither a convolution nor dense on all pixels" in reason
    assert isinstance(seen.saliency(IMAGES, CLASSES), np.ndarray)
    assert isinstance(seen.last_hidden(IMAGES), np.ndarray)


def test_a_model_of_another_program_that_takes_flat_or_integer_images() -> None:
    flat = keras.Sequential([keras.Input((30,)), kl.Dense(3, activation="softmax")])
    seen = View(flat, SHAPE)
    assert seen.first_layer()[2].shape == (3, *SHAPE)
    expected = np.abs(np.asarray(flat.layers[0].kernel)[:, CLASSES].T).reshape(4, 6, 5)
    np.testing.assert_allclose(seen.saliency(IMAGES / np.float32(255), CLASSES), expected, rtol=1e-5)
    images = keras.Input(SHAPE, dtype="int32")
    integers = keras.Model(images, kl.Dense(3)(kl.Flatten()(kl.Rescaling(1 / 255)(images))))
    found = View(integers, SHAPE)
    assert found.saliency(IMAGES, CLASSES) == "the class scores have no gradient with respect to the pixels"
    assert found.last_hidden(IMAGES).shape == (4, 30)


def test_scores_that_are_no_layer_s_outputs() -> None:
    """A convolution, averaged: the head has other outputs than the model, so the model's own are explained."""
    seen = View(
        models.with_preprocessing(
            keras.Sequential([keras.Input(SHAPE), kl.Conv2D(3, 3), kl.GlobalAveragePooling2D(), kl.Softmax()]),
            SHAPE,
            "unit",
        ),
        SHAPE,
    )
    assert seen.saliency(IMAGES, CLASSES).max() > 0
    assert seen.last_hidden(IMAGES) == "the model has no last layer with weights that is called once for all images"
