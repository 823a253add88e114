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
# One could intervene in many places: in the data, in the classifier, at its threshold. Here only the reconstructor is touched, as a vendor would who cannot
# retrain the hospital's diagnostic models. It starts from its standard weights and is fine-tuned; the diagnosis stays frozen.

# %%
import reconfair as rf
from reconfair.judge import judge
from reconfair.mitigation import reweight

# %% tags=["parameters"]
dataset = {
    "name": "phantom_mri",
    "size": 64,
    "patients": 360,
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
mitigation = {"strategies": ["reweight"], "models": ["unet"], "epochs": 2}
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
    rf.mitigation.finetune(study, model, strategy)
    rf.recon.reconstruct(study, model, strategy)
    rf.diagnosis.predict(study, model, strategy)
performance, gaps = judge(study, mitigated=True)

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
weights = reweight.weights(groups)
share = (
    groups.assign(images=1, share=weights)
    .groupby(list(groups.columns))
    .agg(images=("images", "sum"), share=("share", "sum"))
)
share.assign(draws_per_image=share.share * len(groups) / share.images).round(2).sort_values("images")

# %% [markdown]
# A group of four images shown dozens of times an epoch can be learned by heart. Reweighting buys attention, not information.
#
# ## What it changed

# %%
everyone = performance[(performance.attribute == "all") & performance.metric.isin(["auroc", "dice", "psnr"])]
rf.figures.keep(rf.figures.values(everyone), study, "06_performance")

# %%
rf.figures.keep(rf.figures.shifts(gaps[gaps.source != "noisy"], "eodd"), study, "06_shift_eodd")

# %%
tuned = gaps[(gaps.strategy != "standard") & gaps.metric.isin(["eodd", "ser", "psnr_gap"])]
columns = ["value", "shift_standard", "shift_standard_low", "shift_standard_high", "shift_standard_p"]
tuned.set_index(["task", "attribute", "metric", "source", "strategy"])[columns].dropna().round(3)

# %% [markdown]
# `shift_standard` compares the fine-tuned model with the standard one on the same patients: below zero, the disparity became smaller.
#
# ## Who pays

# %%
grouped = performance[(performance.attribute != "all") & ~performance.source.isin(["noisy"])]
rf.figures.keep(rf.figures.group_values(grouped[grouped.task == "image"], "psnr"), study, "06_groups_psnr")

# %% [markdown]
# A gap can close because the worse group rises or because the better one falls. Only the first is worth having; the picture shows which it was.
#
# **What this chapter does not prove.** One training run with one seed moves results by more than many a strategy does. And a disparity that the diagnostic
# model shows on originals cannot be expected to vanish by mending the image.
