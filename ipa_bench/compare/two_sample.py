"""Can real and made be told apart? A classifier two-sample test, fitted on some people and asked about others.

Lopez-Paz and Oquab, "Revisiting classifier two-sample tests" (ICLR 2017). The classifier is linear, so that a few
hundred examples are enough; what it is given decides what it can see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Float64 = NDArray[np.float64]
#: folds that people are dealt into
FOLDS = 5
#: of the squared weights, for features of unit variance, over the number of examples
RIDGE = 0.1


def told_apart(
    real: Float64, made: Float64, who_real: Sequence[str], who_made: Sequence[str], folds: int = FOLDS
) -> dict[str, float]:
    """Person -> chance that a made example looks more made than a real one of the same person, ties as a half.

    ``real`` ``[n, d]`` and ``made`` ``[m, d]`` are features, ``who_*`` whose they are. 0.5: not to be told apart; 1:
    always. Each person is judged by a classifier that saw others alone; people of both sets have a value. Raises
    ValueError where fewer than two such people are there.
    """
    people = sorted(set(who_real) & set(who_made))
    if len(people) < 2:
        raise ValueError(f"two people or more are needed, got {len(people)}")
    fold_of = {person: number % min(folds, len(people)) for number, person in enumerate(people)}
    fold_real = np.array([fold_of.get(person, -1) for person in who_real])
    fold_made = np.array([fold_of.get(person, -1) for person in who_made])
    found: dict[str, float] = {}
    for fold in range(max(fold_of.values()) + 1):
        score = classifier(real[fold_real != fold], made[fold_made != fold])
        for person in (name for name in people if fold_of[name] == fold):
            mine = [index for index, name in enumerate(who_real) if name == person]
            theirs = [index for index, name in enumerate(who_made) if name == person]
            away = (made[theirs] @ score)[:, None] - (real[mine] @ score)[None, :]
            found[person] = float(((away > 0) + 0.5 * (away == 0)).mean())
    return found


def classifier(real: Float64, made: Float64) -> Float64:
    """Weights ``[d]`` of the linear score that is higher for ``made``: ridge regression of the label, classes alike."""
    both = np.concatenate([real, made])
    middle, spread = both.mean(0), both.std(0)
    spread = np.where(spread > 1e-12, spread, 1.0)
    x = (both - middle) / spread
    share = np.concatenate([np.full(len(real), 0.5 / len(real)), np.full(len(made), 0.5 / len(made))])
    label = np.concatenate([-np.ones(len(real)), np.ones(len(made))])
    x = x - share @ x
    gram = (x * share[:, None]).T @ x + RIDGE * np.eye(x.shape[1])
    weights: Float64 = np.linalg.solve(gram, x.T @ (share * label)) / spread
    return weights


def auc(higher: ArrayLike, lower: ArrayLike) -> float | None:
    """The chance that one of ``higher`` is above one of ``lower``, ties as a half; None where one of them is empty."""
    above, below = np.asarray(higher, np.float64), np.asarray(lower, np.float64)
    if not len(above) or not len(below):
        return None
    ranks = rankdata(np.concatenate([above, below]))
    return float((ranks[: len(above)].sum() / len(above) - (len(above) + 1) / 2) / len(below))
