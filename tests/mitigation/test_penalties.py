"""Remedies around every reconstructor: gradients, frozen networks, resuming, and what they are given wrong."""

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair import data, diagnosis, mitigation, noise, params, recon, store, tables, training
from reconfair.mitigation import penalties, thresholds
from reconfair.params import ParamsError, Source

MODELS = ("unet", "pix2pix", "sde")
ALL = "reweight@0+dro@0+eodd@0+adv@0"


def with_strategy(study, *strategies, models=MODELS, **settings):
    settings = {"strategies": strategies, "models": models, **settings}
    return study.model_copy(update={"mitigation": study.mitigation.model_copy(update=settings)})


def finetune(study, model, strategy, folder, **settings):
    """Fine-tune a reconstructor into `folder`, so that the study that all tests share stays as it is."""
    folder.mkdir(exist_ok=True)
    mitigation.weights(with_strategy(study, strategy, **settings), Source(model, strategy)).write(folder)


def begun(study, model, strategy):
    """A reconstructor about to be fine-tuned, its penalties, and a batch."""
    module = recon.load(study, model).train().requires_grad_(True)
    added = penalties.Penalties(study, module, study.mitigation.parts(strategy))
    module.log_dict = lambda *args, **kwargs: None  # there is no trainer
    cohort = data.load(study)
    rows = data.rows(cohort.table, "recon")[:24]
    arrays = (noise.load(study), cohort.images, *added.extras)
    return module, added, module.on_after_batch_transfer(training.Rows(*arrays)[rows], 0)


def gradients(module, value) -> torch.Tensor:
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    slopes = torch.autograd.grad(value, weights, allow_unused=True, retain_graph=True)
    return torch.cat([slope.flatten() for slope in slopes if slope is not None])


def stepped(study, model, strategy) -> torch.Tensor:
    """Gradient of the second batch's loss: the first one sets averages and DRO's weights."""
    module, _, batch = begun(study, model, strategy)
    torch.manual_seed(0)
    module.objective(batch)
    return gradients(module, module.objective(batch)[0].mean())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("remedy", ["eodd", "adv", "dro"])
def test_lambda_changes_the_gradient(smallest, model, remedy):
    weak, strong = (stepped(smallest, model, f"{remedy}@{strength}") for strength in (0.5, 5))
    assert (weak - strong).norm() > 0.01 * weak.norm() > 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("remedy", ["eodd", "adv"])
def test_a_penalty_reaches_the_weights_of_the_reconstructor(smallest, model, remedy):
    """The disparity is taken from an image that the weights made, in the graph of this very step.

    The code that the paper published takes it, for the SDE, from a tensor in which the network has no part, and
    divides it, for the SDE and the GAN, by something in which lambda cancels: training went on as if there were no
    penalty.
    """
    module, added, (noisy, original, rows, *masks) = begun(smallest, model, remedy)
    _, x_hat = added.plain((noisy, original))
    measured = added.terms[remedy].measure(*penalties.as_read(x_hat, rows, *masks))
    for name in added.terms[remedy].terms:
        gradient = gradients(module, measured[name])
        assert gradient.isfinite().all() and (gradient != 0).float().mean() > 0.2


