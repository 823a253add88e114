# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 Report: what did we find?
#
# The last chapter computes nothing new. It reads the tables of this run (or, with `runs: all`, of every level of this dataset) and draws the two
# figures that carry the argument: performance against noise, and the shift of bias.

# %%
from IPython.display import Markdown

import reconfair as rf
from reconfair import judge

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
report = {}

# %%
study = rf.params.study(
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    mitigation=mitigation,
    report=report,
)
performance, gaps = rf.report.tables_of(study)
Markdown(rf.report.summary(study, performance, gaps))

# %% [markdown]
# ## Performance against noise
#
# Image quality as a percentage of the best value shown, diagnosis as a percentage of its value on originals, both on one
# axis: if the lines on the right are flatter than those on the left, pixels suffer more than diagnoses do.

# %%
rf.figures.keep(rf.figures.against_noise(rf.report.against_noise(performance)), study, "07_against_noise")

# %% [markdown]
# ## Bias shift
#
# Every task and model is one count: by how many percent of its bias on originals did the disparity change?

# %%
rf.figures.keep(
    rf.figures.shift_histogram(judge.main_measure(gaps[gaps.strategy == "standard"])), study, "07_bias_shift"
)

# %%
rf.report.bias_table(gaps)

# %% [markdown]
# Median bias on originals, its median shift in percent, and the median absolute shift, over tasks and reconstructors, as in the paper's summary tables.
#
# ## Every number
#
# All tables of this run lie beside this report, as Parquet and as CSV:

# %%
rf.report.export(study)

# %% [markdown]
# **What this report does not prove.** It compares models on one cohort. Neither a small nor a large shift here is a statement about another hospital, another scanner
# or another reconstruction. Numbers of a phantom study show that the machinery works and prove nothing about patients.
