"""Which images to show: the most frequent confusions with examples, right predictions of many classes."""

from dataclasses import dataclass

import numpy as np

from mnistlab.evaluation.metrics import Evaluation


@dataclass(frozen=True)
class Confusion:
    """Images of class `true` that were taken for class `predicted`: how many, of how many of the class, and the rows of
    some, the most confident first."""

    true: int
    predicted: int
    count: int
    of: int
    rows: np.ndarray


def frequent_confusions(evaluated: Evaluation, count: int = 6, examples: int = 8) -> list[Confusion]:
    """The most frequent pairs of true and predicted class, at most `count`; of equally frequent ones the pair with the
    larger share of its class first."""
    wrong = evaluated.confusion.copy()
    np.fill_diagonal(wrong, 0)
    sizes = evaluated.confusion.sum(axis=1)
    true, predicted = np.nonzero(wrong)
    number = wrong[true, predicted]
    order = np.lexsort((-number / sizes[true], -number))[:count]
    found = []
    for here in order:
        pair = int(true[here]), int(predicted[here])
        rows = np.flatnonzero((evaluated.labels == pair[0]) & (evaluated.predicted == pair[1]))
        rows = rows[np.argsort(-evaluated.confidence[rows], kind="stable")][:examples]
        found.append(Confusion(*pair, int(number[here]), int(sizes[pair[0]]), rows))
    return found


def most_confident_right(evaluated: Evaluation, count: int = 8) -> np.ndarray:
    """Rows of right predictions: the most confident of every class, then the second of every class, and so on."""
    right = np.flatnonzero(evaluated.predicted == evaluated.labels)
    right = right[np.argsort(-evaluated.confidence[right], kind="stable")]
    labels = evaluated.labels[right]
    place = np.empty(len(right), int)  # among the right predictions of the class
    for label in np.unique(labels):
        place[labels == label] = np.arange(np.count_nonzero(labels == label))
    return right[np.lexsort((np.arange(len(right)), place))][:count]