@pytest.mark.parametrize("remedy", ["eodd", "adv"])
def test_what_little_is_left_is_not_pushed_ever_harder(smallest, remedy):
    """Divided by its own average alone, a disparity pushes like 1 / E; beside what the standard weights had, like E."""
    pushes = []
    for before in (0, 1e2, 1e3):  # of the standard weights
        module, added, batch = begun(smallest, "unet", remedy)
        added.units = dict.fromkeys([f"val_{name}" for name in added.terms[remedy].terms], before)
        plain = gradients(module, added.plain(batch[:2])[0].mean())
        pushes.append(float((gradients(module, module.objective(batch)[0].mean()) - plain).norm() / plain.norm()))
    assert pushes[0] > 0.01 and pushes[1] < 0.05 * pushes[0]
    assert np.isclose(pushes[2], 0.1 * pushes[1], rtol=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_without_strength_it_is_plain_fine_tuning_bit_for_bit(smallest, tmp_path, model):
    folders = [tmp_path / name for name in ("none", "plain")]
    finetune(smallest, model, ALL, folders[0])
    folders[1].mkdir()
    module = recon.load(smallest, model).train().requires_grad_(True)
    lr, epochs = module.settings["lr"] * smallest.mitigation.lr_factor, smallest.mitigation.epochs
    module.settings = {**module.settings, "lr": lr, "epochs": epochs, "seed": smallest.mitigation.seed}
    recon.fit(smallest, module, folders[1], model, epochs)
    none, plain = (torch.load(folder / "best.ckpt")["state_dict"] for folder in folders)
    standard = recon.load(smallest, model).state_dict()
    assert none.keys() == plain.keys() and all(torch.equal(none[name], plain[name]) for name in plain)
    assert any(not torch.equal(plain[name], standard[name]) for name in plain)


@pytest.mark.parametrize("model", MODELS)
def test_in_mixed_precision_the_penalties_are_taken_in_full(smallest, tmp_path, monkeypatch, model):
    seen, as_read = set(), penalties.as_read
    monkeypatch.setattr(penalties, "as_read", lambda *given: seen.add((read := as_read(*given))[0].dtype) or read)
    compute = smallest.compute.model_copy(update={"precision": "bf16-mixed"})
    study = smallest.model_copy(update={"compute": compute})
    finetune(study, model, "eodd+adv+dro@0.1", tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    for name in ("eodd", "bce", "adv"):
        assert log[[f"train_{name}", f"val_{name}"]].to_numpy().min() > 0
    assert seen == {torch.float32}


def test_frozen_networks_stay_frozen_and_in_eval_mode(smallest, tmp_path, monkeypatch):
    panels, panel_of = [], penalties.panel_of
    monkeypatch.setattr(penalties, "panel_of", lambda *given: panels.append(panel_of(*given)) or panels[-1])
    finetune(smallest, "unet", "eodd+adv", tmp_path)
    assert len(panels) == 1 and len(panels[0].networks) == len(smallest.networks)
    for network, frozen in panels[0].networks.items():
        trained = diagnosis.load(smallest, network).state_dict()
        assert any("running_mean" in name for name in trained)
        assert all(torch.equal(value, trained[name]) for name, value in frozen.state_dict().items())
        assert not any(layer.training for layer in frozen.modules())
        assert not any(weight.requires_grad or weight.grad is not None for weight in frozen.parameters())


def test_an_interrupted_fine_tuning_ends_with_the_weights_of_one_never_interrupted(smallest, tmp_path, monkeypatch):
    strategy, whole, killed = "reweight+dro+eodd+adv", tmp_path / "whole", tmp_path / "killed"
    finetune(smallest, "unet", strategy, whole, epochs=2)
    steps = -(-(data.load(smallest).table.split == "train").sum() // smallest.reconstruction.unet.batch_size)

    class Killed(Exception):
        pass

    def progress(items, what, total=None):
        for done, item in enumerate(items):
            if done > steps:  # after the first batch of the second epoch
                raise Killed
            yield item

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(store, "progress", progress)
        finetune(smallest, "unet", strategy, killed, epochs=2)
    assert len(pd.read_csv(killed / "log.csv")) == 1
    finetune(smallest, "unet", strategy, killed, epochs=2)
    one, other = (torch.load(folder / ".last.ckpt", weights_only=True) for folder in (whole, killed))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "log.csv") for folder in (whole, killed)))


def test_the_epoch_kept_has_the_least_of_loss_and_penalty(smallest, tmp_path):
    finetune(smallest, "unet", "eodd@2", tmp_path, epochs=3)
    log = pd.read_csv(tmp_path / "log.csv")
    assert torch.load(tmp_path / "best.ckpt")["epoch"] == log.epoch[log.val_total.idxmin()]
    assert log.train_empty.is_monotonic_decreasing and 0 <= log.train_empty.iloc[-1] < log.train_empty.iloc[0] < 1
    shares = log.share_loss + 2 * (log.share_eodd + 0.5 * log.share_bce) / 1.5
    assert log.val_total.tolist() == pytest.approx(shares.tolist())
    for name in ("loss", "eodd", "bce"):  # one unit for all epochs, and what the standard weights had
        assert np.ptp(log[f"val_{name}"] / log[f"share_{name}"]) < 1e-6 < np.ptp(log[f"share_{name}"])


