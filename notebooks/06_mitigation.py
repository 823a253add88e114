# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 Mitigation: can the reconstruction be made fairer?
#
# One could intervene in many places: in the data, in the reconstruction, in the diagnostic model, at its threshold. Here the reconstructor is touched and nothing
# else, as a vendor would who cannot retrain the hospital's models. It starts from its standard weights and is fine-tuned; the diagnosis stays frozen. Moving the threshold is
# the reference that any of this must be compared with.

# %%
import inspect

import numpy as np
import pandas as pd

import reconfair as rf
from reconfair.judge import judge, moved
from reconfair.mitigation import adv, dro, eodd, penalties, reweight

# %% tags=["parameters"]
dataset = {
    "name": "phantom_mri",
    "size": 64,
    "patients": 300,
    "slices": 2,
    "dials": {"contrast": {"sex": {"female": -0.4}}},
}
noise = {"kind": "kspace", "acceleration": 8}
reconstruction = {
    "models": ["unet", "pix2pix", "sde"],
    "unet": {"channels": 8, "depth": 3, "epochs": 8},
    "pix2pix": {"channels": 16, "epochs": 8, "batch_size": 8, "lr": 0.002, "dropout": 0},
    "sde": {"channels": 32, "depth": 3, "patch": 2, "epochs": 8, "lr": 0.003, "sampler": "few_step"},
}
diagnosis = {
    "classify": {"architecture": "resnet18", "pretrained": False, "epochs": 4, "batch_size": 32, "lr": 0.001},
    "segment": {
        "encoder": "resnet18",
        "decoder": [64, 48, 32, 16, 16],
        "pretrained": False,
        "epochs": 4,
        "batch_size": 16,
    },
}
fairness = {"min_cases": 5}
mitigation = {"strategies": ["reweight", "eodd", "adv", "thresholds"], "models": ["unet"], "epochs": 1}
compute = {}

# %%
study = rf.params.study(
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    mitigation=mitigation,
    compute=compute,
)
for model, strategy in study.mitigated:
    rf.mitigation.mitigate(study, model, strategy)
performance, gaps = judge(study, mitigated=True)
found = rf.report.gather(study)

# %%
every = (study.reconstruction.models, study.mitigation.strategies, study.attributes())
rf.figures.keep(rf.figures.framework(*every), study, "06_framework")

# %% [markdown]
# ## Reweighting
#
# A group that is rare in training is rarely asked about. Reweighting draws each image with probability
#
# $$p_i = \frac{1/n_{g(i)}}{\sum_j 1/n_{g(j)}},$$
#
# where $n_{g(i)}$ counts the images whose patient has the same sex, age group and race together. Every joint group is then seen equally often.
#
# **Predict first:** how often will an image from the smallest joint group now be drawn in an epoch?

# %%
groups = rf.mitigation.groups(study)
drawn = groups.assign(images=1, share=reweight.weights(groups)).groupby(list(groups.columns)).sum()
drawn["draws_per_image"] = drawn.share * len(groups) / drawn.images
shares = pd.DataFrame({"as they come": drawn.images / len(groups), "reweighted": drawn.share})
shares.index = [", ".join(map(str, group)) for group in drawn.index]
size = (7, 0.28 * len(shares) + 1.2)
axis = shares.sort_values("as they come").plot.barh(figsize=size, color=["#999999", "#0072B2"], width=0.75)
axis.set(xlabel="share of the images of an epoch", ylabel="")
rf.figures.keep(axis.figure, study, "06_reweight")

# %%
drawn.round(2).sort_values("images").head(8)

# %% [markdown]
# A group of four images shown dozens of times an epoch can be learned by heart. Reweighting buys attention, not information.
#
# Group DRO (`dro`) draws images as they come and weighs their losses instead, not by how rare a group is but by how badly it is reconstructed: the weight of a group grows
# exponentially with its loss. Here are two groups, one of a tenth of the images and twice the loss:

# %%
import torch

members = torch.arange(100) % 10 // 9
weigh, followed = dro.GroupDRO(members, range(100), step=0.1), []
for _ in range(60):
    followed.append(weigh.weights.numpy())
    weigh(1.0 + members, torch.arange(100))
lines = dict(zip(["common group, loss 1", "rare group, loss 2"], np.transpose(followed), strict=True))
rf.figures.keep(rf.figures.lines(lines, "batch", "weight of an image"), study, "06_dro")

# %% [markdown]
# ## EODD as a loss
#
# A decision is a step: it has no slope along which to descend. `eodd` softens it, $s = \sigma((p - \tau)/T)$, and takes the EODD of the soft decisions:

# %%
score = torch.linspace(0, 1, 201)
soft = {f"T = {t:g}": eodd.soft_decisions(score, 0.5, t).numpy() for t in (0.01, 0.1, study.mitigation.temperature)}
rf.figures.keep(rf.figures.lines(soft, "score p (threshold 0.5)", "soft decision s", score.numpy()), study, "06_soft")

# %% [markdown]
# The larger the temperature $T$, the farther from the threshold a score is still moved, and the less its disparity is that of the decisions. With $E$ the largest soft EODD over tasks
# and attributes, the loss is
#
# $$L = L_\text{recon} + \lambda\, F\, \frac{\overline{L_\text{recon}}}{\overline F}, \qquad F = \frac{E^2}{\overline{E^2}} + \frac12 \frac{\text{BCE}}{\overline{\text{BCE}}},$$
#
# where bars are moving averages that carry no gradient: they bring terms of unlike units to one scale, so that $\lambda = 1$ weighs fairness like quality. (Those below never fall under a quarter of what
# the standard weights have: else the push grows like $1/E$ as $E$ goes, and in the end throws the weights to where everyone is called ill.) A batch of sixteen images holds
# hardly a patient of a small group with the disease. So the last decision on every training image is remembered, and the batch only says in which direction they move:

