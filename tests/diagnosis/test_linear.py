"""Logistic regression: it stands at its minimum."""

import numpy as np

from reconfair.diagnosis.linear import ridge


def test_a_ridge_has_the_slope_of_zero_at_its_minimum():
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, size=(80, 5)), rng.integers(0, 2, 80)
    x[:, 4] = 7  # a constant feature
    weight, bias = ridge(x, y, 8)
    risk, z = 1 / (1 + np.exp(-(x @ weight + bias))), (x - x.mean(0))[:, :4] / x.std(0)[:4]
    np.testing.assert_allclose(z.T @ (risk - y) + 8 * weight[:4] * x.std(0)[:4], 0, atol=1e-3)
    assert abs((risk - y).sum()) < 1e-3 and weight[4] == 0
