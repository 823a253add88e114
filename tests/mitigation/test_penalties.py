"""Strategies around every reconstructor: gradients, frozen networks, resuming, and what they are given wrong."""

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair import data, diagnosis, judge, mitigation, noise, params, recon, store, tables, training
from reconfair.mitigation import penalties, thresholds
from reconfair.params import ParamsError

MODELS = ("unet", "pix2pix", "sde")
ALL = "reweight@0+dro@0+eodd@0+adv@0"


def with_strategy(study, *strategies, models=MODELS, **settings):
    settings = {"strategies": strategies, "models": models, **settings}
    return study.model_copy(update={"mitigation": study.mitigation.model_copy(update=settings)})


def begun(study, model, strategy):
    """A reconstructor about to be fine-tuned, its penalties, and a batch."""
    module = recon.load(study, model).train().requires_grad_(True)
    added = penalties.Penalties(study, module, study.mitigation.parts(strategy))
    module.log_dict = lambda *args, **kwargs: None  # there is no trainer
    cohort = data.load(study)
    rows = data.rows(cohort.table, "recon")[:24]
    arrays = (noise.load(study), cohort.images, *added.beside)
    return module, added, module.on_after_batch_transfer(training.Rows(*arrays)[rows], 0)


def gradients(module, value) -> torch.Tensor:
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    found = torch.autograd.grad(value, weights, allow_unused=True, retain_graph=True)
    return torch.cat([part.flatten() for part in found if part is not None])


def stepped(study, model, strategy) -> torch.Tensor:
    """Gradient of the second batch's loss: the first one sets averages and DRO's weights."""
    module, _, batch = begun(study, model, strategy)
    torch.manual_seed(0)
    module.objective(batch)
    return gradients(module, module.objective(batch)[0].mean())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", ["eodd", "adv", "dro"])
def test_lambda_changes_the_gradient(smallest, model, part):
    weak, strong = (stepped(smallest, model, f"{part}@{strength}") for strength in (0.5, 5))
    assert (weak - strong).norm() > 0.01 * weak.norm() > 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", ["eodd", "adv"])
def test_a_penalty_reaches_the_weights_of_the_reconstructor(smallest, model, part):
    """The disparity is taken from an image that the weights made, in the graph of this very step.

    The code that the paper published takes it, for the SDE, from a tensor in which the network has no part, and
    divides it, for the SDE and the GAN, by something in which lambda cancels: training went on as if there were no
    penalty.
    """
    module, added, (noisy, original, rows, *masks) = begun(smallest, model, part)
    _, x_hat = added.plain((noisy, original))
    measured = added.terms[part](*penalties.shown(x_hat, rows, *masks))
    for name in added.terms[part].weights:
        gradient = gradients(module, measured[name])
        assert gradient.isfinite().all() and (gradient != 0).float().mean() > 0.2


