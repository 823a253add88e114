# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 Report: what did we find?

# %%
from IPython.display import Markdown

import reconfair as rf
from reconfair.report import exhibits, show
from reconfair.words import markdown

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
runs = rf.report.gather(study)

# %% [markdown]
# ## In a minute

# %% tags=["summary"]
Markdown(markdown(rf.report.summary(runs)))

# %% [markdown]
# The last chapter computes nothing new. It reads the tables of this run (or, with `runs: all`, of every finished noise
# level of this dataset). Each sentence above is put together from them. The figures and tables below are those of the
# paper and its slides; published values stand next to ours where both are from the same data. What is missing of the
# paper's grid:

# %%
Markdown(markdown(rf.report.missing(runs)))

# %% [markdown]
# ## What was done?

# %%
show(exhibits.framework, runs)

# %% [markdown]
# The patients of this study:

# %%
show(exhibits.cohort, runs)

# %%
show(exhibits.examples, runs)

# %% [markdown]
# ## Does the diagnosis survive?
#
# **Predict first:** what share of the comparisons below is *undecided*, and why is that not the same as *equivalent*?

# %%
show(exhibits.verdicts, runs)

# %% [markdown]
# A comparison is *equivalent* only if the whole interval of the change lies within the margin, and the margin is a
# choice. If a cohort is too small to exclude a change that matters, the comparison is *undecided*, however small the
# observed change is. The intervals are not adjusted for the number of comparisons.

# %%
show(exhibits.against_noise, runs)

# %% [markdown]
# All panels have the same axis, in percent. This does not prove that the lost pixels are never needed: other tasks may
# need them.

# %%
show(exhibits.performance, runs)

# %%
show(exhibits.against_baseline, runs)

# %% [markdown]
# The slides asked whether subtle findings suffer more. Few tasks show no trend in either direction.
#
# ## Is bias shifted, and for whom?

# %%
show(exhibits.shift_histogram, runs)

# %% [markdown]
# Each task and reconstructor is one count. A small disparity makes the percentage large. Here are the same shifts in
# their own unit, with intervals:

# %%
show(exhibits.shift_eodd, runs)

# %%
show(exhibits.shift_ser, runs)

# %% [markdown]
# Filled points remain significant after adjustment for the number of comparisons. A hollow point does not prove that
# nothing happened. The measures of the paper's appendix:

# %%
show(exhibits.shift_eop, runs)

# %%
show(exhibits.shift_delta_dice, runs)

# %%
show(exhibits.bias_on_originals, runs)

# %% [markdown]
# Only the excess over the value in brackets is a disparity.

# %%
show(exhibits.by_attribute, runs)

# %%
show(exhibits.shift_by_model, runs)

# %%
show(exhibits.psnr_gaps, runs)

# %% [markdown]
# A gap in PSNR is a gap between pixels. It neither implies nor excludes a gap in the diagnosis.
#
# ## How sure are we?

# %%
show(exhibits.absolute_shift, runs)

# %% [markdown]
# The size of a shift is never exactly zero, because noise alone moves every estimate.

# %%
show(exhibits.standard_errors, runs)

# %%
show(exhibits.power, runs)

# %% [markdown]
# This study cannot tell whether there are shifts smaller than `detectable`.
#
# ## Does mitigation help, and what does it cost?

# %%
show(exhibits.shift_eodd_by_strategy, runs)

# %%
show(exhibits.shift_ser_by_strategy, runs)

# %%
show(exhibits.shift_by_strategy, runs)

# %%
show(exhibits.cost, runs)

# %% [markdown]
# A useful strategy has its mark left of 0 in the right panel (less bias) and not below 0 (the diagnosis is kept).
# One training with one seed is one draw: two trainings of the *same* strategy differ as well.

# %%
show(exhibits.tradeoffs, runs)

# %%
show(exhibits.strategies, runs)

# %% [markdown]
# ## Files
#
# `reconfair run` writes this notebook as a page, `10_report.html`, which needs neither Python nor a network, and
# `index.html` over all runs. Every table above is also written as CSV and LaTeX, and every figure as PNG:

# %%
folder = rf.report.write(runs)
print(*sorted(path.name for path in folder.glob("*.tex")))

# %% [markdown]
# All numbers of this run, as Parquet and as CSV:

# %%
rf.report.export(study)

# %% [markdown]
# **What this report does not prove.** It compares models on one cohort. It does not say why groups differ. Neither a
# small nor a large shift here is a statement about another hospital, another scanner or another reconstruction. Numbers
# of a phantom study show that the software works; they prove nothing about patients. Published values are from
# Wohlrapp et al., MIDL 2026, and its slides of April 2025; they come from other images and other models.
