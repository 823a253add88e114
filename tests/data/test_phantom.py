"""Phantom cohorts: what was planted must be found again, by means other than those that planted it."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import chi2_contingency, mannwhitneyu, spearmanr

from reconfair import data, params
from reconfair.data import phantom_mri, phantom_xray

SEPARATION = {"phantom_mri": phantom_mri.SEPARATION, "phantom_xray": phantom_xray.SEPARATION}
both = pytest.mark.parametrize("name", ["phantom_mri", "phantom_xray"])


def dataset(name, **settings):
    return data.DATASETS[name](name=name, **({"size": 64, "patients": 40, "seed": 7} | settings))


def cohort(name, **settings):
    settings = dataset(name, **settings)
    return settings, settings.read_table()


def draw(name, settings, rows):
    drawn = [settings.read_image(row) for row in rows.itertuples()]
    return np.array([x for x, _ in drawn]), [mask for _, mask in drawn]


def auroc(label, score):
    """Area under the curve, as the Mann-Whitney statistic."""
    positive, negative = score[label == 1], score[label == 0]
    return mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))


@both
def test_images_are_float32_in_the_unit_interval(name):
    settings, rows = cohort(name)
    x, _ = draw(name, settings, rows[:20])
    assert x.dtype == np.float32 and x.shape == (20, 64, 64)
    assert x.min() >= 0 and x.max() <= 1 and np.quantile(x, 0.99) > 0.5
    assert x[:, :4, :4].mean() < 0.05  # air in the corner


@both
def test_table_has_known_groups_and_binary_labels(name):
    _, rows = cohort(name, patients=300)
    assert rows.image_id.is_unique and set(rows.sex) == set(params.SEXES) and set(rows.race) <= set(params.RACES)
    assert rows.age.between(18, 90).all() and np.issubdtype(rows.age.dtype, np.integer)
    labels = [task for task, kind in data.DATASETS[name].about.tasks.items() if kind == "classify"]
    assert rows[labels].isin([0.0, 1.0]).all(axis=None) and not rows.isna().any(axis=None)
    assert (rows.groupby("patient_id")[["sex", "age", "race"]].nunique() == 1).all(axis=None)


@both
def test_shares_are_realistic_and_unequal(name):
    _, rows = cohort(name, patients=4000)
    who = rows.drop_duplicates("patient_id")
    assert 0.38 < (who.sex == "female").mean() < 0.48
    assert 54 < who.age.median() < 65
    race = who.race.value_counts(normalize=True)
    assert list(race.index) == list(params.RACES)  # in the order of their size
    # CheXpert's shares in the paper's table 5: 36110 and 176 of 56810, each within four standard errors.
    for group, share in (("White", 36110 / 56810), ("American Indian/Alaska Native", 176 / 56810)):
        assert abs(race[group] - share) < 4 * np.sqrt(share * (1 - share) / len(who))


def test_images_of_a_patient():
    _, mri = cohort("phantom_mri")
    assert (mri.patient_id.value_counts() == 4).all()
    assert (mri.groupby("patient_id")[["grade", "type"]].nunique() == 1).all(axis=None)
    _, xray = cohort("phantom_xray", patients=2000)
    number = xray.patient_id.value_counts()
    assert set(number) == {1, 2, 3} and 1.3 < number.mean() < 1.5
    pair = xray[xray.patient_id.isin(number[number > 1].index)].groupby("patient_id").effusion
    agree = (pair.nth(0).to_numpy() == pair.nth(1).to_numpy()).mean()
    assert 0.7 < agree < 0.95  # independent images would agree in 0.35^2 + 0.65^2 = 0.55


def test_mask_lies_in_the_head_and_is_empty_only_where_the_table_says():
    settings, rows = cohort("phantom_mri")
    x, masks = draw("phantom_mri", settings, rows)
    for slice_, mask, tumour in zip(x, masks, rows.z_tumour, strict=True):
        assert mask.dtype == bool and mask.any() == bool(tumour)
        across, down = np.nonzero(slice_.max(0) > 0.3)[0], np.nonzero(slice_.max(1) > 0.3)[0]  # the scalp
        box = np.zeros_like(mask)
        box[down[0] + 3 : down[-1] - 2, across[0] + 3 : across[-1] - 2] = True
        assert not (mask & ~box).any()
    assert 0.15 < 1 - rows.z_tumour.mean() < 0.35


@both
def test_an_image_does_not_depend_on_what_was_drawn_before(name):
    settings, rows = cohort(name)
    x, _ = draw(name, settings, rows[:6])
    y, _ = draw(name, settings, rows[:6].iloc[::-1])
    np.testing.assert_array_equal(x, y[::-1])
    other, _ = draw(name, dataset(name, seed=8), rows[:6])
    assert (x != other).any(axis=(1, 2)).all()


@both
def test_more_patients_leave_the_first_ones_as_they_were(name):
    _, few = cohort(name)
    _, many = cohort(name, patients=90)
    assert many.iloc[: len(few)].equals(few)


@both
def test_the_same_anatomy_at_every_size(name):
    settings, rows = cohort(name)
    small, _ = draw(name, settings, rows[:8])
    large, _ = draw(name, dataset(name, size=128), rows[:8])
    halved = large.reshape(8, 64, 2, 64, 2).mean((2, 4))
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, halved, strict=True)) > 0.97


@both
def test_bones_and_edges_are_sharper_at_256(name):
    settings, rows = cohort(name, size=256)
    x, _ = draw(name, settings, rows[:2])
    blocks = x.reshape(2, 64, 4, 64, 4)
    assert (blocks - blocks.mean((2, 4), keepdims=True)).std() > 0.02  # detail that 64 pixels cannot hold


def test_contrast_dial_scales_the_lesion():
    dials = {"contrast": {"sex": {"female": -0.5}}}
    plain, rows = cohort("phantom_mri", patients=60)
    dialled, weaker = cohort("phantom_mri", patients=60, dials=dials)
    shows = rows.z_tumour == 1

    def contrast(settings, rows):
        rows = rows[shows]
        x, masks = draw("phantom_mri", settings, rows)
        bare, _ = draw("phantom_mri", settings, rows.assign(z_contrast=0.0))
        return np.array([(a - b)[mask].mean() for a, b, mask in zip(x, bare, masks, strict=True)])

    ratio = contrast(dialled, weaker).clip(1e-6) / contrast(plain, rows).clip(1e-6)
    women = (rows.sex == "female")[shows].to_numpy()
    np.testing.assert_array_equal(ratio[~women], 1)
    assert abs(np.median(ratio[women]) - 0.5) < 0.03


def test_dials_of_several_attributes_multiply_or_add():
    dials = {"contrast": {"sex": {"male": -0.5}, "age_group": {"older": 0.2}}}
    _, plain = cohort("phantom_mri", patients=300)
    _, dialled = cohort("phantom_mri", patients=300, dials=dials)
    older = dialled.age > dialled.drop_duplicates("patient_id").age.median()
    expected = np.where(dialled.sex == "male", 0.5, 1.0) * np.where(older, 1.2, 1.0)
    np.testing.assert_allclose(dialled.z_contrast / plain.z_contrast, expected)


@pytest.mark.parametrize(("name", "label"), [("phantom_mri", "grade"), ("phantom_xray", "effusion")])
def test_prevalence_dial_adds_to_the_probability(name, label):
    dials = {"prevalence": {"race": {"Black": 0.3}, "sex": {"female": 0.1}}}
    _, plain = cohort(name, patients=8000)
    _, dialled = cohort(name, patients=8000, dials=dials)
    for sex, black, shift in (("male", False, 0), ("female", False, 0.1), ("male", True, 0.3), ("female", True, 0.4)):
        group = (plain.sex == sex) & ((plain.race == "Black") == black)
        rise = dialled[label][group].mean() - plain[label][group].mean()
        n = plain[group].patient_id.nunique()
        assert abs(rise - shift) < 4 * np.sqrt(0.25 / n) and (shift or rise == 0)


@pytest.mark.parametrize(("name", "label"), [("phantom_mri", "type"), ("phantom_xray", "nodule")])
def test_label_noise_dial_flips_that_share_and_leaves_the_images(name, label):
    dials = {"label_noise": {"race": {"Asian": 0.25}}}
    _, plain = cohort(name, patients=6000)
    _, dialled = cohort(name, patients=6000, dials=dials)
    asian = plain.race == "Asian"
    flipped = plain[label] != dialled[label]
    assert not flipped[~asian].any()
    assert abs(flipped[asian].mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / plain[asian].patient_id.nunique())
    latent = [column for column in plain if column.startswith("z_")]
    assert plain[latent].equals(dialled[latent])


@both
def test_null_gives_other_attributes_the_same_images_and_labels(name):
    plain, rows = cohort(name)
    null, other = cohort(name, null=True)
    assert (rows.sex != other.sex).any() and (rows.age != other.age).any() and (rows.race != other.race).any()
    same = [column for column in rows if column not in ("sex", "age", "race")]
    assert rows[same].equals(other[same])
    np.testing.assert_array_equal(draw(name, plain, rows[:6])[0], draw(name, null, other[:6])[0])


@both
def test_null_attributes_are_independent_of_everything(name):
    _, rows = cohort(name, patients=5000, null=True)
    number = rows.patient_id.map(rows.patient_id.value_counts())
    who = rows.assign(number=number).drop_duplicates("patient_id")
    shown = (who.sex == "female", who.age > who.age.median(), who.race == "White")
    hidden = [who[column] > who[column].median() for column in who if column.startswith("z_")]
    facts = [*hidden, who.number > 1, *(who[task] == 1 for task in data.DATASETS[name].about.tasks if task in who)]
    facts = [fact for fact in facts if fact.nunique() == 2]
    p = [chi2_contingency(np.histogram2d(a, b, 2)[0]).pvalue for a in shown for b in facts]
    assert len(p) > 30 and min(p) > 0.05 / len(p)


def test_ventricles_and_sulci_grow_with_age():
    settings, rows = cohort("phantom_mri", patients=60)
    rows = rows[rows.image_id.str.endswith("-1")]
    x, _ = draw("phantom_mri", settings, rows.assign(z_tumour=0.0))
    middle = (x[:, 16:48, 22:42] < 0.2).sum((1, 2))  # dark pixels amid the brain: fluid
    assert spearmanr(rows.age, middle).statistic > 0.6


def test_heads_of_men_are_larger():
    settings, rows = cohort("phantom_mri", patients=120)
    rows = rows[rows.image_id.str.endswith("-0")]
    area = (draw("phantom_mri", settings, rows)[0] > 0.2).any(1).sum(1)  # columns the head covers
    assert auroc((rows.sex == "male").to_numpy(), area) > 0.65


def test_breast_shadow_shows_sex():
    settings, rows = cohort("phantom_xray", patients=120)
    findings = {f"z_{finding}": -9.0 for finding in phantom_xray.PREVALENCE}
    x, _ = draw("phantom_xray", settings, rows.assign(**findings))
    lower = x[:, 40:45, 13:20].mean((1, 2)) - x[:, 22:30, 13:20].mean((1, 2))
    assert auroc((rows.sex == "female").to_numpy(), lower) > 0.9


@both
def test_race_leaves_the_anatomy_alone(name):
    _, rows = cohort(name, patients=5000)
    who = rows.drop_duplicates("patient_id")
    columns = [column for column in who if column.startswith("z_")]
    scores = [auroc((who.race == "White").to_numpy(), who[column].to_numpy()) for column in columns]
    assert max(abs(score - 0.5) for score in scores) < 0.04


@pytest.mark.parametrize(("name", "label", "cue"), [
    ("phantom_mri", "grade", "z_severity"),
    ("phantom_mri", "type", "z_margin"),
    ("phantom_xray", "effusion", "z_effusion"),
])  # fmt: skip
def test_latent_cue_bounds_what_any_classifier_can_reach(name, label, cue):
    _, rows = cohort(name, patients=4000)
    who = rows.drop_duplicates("patient_id")
    ideal = NormalDist().cdf(SEPARATION[name] / np.sqrt(2))  # two normal classes of equal variance
    assert 0.94 < ideal < 0.97
    assert abs(auroc(who[label].to_numpy(), who[cue].to_numpy()) - ideal) < 0.015


def test_grade_and_type_can_be_read_from_the_image():
    settings, rows = cohort("phantom_mri", patients=150)
    rows = rows[rows.z_tumour == 1]
    x, masks = draw("phantom_mri", settings, rows)
    y, z = np.mgrid[:64, :64]
    score = []
    for slice_, mask in zip(x, masks, strict=True):
        r = np.hypot(y - y[mask].mean(), z - z[mask].mean()) / np.sqrt(mask.sum() / np.pi)
        core, rim, ring = (
            slice_[m & (slice_ > 0.15)].mean() for m in (r < 0.4, (r > 0.5) & (r < 1), (r > 1.1) & (r < 1.4))
        )
        score.append((rim - core, ring - rim))
    who = rows.assign(hollow=np.array(score)[:, 0], gradual=np.array(score)[:, 1]).groupby("patient_id")
    who = who.agg({"grade": "first", "type": "first", "hollow": "mean", "gradual": "mean"})
    assert 0.75 < auroc(who.grade.to_numpy(), who.hollow.to_numpy()) < 0.95
    assert 0.65 < auroc(who.type.to_numpy(), who.gradual.to_numpy()) < 0.95


def test_nodule_is_subtler_than_the_plain_findings():
    settings, rows = cohort("phantom_xray", patients=20)
    absent = rows.assign(**{f"z_{finding}": -9.0 for finding in phantom_xray.PREVALENCE})
    without, _ = draw("phantom_xray", settings, absent)

    def energy(finding):  # of the matched filter that knows the finding's exact shape
        shown, _ = draw("phantom_xray", settings, absent.assign(**{f"z_{finding}": 2.6}))
        return np.median(((shown - without) ** 2).sum((1, 2)))

    nodule = energy("nodule")
    assert 0 < 4 * nodule < min(energy(finding) for finding in ("effusion", "cardiomegaly", "consolidation"))


def test_texture_dial_makes_a_consolidation_uneven_and_no_denser():
    dials = {"texture": {"sex": {"female": 1.0}}}
    settings, plain = cohort("phantom_xray", patients=400)
    dialled, rows = cohort("phantom_xray", patients=400, dials=dials)
    large = (rows.z_consolidation > 2.5).to_numpy()

    def lesion(settings, rows):
        rows = rows[large]
        return draw("phantom_xray", settings, rows)[0] - draw("phantom_xray", settings, rows.assign(z_contrast=0.0))[0]

    women = (rows.sex == "female").to_numpy()[large]
    before, after = lesion(settings, plain), lesion(dialled, rows)
    np.testing.assert_array_equal(before[~women], after[~women])
    # Both signs within, and so next to nothing on average.
    assert abs(after[women].mean()) < 0.4 * before[women].mean()
    assert after[women].min((1, 2)).mean() < -0.05 < before[women].min((1, 2)).mean()


@both
def test_scarce_dial_keeps_a_group_from_the_reconstruction_and_from_nothing_else(name):
    settings = {"name": name, "size": 64, "patients": 400, "seed": 7}
    plain, scarce = (
        data.cohort_table(params.study(dataset={**settings, "dials": dials}))
        for dials in ({}, {"scarce": {"sex": {"female": 0.9}}})
    )
    both = plain.merge(scarce, "left", list(plain.columns.drop("split")), suffixes=("", "_scarce"), indicator=True)
    moved = both.split != both.split_scarce  # or left out, where the diagnosis has images of its own
    assert set(both.split[moved]) == ({"train"} if name == "phantom_mri" else {"train_recon"})
    assert set(both.sex[moved]) == {"female"} and len(scarce) == (both._merge == "both").sum()
    women = [(table.sex == "female").iloc[data.rows(table, "recon")].sum() for table in (plain, scarce)]
    assert women[1] == pytest.approx(0.1 * women[0], abs=4 * np.sqrt(0.09 * women[0]))
    ours, theirs = (table.image_id.iloc[data.rows(table, "diag")].tolist() for table in (plain, scarce))
    assert ours == theirs


@pytest.mark.parametrize("name", ["phantom_mri", "phantom_xray"])
def test_rare_dial_keeps_a_group_from_the_diagnosis_and_from_nothing_else(name):
    plain, rare = (
        data.cohort_table(params.study(dataset={"name": name, "patients": 400, "dials": dials}))
        for dials in ({}, {"rare": {"sex": {"female": 0.9}}})
    )
    women = [(table.sex == "female").iloc[data.rows(table, "diag")].sum() for table in (plain, rare)]
    men = [(table.sex == "male").iloc[data.rows(table, "diag")].sum() for table in (plain, rare)]
    assert women[1] < 0.25 * women[0] and men[0] == men[1]
    for use in ("recon", "val", "test"):
        ours, theirs = (table.image_id.iloc[data.rows(table, use)].tolist() for table in (plain, rare))
        assert ours == theirs


def test_decoy_dial_puts_a_spot_outside_the_brain_and_leaves_all_else():
    plain, decoy = (
        dataset("phantom_mri", patients=40, slices=2, size=64, dials=dials)
        for dials in ({}, {"decoy": {"sex": {"female": 0.8}}})
    )
    rows = [list(one.read_table().itertuples()) for one in (plain, decoy)]
    shares = decoy.read_table().groupby("sex").z_decoy.mean()
    assert shares["male"] == 0 and 0.6 < shares["female"] <= 1
    for one, other in zip(*rows, strict=True):
        (image, mask), (spotted, same) = plain.read_image(one), decoy.read_image(other)
        changed = abs(image - spotted) > 0.02
        assert (mask == same).all() and not (changed & mask).any()
        assert changed.sum() > 20 if other.z_decoy else np.array_equal(image, spotted)


def test_dials_at_zero_leave_the_settings_of_a_cohort_as_they_were():
    assert set(params.study(dataset={"name": "phantom_mri"}).model_dump()["dataset"]["dials"]) == {
        "contrast",
        "texture",
        "prevalence",
        "label_noise",
        "scarce",
    }
