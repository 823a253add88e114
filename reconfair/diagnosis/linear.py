"""Ridge logistic regression, which tells from features of a network what they hold."""

import numpy as np
from scipy import special
from scipy.optimize import minimize


def ridge(x: np.ndarray, y: np.ndarray, penalty: float, least: float = 1e-8) -> tuple[np.ndarray, float]:
    """Fit a logistic regression to standardised features.

    Parameters
    ----------
    x : ndarray
        (n, features).
    y : ndarray
        (n,) 0 or 1.
    penalty : float
        Times half the squared weights of the standardised features.
    least : float
        Standard deviation below which a feature counts as constant; it gets no weight.

    Returns
    -------
    weight : ndarray
        (features,) for the features as they are.
    bias : float

    Examples
    --------
    >>> weight, bias = ridge(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1]), 0.1)
    >>> bool(weight[0] > 1), round(float(-bias / weight[0]), 3)
    (True, 1.5)
    """
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation < least] = np.inf
    z, sign = ((x - mean) / deviation).astype(np.float64), 2.0 * y - 1

    def loss(weights):
        margin = sign * (z @ weights[1:] + weights[0])
        slope, pull = -sign * special.expit(-margin), penalty * weights[1:]
        value = np.logaddexp(0, -margin).sum() + 0.5 * pull @ weights[1:]
        return value, np.concatenate([[slope.sum()], z.T @ slope + pull])

    fitted = minimize(loss, np.zeros(z.shape[1] + 1), jac=True, method="L-BFGS-B").x
    weight = fitted[1:] / deviation
    return weight, float(fitted[0] - weight @ mean)