def test_thresholds_by_group_bring_the_rates_together(outputs, monkeypatch):
    draw = np.random.default_rng(0)
    n = 4000
    sex, label = draw.choice(["female", "male"], n), draw.integers(0, 2, n).astype(float)
    score = 1 / (1 + np.exp(-draw.normal(2 * label - 1 - 1.5 * (sex == "female"), 1)))
    people = pd.DataFrame({"patient_id": [f"P{k}" for k in range(n)], "sex": sex, "grade": label})
    scored = people.assign(unit=people.patient_id, split=np.where(np.arange(n) % 2, "val", "test"), task="grade")
    scored = scored.assign(kind="classify", label=label, score=score, dice=np.nan, source="unet", strategy="standard")
    tables.write(scored.drop(columns=["sex", "grade"]).assign(reader="standard"), "predictions", outputs)
    study = params.study(dataset={"name": "phantom_mri"}, mitigation={"attributes": ["sex"]})
    monkeypatch.setattr(store, "ready", lambda product: outputs)
    monkeypatch.setattr(diagnosis, "thresholds", lambda study: {"grade": 0.5})
    monkeypatch.setattr(data, "load", lambda study: data.Cohort(people, None, None))
    thresholds.write(study, Source("unet", "thresholds"), outputs)
    moved = tables.read("predictions", outputs)
    assert set(moved.strategy) == {"thresholds"} and moved.score.between(0, 1).all()
    test = moved.assign(before=score, sex=sex)[moved.split == "test"]

    def gap(column):
        rates = (test[column] >= 0.5).groupby([test.label, test.sex]).mean().unstack()
        return (rates.female - rates.male).abs().mean()

    assert gap("before") > 0.3 > 0.06 > gap("score")
    ranks = [test[test.sex == "male"][column].rank() for column in ("before", "score")]
    assert ranks[0].equals(ranks[1])  # within a group the order of patients is untouched


def test_a_study_with_thresholds_and_joined_strategies_is_judged(smallest, tmp_path):
    study = with_strategy(smallest, "thresholds", "reweight+eodd@0.3", models=("unet",))
    for source in study.mitigated:
        mitigation.mitigate(study, source)
    thresholds, joined = map(mitigation.predictions, [study] * 2, study.mitigated)
    assert joined.fresh and thresholds.fresh and not (thresholds.folder / "best.ckpt").exists()
    mitigation.judged(study).write(tmp_path)
    performance, fairness = (tables.read(name, tmp_path) for name in ("performance", "fairness"))
    assert set(fairness.strategy) == {"standard", "thresholds", "reweight+eodd@0.3"}
    quality = performance[(performance.task == "image") & (performance.attribute == "all")]
    assert "thresholds" not in set(quality.strategy)  # it leaves images alone


def test_other_strengths_are_other_products_and_leave_the_rest_fresh(smallest):
    def weights(strategy, **settings):
        return mitigation.weights(with_strategy(smallest, strategy, **settings), Source("unet", strategy))

    one, other = weights("eodd@1"), weights("eodd@2")
    assert one.folder != other.folder and one.needs[0].fingerprint == other.needs[0].fingerprint
    assert one.needs[0].fresh
    assert weights("eodd").fingerprint != weights("eodd", lam=7.0).fingerprint
    assert weights("reweight", lam=7.0).fingerprint == weights("reweight").fingerprint and weights("reweight").fresh


def test_an_attribute_that_is_constant_in_training_is_refused(smallest, monkeypatch):
    cohort = data.load(smallest)
    table = cohort.table.assign(race=cohort.table.race.mask(cohort.table.split == "train", "White"))
    monkeypatch.setattr(data, "load", lambda study: cohort._replace(table=table))
    with pytest.raises(ValueError, match=r"mitigation\.attributes: 'race'"):
        mitigation.groups(smallest)