@pytest.mark.parametrize("part", ["eodd", "adv"])
def test_what_little_is_left_is_not_pushed_ever_harder(smallest, part):
    """Divided by its own average alone, a disparity pushes like 1 / E; beside what the standard weights had, like E."""
    pushes = []
    for before in (0, 1e2, 1e3):  # of the standard weights
        module, added, batch = begun(smallest, "unet", part)
        added.units = dict.fromkeys([f"val_{name}" for name in added.terms[part].weights], before)
        plain = gradients(module, added.plain(batch[:2])[0].mean())
        pushes.append(float((gradients(module, module.objective(batch)[0].mean()) - plain).norm() / plain.norm()))
    assert pushes[0] > 0.01 and pushes[1] < 0.05 * pushes[0]
    assert np.isclose(pushes[2], 0.1 * pushes[1], rtol=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_without_strength_it_is_plain_fine_tuning_bit_for_bit(smallest, tmp_path, model):
    folders = [tmp_path / name for name in ("none", "plain")]
    for folder in folders:
        folder.mkdir()
    mitigation._finetune(smallest, model, ALL, folders[0])
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
    seen, shown = set(), penalties.shown
    monkeypatch.setattr(penalties, "shown", lambda *given: seen.add((told := shown(*given))[0].dtype) or told)
    compute = smallest.compute.model_copy(update={"precision": "bf16-mixed"})
    study = smallest.model_copy(update={"compute": compute})
    mitigation._finetune(study, model, "eodd+adv+dro@0.1", tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    for name in ("eodd", "bce", "adv"):
        assert log[[f"train_{name}", f"val_{name}"]].to_numpy().min() > 0
    assert seen == {torch.float32}


def test_frozen_networks_stay_frozen_and_in_eval_mode(smallest, tmp_path, monkeypatch):
    panels, panel = [], penalties.Panel
    monkeypatch.setattr(penalties, "Panel", lambda study: panels.append(panel(study)) or panels[-1])
    mitigation._finetune(smallest, "unet", "eodd+adv", tmp_path)
    assert len(panels) == 1 and len(panels[0].networks) == len(smallest.networks)
    for network, frozen in panels[0].networks.items():
        trained = diagnosis.load(smallest, network).state_dict()
        assert any("running_mean" in name for name in trained)
        assert all(torch.equal(value, trained[name]) for name, value in frozen.state_dict().items())
        assert not any(part.training for part in frozen.modules())
        assert not any(weight.requires_grad or weight.grad is not None for weight in frozen.parameters())


def test_an_interrupted_fine_tuning_ends_with_the_weights_of_one_never_interrupted(smallest, tmp_path, monkeypatch):
    study, strategy = with_strategy(smallest, "reweight", epochs=2), "reweight+dro+eodd+adv"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    mitigation._finetune(study, "unet", strategy, whole)

    class Killed(Exception):
        pass

    def report(text):
        if "epoch 2" in text:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(store, "report", report)
        mitigation._finetune(study, "unet", strategy, killed)
    assert len(pd.read_csv(killed / "log.csv")) == 1
    mitigation._finetune(study, "unet", strategy, killed)
    one, other = (torch.load(folder / ".last.ckpt", weights_only=True) for folder in (whole, killed))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "log.csv") for folder in (whole, killed)))


def test_the_epoch_kept_has_the_least_of_loss_and_penalty(smallest, tmp_path):
    mitigation._finetune(with_strategy(smallest, "eodd", epochs=3), "unet", "eodd@2", tmp_path)
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
    said = people.assign(unit=people.patient_id, split=np.where(np.arange(n) % 2, "val", "test"), task="grade")
    said = said.assign(kind="classify", label=label, score=score, dice=np.nan, source="unet", strategy="standard")
    study = params.study(dataset={"name": "phantom_mri"}, mitigation={"attributes": ["sex"]})
    monkeypatch.setattr(diagnosis, "predict", lambda study, model: said.drop(columns=["sex", "grade"]))
    monkeypatch.setattr(diagnosis, "thresholds", lambda study: {"grade": 0.5})
    monkeypatch.setattr(data, "load", lambda study: data.Cohort(people, None, None))
    thresholds.write(study, "unet", outputs)
    moved = tables.read("predictions", outputs)
    assert set(moved.strategy) == {"thresholds"} and moved.score.between(0, 1).all()
    test = moved.assign(before=score, sex=sex)[moved.split == "test"]

    def gap(column):
        rates = (test[column] >= 0.5).groupby([test.label, test.sex]).mean().unstack()
        return (rates.female - rates.male).abs().mean()

    assert gap("before") > 0.3 > 0.06 > gap("score")
    ranks = [test[test.sex == "male"][column].rank() for column in ("before", "score")]
    assert ranks[0].equals(ranks[1])  # within a group the order of patients is untouched


def test_a_study_with_thresholds_and_joined_strategies_is_judged(smallest, tmp_path, monkeypatch):
    study = with_strategy(smallest, "thresholds", "reweight+eodd@0.3", models=("unet",))
    for model, strategy in study.mitigated:
        mitigation.mitigate(study, model, strategy)
    flow = store.flow(study)
    assert "unet-thresholds/model" not in flow and flow["unet-reweight+eodd@0.3/predictions"].fresh
    performance, fairness = judge.judge(study, mitigated=True)
    assert set(fairness.strategy) == {"standard", "thresholds", "reweight+eodd@0.3"}
    quality = performance[(performance.task == "image") & (performance.attribute == "all")]
    assert "thresholds" not in set(quality.strategy)  # it leaves images alone