# %%
print(inspect.getsource(eodd.SoftEODD.largest))

# %% [markdown]
# Why should a reconstruction see to that? Of a binary group $A$ the gap is a covariance, $E[s|A{=}0,y] - E[s|A{=}1,y] = -\text{cov}(s, A\,|\,y)\,/\,p_y(1-p_y)$: it falls if the picture stops carrying,
# beside the disease, what tells the groups apart. `adv` goes for that directly. A small network $h$ tries to read the group from what the frozen network sees in the reconstruction;
# the reconstructor minimises $\text{corr}^2(h, A)$ while $h$ maximises it:

# %%
print(inspect.getsource(adv.Adversary.__call__))

# %% [markdown]
# Does that work? A toy: one quarter of the image is brighter in one group, and all that the "reconstructor" can do is take some of that brightness away. For 100 steps it looks on.

# %%
lines = dict(
    zip(["corr² of h with the group", "share of the brightness left"], adv.duel(steps=300, alone=100).T, strict=True)
)
rf.figures.keep(rf.figures.lines(lines, "step", "share"), study, "06_adversary")

# %% [markdown]
# First $h$ finds the group, then the brightness goes, and with it what $h$ could tell. Note what it takes away: whatever tells the groups apart, be it a nuisance or the disease.
#
# All of it enters the training of any reconstructor in one place:

# %%
print(inspect.getsource(penalties.Penalties.objective))

# %% [markdown]
# (`shown` leaves out what an SDE reconstructs at times at which the true image shows through $x_t$: there is no disparity there to mend, as appendix A2 shows. A sampler must guess before it comes
# so far.)

# %% [markdown]
# ## Did the penalties fall?
#
# A strategy can only be judged if it did what it is meant to. Validation images, in units of the standard model: 1 is what fine-tuning began with.

# %%
logs = {}
for model, strategy in study.mitigated:
    path = rf.store.outputs() / study.name / rf.store.variant(model, strategy) / "log.csv"
    if path.exists():
        log = pd.read_csv(path).set_index("epoch")
        watched = log.filter(regex="share_(loss|eodd|bce|adv|balanced|worst)$|val_total|train_empty")
        logs[model, strategy] = watched.loc[[log.val_total.idxmin()]].reset_index()
pd.concat(logs, names=["model", "strategy"]).droplevel(2).round(4)

# %% [markdown]
# The row is the epoch that was kept, the one with the least `val_total`: validation loss and penalty together, weighed as in training, so that the standard model has $1 + \lambda$.
# `train_empty` is the share of cells of group, label and task that the memory of decisions had not filled, on average over the epoch: what a penalty cannot see.
#
# ## How strong?
#
# $\lambda$ is chosen, not known. Here is what it does in the experiment of appendix A2, a simulated cohort whose women were missing in the training of the reconstruction (to sweep it in a study of
# your own: `strategies: [eodd@0.1, eodd@0.3, eodd@1]`). Disparity is EODD by sex on the test images, one training each.
#
# **Predict first:** which of the three will a strong adversary harm?

# %%
tried = pd.read_csv(rf.store.NOTEBOOKS.parent / "benchmarks" / "results" / "mitigation.csv")
tried = tried[(tried.scenario == "scarce_6e2") & (tried.seed == 0) & (tried.source == tried.model)]
measures = {"disparity": "EODD", "performance": "AUROC", "psnr": "PSNR (dB)"}
rf.figures.keep(rf.figures.strengths(tried, measures), study, "06_strengths")

# %% [markdown]
# ## What it changed, in this study

# %%
everyone = performance[(performance.attribute == "all") & performance.metric.isin(["auroc", "dice", "psnr"])]
rf.figures.keep(rf.figures.values(everyone), study, "06_performance")

# %%
rf.report.exhibits.strategies(found)

# %%
rf.figures.keep(rf.figures.shifts(gaps[gaps.source != "noisy"], "eodd"), study, "06_shift_eodd")

# %%
tuned = gaps[(gaps.strategy != "standard") & gaps.metric.isin(["eodd", "ser", "psnr_gap"])]
columns = ["value", "shift_standard", "shift_standard_low", "shift_standard_high", "shift_standard_p"]
tuned.set_index(["task", "attribute", "metric", "source", "strategy"])[columns].dropna().round(3)

# %% [markdown]
# `shift_standard` compares the fine-tuned model with the standard one on the same patients: below zero, the disparity became smaller.
#
# The paper's summaries: the shift against originals by strategy (its table 3), what a strategy costs (its table 4 and figure 13).

# %%
rf.report.exhibits.shift_by_strategy(found)

# %%
rf.report.exhibits.tradeoffs(found)

# %%
rf.figures.keep(rf.report.exhibits.cost(found), study, "06_tradeoff")

# %% [markdown]
# ## Who gains, who loses
#
# A gap can close because the worse group rises or because the better one falls: *levelling down*. Only the first is worth having. Here is what became of the best and the worst
# group wherever a gap changed:

# %%
moved(performance)

# %%
grouped = performance[(performance.attribute != "all") & ~performance.source.isin(["noisy"])]
rf.figures.keep(rf.figures.group_values(grouped[grouped.task == "image"], "psnr"), study, "06_groups_psnr")

# %% [markdown]
# **What this chapter does not prove.** One training run with one seed moves results by more than many a strategy does: the appendix `A2_mitigation` asks the question with several seeds
# where the answer is known. And a disparity that the diagnostic model shows on originals cannot be expected to vanish by mending the image.