def test_a_validation_that_shows_no_guess_is_refused(smallest):
    module, added, batch = begun(smallest, "sde", "eodd")
    added.on_validation_epoch_start(None, module)
    added.on_validation_batch_end(None, module, torch.full((len(batch[0]), 1, 32, 32), torch.nan), batch, 0)
    with pytest.raises(ValueError, match=r"dataset\.split"):
        added.on_validation_epoch_end(None, module)


def test_standard_weights_that_are_missing_or_of_another_configuration_are_refused(smallest, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", 0)  # however fast they would be made
    unet = smallest.reconstruction.unet.model_copy(update={"lr": 1})
    changed = smallest.model_copy(update={"reconstruction": smallest.reconstruction.model_copy(update={"unet": unet})})
    with pytest.raises(ParamsError, match=r"sources/unet/weights.*--until"):
        mitigation.mitigate(changed, Source("unet", "reweight"))
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    with pytest.raises(ParamsError, match=r"sources/unet/weights.*--until"):
        mitigation.mitigate(smallest, Source("unet", "reweight"))


@pytest.mark.parametrize(
    ("strategy", "named"),
    {
        "reweigt": "'reweigt'.*'reweight'",
        "eodd@-1": r"'eodd@-1'.*eodd@0\.3",
        "adv@much": r"'adv@much'.*adv@0\.3",
        "eodd+eodd": r"'eodd\+eodd'",
        "thresholds+eodd": r"'thresholds\+eodd'",
    }.items(),
)
def test_strategies_given_wrong(strategy, named):
    with pytest.raises(ParamsError, match=f"mitigation: strategies: .*{named}"):
        params.study(dataset={"name": "lgg"}, mitigation={"strategies": [strategy]})


def test_a_negative_lambda_is_refused():
    with pytest.raises(ParamsError, match=r"mitigation\.lam: .*-1"):
        params.study(dataset={"name": "lgg"}, mitigation={"lam": -1})


def test_lambda_is_the_papers_for_each_modality():
    for name, lam in (("lgg", 1), ("nih", 0.005)):
        study = params.study(dataset={"name": name}, mitigation={})
        assert study.mitigation.lam == lam and study.mitigation.parts("adv+reweight") == {"adv": lam, "reweight": 1}


def test_groups_are_those_of_the_training_images(outputs):
    dataset = {"name": "phantom_mri", "size": 64, "patients": 20, "slices": 1}
    common = {"dataset": dataset, "compute": {"workers": 1}, "diagnosis": {"tasks": ["tumour"]}}
    study = params.study(**common, mitigation={"attributes": ["sex", "race_merged"]})
    table = data.prepare(study).table
    assert mitigation.groups(study).equals(table[table.split == "train"][["sex", "race_merged"]])
    assert list(mitigation.groups(params.study(**common, mitigation={}))) == ["sex", "age_group", "race"]


def test_training_images_without_one_that_has_all_attributes_are_refused(monkeypatch):
    table = pd.DataFrame(
        {"split": "train", "sex": pd.Series(["female", None, "male", None], dtype="str"), "age_group": "older"}
        | {"race": pd.Series([None, "Black", None, "White"], dtype="str")}
    )
    monkeypatch.setattr(data, "load", lambda study: data.Cohort(table, None, None))
    study = params.study(dataset={"name": "lgg"}, mitigation={"attributes": ["sex", "race"]})
    with pytest.raises(ValueError, match=r"mitigation\.attributes: no training image has all of sex, race"):
        mitigation.groups(study)
    known = table.assign(race="White")
    monkeypatch.setattr(data, "load", lambda study: data.Cohort(known.assign(race=list("abab")), None, None))
    assert mitigation.groups(study).sex.isna().tolist() == [False, True, False, True]


def test_validation_images_in_no_group_cannot_choose_an_epoch(smallest):
    module, added, batch = begun(smallest, "unet", "reweight")
    added.panel.joint[:] = -1
    added.panel.joint[0] = 0
    added.on_validation_epoch_start(None, module)
    added.on_validation_batch_end(None, module, batch[1][:, None], batch, 0)
    with pytest.raises(ValueError, match=r"mitigation\.attributes: no validation image"):
        added.on_validation_epoch_end(None, module)
