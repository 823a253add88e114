"""Predictions whose true rates are known: a binormal simulator of patients with several images."""

import numpy as np
import pandas as pd
from scipy.stats import norm

_PATIENT, _OWN = 0.4, 0.15  # shares of the variance of a score: the patient's, and not shared between sources


def simulate(*, patients, share, prevalence=0.2, separation=1.5, offset=0.0, change=0.0, images=(1, 5), seed=0):
    """Draw labels and the scores of two sources, with closed forms for what is true of each group.

    On a normal scale, images of label y in group a score N(offset_a + y separation_a, 1) in the
    original and N(offset_a + y (separation_a + change_a), 1) in the other source; ``score`` is the
    normal distribution function of that. With z = norm.ppf(t), called positive at scores of t or more,

    - FPR = norm.cdf(offset - z), TPR = norm.cdf(offset + separation - z),
    - AUROC = norm.cdf(separation / sqrt(2)).

    Scores of a patient's images correlate by 0.40 given the labels, the two sources by 0.85.

    Parameters
    ----------
    patients : int
    share : dict of float
        Share of the patients by group; those of no group have the group None.
    prevalence, separation, offset, change : float or dict of float
        The same for all groups, or by group. A patient's prevalence is Beta(2 p, 2 (1 - p)).
    images : tuple of int
        Fewest and most images of a patient, all numbers between equally often.
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row per image: ``unit, patient_id, group, label`` (0, 1), ``score``, ``score_source`` (0 to 1).

    Examples
    --------
    >>> simulate(patients=2, share={"a": 1.0}, images=(1, 1)).columns.tolist()
    ['unit', 'patient_id', 'group', 'label', 'score', 'score_source']
    """
    rng = np.random.default_rng(seed)
    names, shares = [*share, None], [*share.values(), max(0.0, 1 - sum(share.values()))]
    group = rng.choice(len(names), size=patients, p=np.divide(shares, sum(shares)))
    given = (prevalence, separation, offset, change)
    given = [value if isinstance(value, dict) else dict.fromkeys(names, value) for value in given]
    # Those of no group are like the average of the others.
    p, *means = (np.array([each.get(name, np.mean([*each.values()])) for name in names])[group] for each in given)
    patient = np.repeat(np.arange(patients), rng.integers(images[0], images[1] + 1, patients))
    label = (rng.random(patient.size) < rng.beta(2 * p, 2 * (1 - p))[patient]).astype(float)
    separation, offset, change = (mean[patient] for mean in means)
    shared = np.sqrt(_PATIENT) * rng.normal(size=patients)[patient]
    shared += np.sqrt(1 - _PATIENT - _OWN) * rng.normal(size=patient.size)
    separate = np.sqrt(_OWN) * rng.normal(size=(2, patient.size))
    return pd.DataFrame(
        {
            "unit": np.arange(patient.size),
            "patient_id": patient,
            "group": np.array(names, object)[group[patient]],
            "label": label,
            "score": norm.cdf(offset + label * separation + shared + separate[0]),
            "score_source": norm.cdf(offset + label * (separation + change) + shared + separate[1]),
        }
    )
