"""Points in the plane for the outputs of a network's last hidden layer: similar outputs lie close together."""

import numpy as np

MAX_IMAGES = 2000
MIN_IMAGES = 5
PCA_DIMENSIONS = 50
PERPLEXITY = 30.0


def sample_rows(num_images: int, seed: int = 0) -> np.ndarray:
    """The rows of at most 2,000 images, drawn at random with this seed, in order."""
    if num_images <= MAX_IMAGES:
        return np.arange(num_images)
    return np.sort(np.random.default_rng(seed).choice(num_images, MAX_IMAGES, replace=False))


def problem(features: np.ndarray) -> str:
    """Why these outputs have no embedding; '' if they have one."""
    if len(features) < MIN_IMAGES:
        return f"an embedding needs at least {MIN_IMAGES} images; there are {len(features)}"
    if not np.isfinite(features).all():
        return "the outputs of the last hidden layer are not finite numbers"
    if not features.std(axis=0).any():
        return "the outputs of the last hidden layer are the same for all images"
    return ""


def in_plane(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """The embedding of outputs, float, shape (n, d), in the plane, shape (n, 2).

    Principal components, at most 50, then t-SNE, which starts from the first two of them: van der Maaten & Hinton 2008,
    "Visualizing data using t-SNE" (JMLR 9).

    Raises:
        ValueError: as `problem` says.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if reason := problem(features):
        raise ValueError(reason)
    features = np.asarray(features, np.float32)
    components = min(PCA_DIMENSIONS, *features.shape)
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    with threadpool_limits(1):  # more threads wait for each other, most on busy cores: three times the work
        reduced = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(features)
        if components == 1:
            return np.column_stack([reduced[:, 0], np.zeros(len(reduced))])
        points: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return points
