"""Readers that strategies train: what is learnt from, what is weighed, and which answers come of it."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair import data, diagnosis, fair_diagnosis, params, tables
from reconfair.diagnosis import crop, dosing, groupwise, strategies
from reconfair.diagnosis.networks import Learner
from reconfair.params import Network, Reader
from reconfair.remedies.balance import LossWeights
from reconfair.remedies.dro import GroupDRO

FAIR = {"epochs": 1, "refusion_epochs": 1, "batch_size": 16, "refusion_batch_size": 16, "latent": 8, "width": 8}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A tiny cohort, originals alone."""
    classify = {"architecture": "test_resnet", "pretrained": False, "size": 0, "epochs": 1, "batch_size": 16}
    segment = {"encoder": "tu-test_resnet", "decoder": [8] * 5, "pretrained": False, "epochs": 2, "batch_size": 8}
    made = params.study(
        dataset={"name": "phantom_mri", "label": "readers", "size": 64, "patients": 60, "slices": 2},
        noise="none",
        diagnosis={"tasks": ["grade", "tumour"], "classify": classify, "segment": segment | {"lr": 5e-3}},
        fairness={"min_cases": 2, "resamples": 99, "attributes": ["sex"]},
        readers={
            "strategies": ["oversample@0", "dro+reweight", "fairread", "crop", "cascade"],
            "attributes": ["sex"],
            "thresholds": "youden",
            "fairread": FAIR,
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(tmp_path_factory.mktemp("readers")))
        yield made


def predictions(study, strategy):
    return diagnosis.predict(study, "original", strategy)


# --- training ---


def test_plain_training_is_the_standard_one(study):
    standard, plain = (predictions(study, name) for name in ("standard", "oversample@0"))
    grade = [table[table.task == "grade"].score.to_numpy() for table in (standard, plain)]
    assert grade[0] == pytest.approx(grade[1], abs=1e-6)
    assert set(plain.reader) == {"oversample@0"}


def test_plain_training_begins_with_the_linear_probe_of_the_standard_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    settings = {"architecture": "test_resnet", "pretrained": False, "linear_probe": True, "epochs": 1, "lr": 1e-5}
    study = params.study(
        dataset={"name": "phantom_mri", "size": 64, "patients": 40, "slices": 1},
        noise="none",
        diagnosis={"tasks": ["grade"], "classify": settings},
        readers={"strategies": ["oversample@0"], "attributes": ["sex"]},
    )
    standard, plain = (predictions(study, name) for name in ("standard", "oversample@0"))
    assert standard.score.to_numpy() == pytest.approx(plain.score.to_numpy(), abs=1e-6)
    (network,) = study.networks
    looks = [diagnosis.weights(study, Reader(network, name)).work().amount for name in ("standard", "oversample@0")]
    assert looks[0] == looks[1]  # a dry run counts the probe


def test_a_dose_is_measured_while_it_is_given(study):
    predictions(study, "dro+reweight")
    doses = strategies.doses(study).set_index(["network", "reader"]).minority_share
    table = data.load(study).table.query("split == 'train'")
    rarest = table.sex.value_counts(normalize=True).min()
    assert doses["grade", "standard"] == 1
    assert doses["grade", "dro+reweight"] == pytest.approx(0.5 / rarest, rel=0.15)  # reweighting, and little of DRO


class Learnt(Learner):
    """Answers with the first pixel; the loss is its square."""

    def forward(self, images):
        return images[:, 0, :1, 0]

    def summands(self, answers, target):
        return torch.stack([(answers - target).square()[:, 0], torch.ones(len(target))], 1)

    @staticmethod
    def of_sums(sums):
        return sums[..., 0] / sums[..., 1]


def test_the_loss_of_each_image_is_weighed_and_the_best_epoch_is_that_of_the_groups():
    groups = np.array([0, 0, 0, 1])
    panel, module = SimpleNamespace(joint=torch.tensor(groups)), Learnt({})
    parts = {"reweight": LossWeights(panel, range(4), 1.0), "dro": GroupDRO(panel, range(4), 0.0)}
    guide = dosing.Doses(module, parts, groups, np.arange(4))
    images, target = torch.tensor([1.0, 1, 1, 3]).reshape(4, 1, 1), torch.zeros(4, 1)
    batch = (images, target, torch.arange(4.0))
    assert module.train().loss(batch).item() == pytest.approx((1 + 9) / 2)  # both groups count equally
    assert guide.dose["minority"].item() == pytest.approx(0.5)
    guide.on_validation_epoch_start(None, None)
    assert module.eval().loss(batch).item() == pytest.approx(3)
    measured = {"val_loss": 3.0, "train_minority": 0.5, "train_weight": 1.0}
    assert guide.total(measured) == {"val_total": pytest.approx(5), "minority_share": pytest.approx(2)}


def network(kind, **more):
    """A small one of random weights, which answers with what it is shown."""
    settings = {"pretrained": False, "seed": 0, "lr": 1e-3, "decoder": [8] * 5, "tasks": ["a", "b"], "size": 0}
    settings |= {"architecture": "test_resnet", "encoder": "tu-test_resnet", "value_range": None}
    module = diagnosis.diagnoser(kind)(settings | more)
    module.forward = lambda logits: logits
    return module


def batch_of(kind, n=6):
    """Answers and their target: labels of which some are unknown, or masks of which half are empty."""
    draw = torch.Generator().manual_seed(0)
    if kind == "segment":
        inside = (torch.randn(n, 8, 8, generator=draw) > 0).float()
        return torch.randn(n, 1, 8, 8, generator=draw), inside * (torch.arange(n) % 2)[:, None, None]
    labels = torch.eye(2)[torch.arange(n) % 2]
    if kind == "classify":
        labels[0, 1] = torch.nan
    return torch.randn(n, 2, generator=draw), labels


KINDS = {"classify": {}, "classes": {"classes": True}, "segment": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_weights_are_plain_training_and_losses_are_shares_of_that_of_the_batch(kind):
    module, (logits, target) = network(kind.replace("classes", "classify"), **KINDS[kind]), batch_of(kind)
    plain, groups = module.criterion(logits, target), np.repeat([0, 1], 3)
    panel, rows = SimpleNamespace(joint=torch.tensor(groups)), torch.arange(6)
    seen = []
    remedy = SimpleNamespace(weigh=lambda losses, rows: seen.append(losses.detach()) or losses, criterion="balanced")
    guide = dosing.Doses(module, {"dro": remedy}, groups, np.arange(6))
    sums = module.summands(logits, target)
    assert guide.weighed(guide.weights(sums, rows), sums).item() == plain.item()  # to the last digit
    assert seen[0].mean().item() == pytest.approx(plain.item(), abs=0.01)  # the 1 of soft Dice is not weighed
    equal = LossWeights(panel, range(6), 1.0)
    guide = dosing.Doses(module, {"reweight": equal, "dro": GroupDRO(panel, range(6), 0.0)}, groups, np.arange(6))
    assert guide.weighed(guide.weights(sums, rows), sums).item() == plain.item()


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_of_a_group_is_its_share_of_the_gradient(kind):
    module, (logits, target) = network(kind.replace("classes", "classify"), **KINDS[kind]), batch_of(kind, 1)
    logits, target = (values.repeat(6, *[1] * (values.ndim - 1)) for values in (logits, target))
    if kind == "segment":
        target = (logits[:, 0] > 0.5).float()
    groups = np.array([0, 0, 0, 0, 0, 1])
    panel, rows = SimpleNamespace(joint=torch.tensor(groups)), torch.arange(6)
    guide = dosing.Doses(module, {"reweight": LossWeights(panel, range(6), 1.0)}, groups, np.arange(6))
    gradients = []
    for weights in (torch.ones(6), guide.weights(module.summands(logits, target), rows)):
        known = logits.clone().requires_grad_()
        guide.weighed(weights, module.summands(known, target)).backward()
        gradients.append(known.grad.flatten(1).norm(dim=1))
    assert (gradients[1] / gradients[0]).tolist() == pytest.approx([0.6] * 5 + [3.0], rel=1e-3)


def test_a_slice_without_a_mask_has_the_dice_of_its_batch_and_missed_tumours_weigh_their_group():
    module, groups = network("segment"), np.repeat([0, 1], 20)
    masks = torch.zeros(40, 8, 8)
    masks[:24, 2:6, 2:6] = 1  # 16 of the 20 slices of the second group are empty
    logits = torch.where(masks > 0, 1.0, -12.0)[:, None]
    panel, rows, seen = SimpleNamespace(joint=torch.tensor(groups)), torch.arange(40), []
    remedy = SimpleNamespace(weigh=lambda losses, rows: seen.append(losses.detach()) or losses, criterion="worst")
    sums = module.summands(logits, masks)
    dosing.Doses(module, {"dro": remedy}, groups, np.arange(40)).weights(sums, rows)
    overlap, areas = sums[:, 0].sum(), sums[:, 1].sum()
    assert seen[0][24:].tolist() == pytest.approx([0.5 * (1 - 2 * overlap / areas).item()] * 16, abs=1e-3)
    logits[20:24] = -12.0  # the second group's tumours are missed
    guide = dosing.Doses(module, {"dro": GroupDRO(panel, range(40), 0.5)}, groups, np.arange(40))
    for _ in range(10):
        weights = guide.weights(module.summands(logits, masks), rows)
    assert weights[-1] > 2 * weights[0]


def test_images_of_colour_are_weighed():
    module = network("classify", inputs=3)
    del module.forward
    guide = dosing.Doses(module, {}, np.array([0, 1]), np.arange(2))
    loss = module.train().loss((torch.rand(2, 3, 32, 32), torch.eye(2), torch.arange(2.0)))
    assert torch.isfinite(loss) and guide.dose["weight"].item() == 1


def test_images_are_left_out_until_the_groups_rates_differ():
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 2, (4000, 2)).astype(float)
    labels = (draw.random(4000) < 0.3).astype(float)
    kept = strategies.amplified(labels, groups, 0.16, seed=0)
    for column in groups.T:
        rates = [labels[kept & (column == g)].mean() for g in (0, 1)]
        assert abs(rates[0] - rates[1]) == pytest.approx(0.16, abs=0.03)
    assert (strategies.amplified(labels, groups, 0.16, seed=0) == kept).all() and kept.mean() > 0.4


# --- answers ---


def test_fairread_is_told_the_attributes_and_counts_those_unknown(study):
    table = predictions(study, "fairread")
    assert set(table.task) == {"grade"} and (table.unknown == 0).all()
    cohort, (network,) = data.load(study), study.networks_of("fairread")
    rows, who = np.arange(4), cohort.table.iloc[:4].assign(sex=[None, "male", "female", "male"])
    _, columns = diagnosis.read(study, Reader(network, "fairread"), cohort.images, rows, "test", who)
    assert columns["unknown"].tolist() == [1, 0, 0, 0]


def test_findings_share_the_sensitive_network(study):
    made = [product.key for product in fair_diagnosis.products(study)]
    assert made.count("readers/readers/sensitive/weights") == 1
    chest = params.study(dataset={"name": "phantom_xray"}, noise="none", readers={"strategies": ["fcro"]})
    weights = [product.key for product in fair_diagnosis.weights(chest)]
    assert len(weights) == 1 + 5 and sum("sensitive" in key for key in weights) == 1


def test_a_crop_answers_for_the_whole_image_and_a_cascade_counts_what_it_missed(study):
    truth, cascade = predictions(study, "crop"), predictions(study, "cascade")
    height, width = crop.sizes(study, Reader(study.networks_of("crop")[0], "crop"))
    assert max(height, width) < 64 and (truth.answered <= height * width).all()
    assert set(cascade.first_empty) <= {0.0, 1.0} and len(cascade) == len(truth)
    windows = fair_diagnosis.windows(study).set_index("reader")
    assert windows.height["crop"] == windows.height["cascade"] == height
    # Both have one network for the windows: a cascade trains none of its own.
    both = [diagnosis.weights(study, Reader(study.networks_of("crop")[0], name)) for name in ("crop", "cascade")]
    assert both[0] == both[1]


def test_an_empty_first_mask_is_kept_and_counted(study, monkeypatch):
    cohort, (network,) = data.load(study), study.networks_of("cascade")
    rows = data.rows(cohort.table, "test")
    monkeypatch.setattr(diagnosis, "read", lambda *_: (np.zeros((len(rows), 64, 64), np.float32), {}))
    answers, columns = crop.read(
        study, Reader(network, "cascade"), cohort.images, rows, "test", cohort.table.iloc[rows], cohort.masks
    )
    assert not answers.any() and columns["first_empty"].all()


def test_thresholds_by_group_move_decisions_and_not_the_order_within_a_group(study):
    before, after = (predictions(study, name) for name in ("standard", "standard+thresholds"))
    before = before[before.task == "grade"].set_index("unit").loc[after.unit]
    assert (after.raw_score.to_numpy() == before.score.to_numpy()).all()
    chosen = groupwise.read(study, "standard+thresholds").set_index("group")
    as_chosen = groupwise.chosen(study, "standard+thresholds").set_index("group")
    assert (chosen[["threshold", "common"]] == as_chosen[["threshold", "common"]]).all(axis=None)  # to the last digit
    sex = data.load(study).table.drop_duplicates("patient_id").set_index("patient_id").sex
    common = diagnosis.thresholds(study, "standard+thresholds")["grade"]
    for group, rows in after.groupby(after.patient_id.map(sex)):
        name = "female" if group == "female" else "not female"
        called = rows.raw_score >= chosen.threshold[name]
        assert (called == (rows.score >= common)).all()
        assert (rows.score.rank() == rows.raw_score.rank()).all()


def test_a_group_of_whom_nobody_validates_is_counted_as_one(study, monkeypatch):
    of, table = groupwise._group_of(study), data.load(study).table
    somebody = table.patient_id[table.split == "test"].iloc[0]
    monkeypatch.setattr(groupwise, "_group_of", lambda *_: of.where(of.index != somebody, "rare"))
    rows = groupwise.chosen(study, "standard+thresholds")
    rare = rows.set_index("group").loc["rare"]
    assert rare.cases == rare.patients == 0 and not rare.moved
    text = groupwise.sentence(rows, "standard+thresholds", 2)
    assert "of 3 groups take the threshold of all" in text and "rare (0)" in text and len(rows) == 4


def test_a_group_with_few_cases_takes_the_common_threshold_and_the_table_says_so(study):
    strict = study.model_copy(update={"fairness": study.fairness.model_copy(update={"min_cases": 50})})
    chosen = groupwise.chosen(strict, "standard+thresholds")
    assert not chosen.moved.any() and chosen.threshold.nunique() == 1
    assert chosen[chosen.group != "all"].note.str.contains("fewer than 50").all()
    text = groupwise.sentence(chosen, "standard+thresholds", 50)
    assert (
        "2 of 2 groups" in text
        and "fewer than 50" in text
        and all(f"{row.group} ({row.cases})" in text for row in chosen[:2].itertuples())
    )
    assert "each of the 2 groups has a threshold" in groupwise.sentence(chosen.assign(moved=True), "fcro+thresholds", 2)


def test_who_is_of_unknown_group_is_decided_by_the_threshold_of_all():
    rows = pd.DataFrame({"task": "grade", "score": [0.4, 0.4, 0.4]})
    chosen = pd.DataFrame({"task": "grade", "group": ["f", "all"], "threshold": [0.3, 0.6], "common": [0.5, 0.5]})
    scores = groupwise.applied(rows, chosen, pd.Series(["f", None, "m"])).score
    assert scores[0] >= 0.5 > scores[1] == scores[2]


def test_readers_go_to_another_cohort_with_their_coding_and_thresholds(study):
    other = params.study(
        dataset={"name": "phantom_mri", "label": "elsewhere", "size": 64, "patients": 40, "slices": 2, "seed": 5},
        noise="none",
        diagnosis={"tasks": ["grade"]},
    )
    table = diagnosis.evaluate_on(study, other, "fairread+thresholds")
    assert set(table.reader) == {"fairread+thresholds"} and table.score.between(0, 1).all()


def test_the_measures_go_to_another_cohort(study):
    measures, same = fair_diagnosis.measured(study), fair_diagnosis.measured_on(study, study)
    keys, numbers = ["task", "reader", "attribute", "group", "metric"], ["value", "low", "high", "change"]
    one, other = (table.set_index(keys)[numbers].astype(float).sort_index() for table in (measures, same))
    pd.testing.assert_frame_equal(one, other, atol=1e-4)
    elsewhere = params.study(
        dataset={"name": "phantom_mri", "label": "outside", "size": 64, "patients": 60, "slices": 1, "seed": 7},
        noise="none",
        diagnosis={"tasks": ["grade"]},
    )
    outside = fair_diagnosis.measured_on(study, elsewhere)
    assert {*outside.task} == {"grade", "average"} or {*outside.task} == {"grade"}
    assert "crop" not in set(outside.reader) and {"fairread", "standard+thresholds"} <= set(outside.reader)
    accuracy = outside.set_index(["reader", "metric", "group"]).value["standard", "accuracy", "all"]
    rows = diagnosis.evaluate_on(study, elsewhere)
    limit = diagnosis.thresholds(study)["grade"]
    assert accuracy == pytest.approx(((rows.score >= limit) == (rows.label == 1)).mean())


# --- tables ---


def test_the_tables_of_the_chapter_have_every_reader(study):
    measures = fair_diagnosis.measured(study)
    assert set(measures.reader) == set(study.reader_names)
    assert {"fate_eo", "eodd_worst_case", "ser_median", "hausdorff_mm_median"} <= set(measures.metric)
    _, fairness = fair_diagnosis.judge_readers(study)
    assert set(fairness.reader) == set(study.reader_names)
    assert list(measures) == list(tables.SCHEMAS["measures"])
    assert json.loads((diagnosis.weights(study, Reader(study.networks[1], "crop")).folder / "window.json").read_text())


# --- bad input ---


def test_a_strategy_is_refused_for_a_network_of_another_kind(study):
    tumour = Network("tumour", "segment", ("tumour",))
    with pytest.raises(ValueError, match=r"readers.strategies.*'fairread'.*tumour.*segment"):
        diagnosis.weights(study, Reader(tumour, "fairread"))


def test_an_attribute_that_is_constant_in_training_is_named(study, monkeypatch):
    cohort = data.load(study)
    same = cohort._replace(table=cohort.table.assign(sex="female"))
    monkeypatch.setattr(data, "load", lambda _: same)
    with pytest.raises(ValueError, match=r"readers.attributes.*'sex'"):
        groupwise.zeros(study)
    [mistake] = fair_diagnosis.check(study)
    assert "readers.attributes" in mistake and "'sex'" in mistake
    doses = study.model_copy(update={"readers": params.Readers(strategies=("oversample",), attributes=("sex",))})
    [mistake] = fair_diagnosis.check(doses)
    assert "readers.attributes" in mistake and "'sex'" in mistake


def test_attributes_of_which_only_one_joint_group_is_known_are_refused_before_training(study, monkeypatch):
    cohort = data.load(study)
    men = cohort.table.sex == "male"
    known = cohort.table.assign(race=np.where(men, "White", None))
    known.loc[known.index[~men][::2], ["sex", "race"]] = [None, "Asian"]  # both vary, and only white men have both
    monkeypatch.setattr(data, "load", lambda _: cohort._replace(table=known))
    both = params.Readers(strategies=("oversample",), attributes=("sex", "race"))
    [mistake] = fair_diagnosis.check(study.model_copy(update={"readers": both}))
    assert "readers.attributes: the training images with all of sex, race are of one group" in mistake


def test_a_group_without_a_case_is_named_where_images_are_left_out(study, monkeypatch):
    cohort = data.load(study)
    labels = cohort.table.grade.where(cohort.table.sex == "male", 0.0)  # no woman is ill
    monkeypatch.setattr(data, "load", lambda _: cohort._replace(table=cohort.table.assign(grade=labels)))
    amplified = study.model_copy(update={"readers": study.readers.model_copy(update={"amplify": 0.2})})
    with pytest.raises(ValueError, match=r"readers.amplify.*grade.*'female' of sex.*amplify: 0"):
        strategies.training_set(amplified, Reader(study.networks[0], "oversample@0"))


def test_without_readers_the_chapter_makes_nothing():
    assert fair_diagnosis.products(params.study(dataset={"name": "phantom_mri"})) == []
