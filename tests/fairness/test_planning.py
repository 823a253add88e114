"""Plans against closed forms and fresh simulations by another simulator."""

import numpy as np
import pandas as pd
import pytest
from groups import units
from scipy import stats

from reconfair.fairness import planning
from reconfair.fairness.simulation import simulate


def test_a_plan_keeps_its_power_in_studies_drawn_by_hand():
    design = planning.design(["a", "b"], tpr=0.85, prevalence=0.5, discordance=0.04)
    table = planning.plan(design, size=0.05, studies=300, seed=1)
    number = planning.needed(table)
    assert table.enough.tolist() == [False] * (len(table) - 1) + [True]
    rng, shown = np.random.default_rng(2), []
    z = stats.norm.ppf(0.95 ** (1 / 4))
    for _ in range(300):
        group = np.repeat([0, 1], number)
        label = rng.random(2 * number) < 0.5
        before = rng.random(2 * number) < 0.85
        after = np.where(before, rng.random(2 * number) >= 0.02 / 0.85, rng.random(2 * number) < 0.02 / 0.15)
        low, _ = units(group).rate_change(after, before, label).limits(z)
        shown.append((low > -0.05).all())
    assert np.mean(shown) == pytest.approx(0.8, abs=0.08)


def test_without_flips_the_number_is_that_of_the_exact_bound():
    design = planning.design(["a"], prevalence=0.5, discordance=0.0)
    table = planning.plan(design, size=0.1, patients=[40, 60, 80], studies=40)
    needed = np.log(1 - 0.95 ** (1 / 2)) / np.log(1 - 0.1)  # positives for which one bound of two is below the margin
    assert 34 < needed < 36
    assert table.power.iloc[0] == 0 and table.power.iloc[-1] > 0.5


@pytest.mark.parametrize("aim", ["shift", "unequal"])
def test_a_larger_effect_needs_fewer_patients(aim):
    design = planning.design(["a", "b"], tpr={"a": 0.9, "b": 0.7}, fpr={"a": 0.1, "b": 0.3}, prevalence=0.5)
    sizes = {"aim": aim, "patients": [100, 200, 400, 800, 1600], "studies": 60}
    large, small = (planning.needed(planning.plan(design, size=size, **sizes)) for size in (0.2, 0.08))
    assert large < small


def test_more_alike_images_and_more_tests_need_more_patients():
    sizes = {"patients": [100, 200, 300, 400, 600, 800, 1200], "studies": 60}
    alone = planning.needed(planning.plan(planning.design(["a"], prevalence=0.5), **sizes))
    many = planning.needed(planning.plan(planning.design(["a"], prevalence=0.5), tests=40, **sizes))
    images = planning.needed(planning.plan(planning.design(["a"], prevalence=0.5, images=4), **sizes))
    assert images < alone < many


def test_a_design_is_measured_on_a_study():
    table = simulate(patients=4000, share={"f": 0.5, "m": 0.5}, prevalence={"f": 0.2, "m": 0.4}, images=(2, 2), seed=3)
    keys = {"task": "t", "kind": "classify", "strategy": "standard", "dice": np.nan}
    arms = [
        table.assign(source=s, score=table[c], **keys) for s, c in (("original", "score"), ("unet", "score_source"))
    ]
    cohort = table[["patient_id", "group"]].rename(columns={"group": "sex"})
    given = {"task": "t", "attribute": "sex", "thresholds": {"t": 0.75}}
    design = planning.measured(pd.concat(arms), cohort, source="unet", **given)
    assert design.prevalence.tolist() == pytest.approx([0.2, 0.4], abs=0.02)
    assert design.images.tolist() == [2, 2]
    called = [table.score >= 0.75, table.score_source >= 0.75]
    women = table.group == "f"
    assert design.discordance["f"] == pytest.approx((called[0] != called[1])[women].mean())
    assert design.tpr["f"] == pytest.approx(called[0][women & (table.label == 1)].mean(), abs=1e-3)
    with pytest.raises(ValueError, match=r"sde.*original, unet"):
        planning.measured(pd.concat(arms), cohort, source="sde", **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tpr": {"a": 1.0, "b": 0.5}}, "'a'.*tpr is 1"),
        ({"images": 0.5}, "images is 0.5"),
        ({"discordance": -0.1}, "-0.1"),
    ],
)
def test_a_number_out_of_range_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        planning.design(["a", "b"], **change)


def test_an_aim_that_is_not_known_and_a_change_that_cannot_be_are_refused():
    design = planning.design(["a", "b"])
    with pytest.raises(ValueError, match=r"kept, shift, unequal.*'gap'"):
        planning.plan(design, aim="gap")
    with pytest.raises(ValueError, match=r"0\.9.*'a'"):
        planning.plan(design, aim="shift", size=0.9)


def test_advice_says_what_was_not_enough():
    table = pd.DataFrame({"patients": [50, 100], "power": [0.1, 0.3], "error": 0.03, "enough": False})
    assert np.isinf(planning.needed(table))
    assert planning.advice(table).startswith("More than 100 patients of each group") and "30 %" in planning.advice(
        table
    )


def test_a_discordance_that_these_rates_do_not_allow_is_refused_and_no_rate_moves():
    """Of 98 % that are called positive at most 2 % can be lost and as many be gained."""
    with pytest.raises(ValueError, match=r"group .f.: discordance is 0\.1, but with these rates at most 0\.04"):
        planning.design(["f", "m"], tpr={"f": 0.98, "m": 0.9}, discordance=0.1)
    design = planning.design(["f", "m"], tpr=0.95, fpr=0.05, discordance=0.1, prevalence=0.5)
    label, _, _, before, after = planning._draw(np.random.default_rng(0), design, 20000, np.zeros((2, 2)))
    for y in (1, 0):
        assert after[label == y].mean() == pytest.approx(before[label == y].mean(), abs=0.004)
    assert (after != before).mean() == pytest.approx(0.1, abs=0.005)


def test_a_study_whose_groups_have_too_few_cases_claims_nothing():
    design = planning.design(["f", "m"], prevalence=0.1, discordance=0.0)  # 15 of 150 patients are ill
    few, any_number = (
        planning.plan(design, size=0.3, patients=[150], studies=40, min_cases=least) for least in (20, 2)
    )
    assert few.power.item() < 0.2 < any_number.power.item()