def test_other_strengths_are_other_products_and_leave_the_rest_fresh(smallest):
    one, other = (store.flow(with_strategy(smallest, f"eodd@{k}", models=("unet",))) for k in (1, 2))
    assert "unet-eodd@1/model" in one and "unet-eodd@2/model" in other
    assert one["unet/model"].fingerprint == other["unet/model"].fingerprint
    usual = store.flow(with_strategy(smallest, "eodd", models=("unet",)))["unet-eodd/model"]
    louder = store.flow(with_strategy(smallest, "eodd", models=("unet",), lam=7.0))["unet-eodd/model"]
    assert usual.fingerprint != louder.fingerprint
    again = store.flow(with_strategy(smallest, "reweight", models=("unet",), lam=7.0))["unet-reweight/model"]
    assert again.fingerprint == store.flow(smallest)["unet-reweight/model"].fingerprint


def test_an_attribute_that_is_constant_in_training_is_refused(smallest, monkeypatch):
    cohort = data.load(smallest)
    table = cohort.table.assign(race=cohort.table.race.mask(cohort.table.split == "train", "White"))
    monkeypatch.setattr(data, "load", lambda study: cohort._replace(table=table))
    with pytest.raises(ValueError, match=r"'race' is the same for all 80 training images.*leave it out"):
        mitigation.groups(smallest)


def test_a_validation_that_shows_no_guess_is_refused(smallest):
    module, added, batch = begun(smallest, "sde", "eodd")
    added.on_validation_epoch_start(None, module)
    added.on_validation_batch_end(None, module, torch.full((len(batch[0]), 1, 32, 32), torch.nan), batch, 0)
    with pytest.raises(ValueError, match="needs more images"):
        added.on_validation_epoch_end(None, module)


def test_standard_weights_that_are_missing_or_of_another_configuration_are_refused(smallest, outputs):
    with pytest.raises(ParamsError, match="unet/model is needed and missing; run chapter 03 first"):
        mitigation.finetune(smallest, "unet", "reweight")


def test_standard_weights_of_another_configuration_are_refused(smallest):
    changed = smallest.reconstruction.model_copy(
        update={"unet": smallest.reconstruction.unet.model_copy(update={"lr": 1})}
    )
    with pytest.raises(ParamsError, match="unet/model is needed and stale; run chapter 03 first"):
        mitigation.finetune(smallest.model_copy(update={"reconstruction": changed}), "unet", "reweight")


@pytest.mark.parametrize(
    ("strategy", "said"),
    {
        "reweigt": "strategies: strategy 'reweigt' is unknown; did you mean 'reweight'?",
        "eodd@-1": "strategies: lambda of 'eodd@-1' must be a number from 0, such as eodd@0.3",
        "adv@much": "strategies: lambda of 'adv@much' must be a number from 0",
        "eodd+eodd": "'eodd\\+eodd' names a part twice",
        "thresholds+eodd": "joins thresholds, which stands alone",
    }.items(),
)
def test_strategies_given_wrong(strategy, said):
    with pytest.raises(ParamsError, match=said):
        params.study(dataset={"name": "lgg"}, mitigation={"strategies": [strategy]})
    with pytest.raises(ParamsError, match=r"mitigation\.lam: Input should be greater than or equal to 0"):
        params.study(dataset={"name": "lgg"}, mitigation={"lam": -1})


def test_lambda_is_the_papers_for_each_modality():
    for name, lam in (("lgg", 1), ("nih", 0.005)):
        study = params.study(dataset={"name": name})
        assert study.mitigation.lam == lam and study.mitigation.parts("adv+reweight") == {"adv": lam, "reweight": 1}
