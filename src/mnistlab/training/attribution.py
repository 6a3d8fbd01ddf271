"""What is inside a trained network: weights of the first layer, saliency of pixels, outputs of the last hidden layer.

The network is called eagerly, as it is, with the calls of some layers watched: so also nested and subclassed models are
seen into, and integer pixels, for which there are no gradients, are replaced by floats behind the model's input.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as kl

NUM_SAMPLES = 25  # noisy copies of an image
NOISE = 0.15  # standard deviation of the noise, as a share of the image's range of values; the authors: 0.1 to 0.2
BATCH_SIZE = 100
NORMALIZATIONS = (kl.Normalization, kl.BatchNormalization, kl.LayerNormalization, kl.GroupNormalization)
POOLED = (kl.Flatten, kl.GlobalAveragePooling2D, kl.GlobalMaxPooling2D)
CONVOLUTIONS = (kl.Conv2D, kl.DepthwiseConv2D, kl.SeparableConv2D)


class View:
    """Looks into a model.

    Args:
        image_shape: height, width and channels of the images that it takes, also if it takes them flat.
    """

    def __init__(self, model: keras.Model, image_shape: Sequence[int]) -> None:
        self.model = model
        self.image_shape = tuple(image_shape)
        self._layers = _inner_layers(model)
        with_weights = [layer for layer in self._layers if layer.weights and not isinstance(layer, NORMALIZATIONS)]
        self._head: keras.Layer | None = with_weights[-1] if with_weights else None
        self._first: keras.Layer | None = with_weights[0] if with_weights else None

    def first_layer(self) -> tuple[str, str, np.ndarray] | str:
        """The weights of the first layer as images: what each unit of a dense layer or each filter adds up.

        Returns:
            'units' or 'filters', the layer's name, and float32 of shape (units, height, width, channels); or why there
            are none.
        """
        layer = self._first
        if layer is None:
            return "the model has no weights"
        if isinstance(layer, kl.Conv2D):
            return "filters", layer.name, _array(layer.kernel).transpose(3, 0, 1, 2)
        size = int(np.prod(self.image_shape))
        if isinstance(layer, kl.Dense) and layer.kernel.shape[0] == size:
            return "units", layer.name, _array(layer.kernel).T.reshape(-1, *self.image_shape)
        kind = type(layer).__name__
        return f"the first layer with weights, {layer.name} ({kind}), is neither a convolution nor dense on all pixels"

    def saliency(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray | str:
        """The largest absolute gradient, of all channels, of the class's score with respect to each pixel: Simonyan,
        Vedaldi & Zisserman 2013, "Deep inside convolutional networks" (arXiv:1312.6034). The gradient is the mean over
        25 copies of the image with Gaussian noise: SmoothGrad, Smilkov et al. 2017 (arXiv:1706.03825).

        Args:
            images: raw values, shape (n, height, width, channels); classes: int, shape (n,).

        Returns:
            float32, shape (n, height, width), which depends on nothing but model, images and classes; or why there is
            none.
        """
        maps = []
        for image, label in zip(images.astype(np.float32), classes, strict=True):
            spread = NOISE * float(np.ptp(image))
            noise = np.random.default_rng(0).standard_normal((NUM_SAMPLES, *image.shape), np.float32)
            gradients = self._gradients(image + spread * noise, np.full(NUM_SAMPLES, label))
            if isinstance(gradients, str):
                return gradients
            maps.append(np.abs(gradients.mean(axis=0)).max(axis=-1))
        return np.stack(maps)

    def _gradients(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray | str:
        """Of each image's class score with respect to its values; both of shape (n, height, width, channels)."""
        pixels = tf.convert_to_tensor(images)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            scores = self._forward(pixels).scores
            total = tf.reduce_sum(_of_classes(scores, classes))
        gradients = tape.gradient(total, pixels)
        if gradients is None:
            return "the class scores have no gradient with respect to the pixels"
        return _array(gradients)

    def class_activation(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray | str:
        """Grad-CAM: Selvaraju et al. 2017 (ICCV; arXiv:1610.02391), on the last feature maps before they are flattened
        or averaged, enlarged to the size of the images.

        Args, Returns:
            as `saliency`.
        """
        layer = next((layer for layer in reversed(self._layers) if isinstance(layer, POOLED)), None)
        convolutions = [number for number, one in enumerate(self._layers) if isinstance(one, CONVOLUTIONS)]
        if layer is None or not convolutions or self._layers.index(layer) < convolutions[0]:
            return "the model has no feature maps of convolutions"
        with tf.GradientTape() as tape:
            pixels = tf.convert_to_tensor(images.astype(np.float32))
            tape.watch(pixels)
            seen = self._forward(pixels, layer)
            total = tf.reduce_sum(_of_classes(seen.scores, classes))
        maps = seen.inputs_of_watched
        gradients = None if maps is None else tape.gradient(total, maps)
        if gradients is None or len(maps.shape) != 4:
            return "the class scores have no gradient with respect to feature maps"
        importance = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        activation = tf.nn.relu(tf.reduce_sum(tf.cast(importance * maps, tf.float32), axis=-1, keepdims=True))
        return _array(tf.image.resize(activation, self.image_shape[:2]))[..., 0]

    def last_hidden(self, images: np.ndarray) -> np.ndarray | str:
        """The inputs of the last layer with weights, float32, shape (n, inputs); or why there are none."""
        found = []
        for start in range(0, len(images), BATCH_SIZE):
            inputs = self._forward(tf.convert_to_tensor(images[start : start + BATCH_SIZE])).inputs_of_head
            if inputs is None:
                return "the model has no last layer with weights that is called once for all images"
            found.append(_array(inputs).reshape(len(inputs), -1))
        return np.concatenate(found)

    def _forward(self, images: tf.Tensor, watched: keras.Layer | None = None) -> "_Seen":
        """Call the model, with raw values of any type, without the activation of its last layer with weights."""
        given = tf.reshape(images, (len(images), *self.model.input_shape[1:]))
        seen = _Seen()
        with contextlib.ExitStack() as changed:
            passed = given
            if isinstance(self.model, keras.Sequential) and not tf.as_dtype(self.model.inputs[0].dtype).is_floating:
                changed.enter_context(_wrapped(self.model.layers[0], _given(given)))
                passed = tf.zeros_like(given, self.model.inputs[0].dtype)
            if self._head is not None:
                changed.enter_context(_wrapped(self._head, seen.watch_head))
                changed.enter_context(_linear(self._head))
            if watched is not None:
                changed.enter_context(_wrapped(watched, seen.watch))
            outputs = self.model(passed, training=False)
        if seen.scores is None or seen.scores.shape != outputs.shape:
            seen.scores, seen.inputs_of_head = outputs, None
        return seen


class _Seen:
    """What passed while a model was called: the class scores, and the inputs of the head and of a watched layer; None
    where there is none."""

    def __init__(self) -> None:
        self.scores: Any = None
        self.inputs_of_head: Any = None
        self.inputs_of_watched: Any = None

    def watch_head(self, call: Callable) -> Callable:
        def watching(inputs: Any, *arguments: Any, **more: Any) -> Any:
            self.inputs_of_head = inputs
            self.scores = call(inputs, *arguments, **more)
            return self.scores

        return watching

    def watch(self, call: Callable) -> Callable:
        def watching(inputs: Any, *arguments: Any, **more: Any) -> Any:
            self.inputs_of_watched = inputs
            return call(inputs, *arguments, **more)

        return watching


def _inner_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model and of the models in it, in their order."""
    nested = [_inner_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in model.layers]
    return [layer for layers in nested for layer in layers if not isinstance(layer, kl.InputLayer)]


def _given(values: tf.Tensor) -> Callable[[Callable], Callable]:
    """Replaces a layer's inputs by these values."""

    def wrap(call: Callable) -> Callable:
        return lambda _, *arguments, **more: call(values, *arguments, **more)

    return wrap


@contextlib.contextmanager
def _wrapped(layer: keras.Layer, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Replace a layer's `call` for a while. Several may be nested."""
    before = vars(layer).get("call")
    vars(layer)["call"] = wrap(layer.call)
    try:
        yield
    finally:
        if before is None:
            del vars(layer)["call"]
        else:
            vars(layer)["call"] = before


@contextlib.contextmanager
def _linear(layer: keras.Layer) -> Iterator[None]:
    """Leave a layer's activation out for a while."""
    activation = getattr(layer, "activation", None)
    if activation is None:
        yield
        return
    layer.activation = keras.activations.linear
    try:
        yield
    finally:
        layer.activation = activation


def _of_classes(scores: tf.Tensor, classes: np.ndarray) -> tf.Tensor:
    """The score of each image's class, shape (n,); of one sigmoid unit its input for class 1, the negative for 0."""
    scores = tf.cast(scores, tf.float32)
    if scores.shape[1] == 1:
        return scores[:, 0] * tf.constant(np.where(classes == 1, 1, -1), tf.float32)
    return tf.gather(scores, classes, axis=1, batch_dims=1)


def _array(values: Any) -> np.ndarray:
    """As float32, also of 16-bit floats."""
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(values, "float32")))
