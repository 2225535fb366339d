"""Who goes with whom at the least cost: SciPy's solver, imported where it is asked.

All of ``scipy.optimize`` comes with it, which takes longer than half a second of video: clips without people that have
to be told apart do without.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def matched(cost: NDArray[np.floating], maximize: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of ``cost`` [N, M] that are paired, each min(N, M) long: the least sum, or the largest.

    Raises ValueError where no finite sum is possible.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost, maximize=maximize)
    return rows, columns
