# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 Fairness: does the diagnosis change, and for whom?
#
# Everything is now in tables: what each model said of each patient from each image. Two questions are asked of them.
# Did the diagnosis get worse? And did it get worse for some and not for others?

# %%
import reconfair as rf
from reconfair.judge import judge

# %% tags=["parameters"]
dataset = {
    "name": "phantom_mri",
    "size": 64,
    "patients": 360,
    "slices": 2,
    "dials": {"contrast": {"sex": {"female": -0.4}}},
}
noise = {"kind": "kspace", "acceleration": 8}
reconstruction = {"models": ["unet"], "unet": {"channels": 8, "depth": 3, "epochs": 8}}
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

# %%
study = rf.params.study(
    dataset=dataset, noise=noise, reconstruction=reconstruction, diagnosis=diagnosis, fairness=fairness
)
performance, gaps = judge(study)
len(performance), len(gaps)

# %% [markdown]
# ## Performance
#
# AUROC for classification: the chance that a patient with the disease scores above one without. Dice for
# segmentation: twice the overlap over the sum of both areas. Bars are 95 % intervals of a bootstrap over *patients*: all sources are read in the same resamples.
#
# **Predict first:** how much of the loss in image quality will arrive at the diagnosis?

# %%
everyone = performance[performance.attribute == "all"]
main = everyone[everyone.metric.isin(["auroc", "dice", "psnr"])]
rf.figures.keep(rf.figures.values(main), study, "05_performance")

# %% [markdown]
# ## One confusion matrix per group
#
# For a decision, each group $a$ has a true positive rate $R_1(a)$ and a false positive rate $R_0(a)$. Equalised odds asks that both be the same in all groups; the
# distance from that is
#
# $$\mathrm{EODD} = \tfrac12 \Bigl(\max_a R_1(a) - \min_a R_1(a)\Bigr) + \tfrac12 \Bigl(\max_a R_0(a) - \min_a R_0(a)\Bigr).$$

# %%
rates = performance[(performance.source == "original") & performance.metric.isin(["tpr", "fpr"])]
keys = ["task", "attribute", "group"]
by_group = rates.pivot_table("value", keys, "metric", sort=False).join(
    rates.groupby(keys)[["patients", "positives"]].first()
)
by_group.round(2)

# %% [markdown]
# A group with one positive patient has a TPR of 0 or 1, and the largest minus the smallest rate is then large by chance alone. That is why
# groups with fewer than a set number of patients of each label are left out of the comparison, and listed:

# %%
left_out = gaps[(gaps.source == "original") & gaps.metric.isin(["eodd", "ser"])]
left_out[["task", "attribute", "groups", "n_smallest", "left_out"]].set_index(["task", "attribute"])

# %% [markdown]
# "Left out" means *not compared*. It says nothing about how well these patients are served.
#
# ## Bias on originals: what was there before any reconstruction
#
# For segmentation the slides' measures: $\mathrm{SER} = \frac{1 - \min_a \mathrm{Dice}_a}{1 - \max_a \mathrm{Dice}_a}$, which is 1 without disparity, and $\Delta\mathrm{Dice}$.

# %%
bias = gaps[gaps.metric.isin(["eodd", "ser"])]
bias[bias.source == "original"].set_index(["task", "attribute", "metric"])[
    ["value", "low", "high", "n_smallest"]
].round(3)

# %% [markdown]
# **Read these with care.** EODD is a largest difference, and so never below 0: noise can only push it up. Its bootstrap interval cannot contain 0, even
# where there is no disparity at all. A value well above 0 is not by itself evidence of bias.
#
# ## Bias shift: what the reconstruction adds
#
# The shift is EODD on the reconstruction minus EODD on the original, of the same patients, in the same resamples. Right of zero, the disparity grew.

# %%
rf.figures.keep(rf.figures.shifts(gaps, "eodd"), study, "05_shift_eodd")

# %%
shift = gaps[gaps.metric.isin(["eodd", "ser"]) & (gaps.source != "original") & gaps["shift"].notna()]
shift.set_index(["task", "attribute", "metric", "source"])[["shift", "shift_low", "shift_high", "p"]].round(3)

# %% [markdown]
# $p = \min\bigl(1, 2\,(1 + \min(\#\{d^* \le 0\}, \#\{d^* \ge 0\}))/(B + 1)\bigr)$ over the $B$ resampled shifts $d^*$: the paper's inference. In simulations it is far too
# cautious for such max-min statistics: where nothing changed it says "significant" in about one study of a thousand, not in fifty. So a large $p$ is no sign that nothing changed.

# %% [markdown]
# ## Who gains, who loses
#
# A shift of a difference hides who moved. Here is every group:

# %%
grouped = performance[performance.attribute != "all"]
metric = "tpr" if (grouped.metric == "tpr").any() else "dice"
rf.figures.keep(rf.figures.group_values(grouped, metric), study, "05_groups")

# %%
rf.figures.keep(rf.figures.group_values(grouped[grouped.task == "image"], "psnr"), study, "05_groups_psnr")

# %% [markdown]
# ## When the truth can be known
#
# A phantom population has no end. With twenty thousand fresh patients chance hardly matters, and what is left is the true disparity of these
# very models, with which the estimates above can be compared. It takes some minutes:
#
# ```python
# rf.truth.true_disparity(study, "original"), rf.truth.true_disparity(study, "unet")
# ```
#
# **What this chapter does not prove.** No significant shift is not the same as no shift: with this many patients only large ones can be seen. A shift is a
# property of these models on these patients; it says nothing about why, nor about what a clinician would have decided.
