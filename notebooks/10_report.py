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
# The last chapter computes nothing new. It reads the tables of this run (or, with `runs: all`, of every finished noise level of this dataset) and brings
# together every figure and table of the paper and its slides, ours beside the published values where these are of the same data. They are
# grouped by question, not by number. All of it ends up in one page, `report/report.html`, which needs neither Python nor a network.

# %%
from IPython.display import Markdown

import reconfair as rf
from reconfair.report import exhibits

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
found = rf.report.gather(study)
Markdown("\n\n".join(f"**{question.capitalize()}.** {said}" for question, said in rf.report.summary(found).items()))

# %% [markdown]
# Each sentence is put together from the tables. What of the paper's grid is *not* there is named as well:

# %%
Markdown("\n".join(f"- {sentence}" for sentence in rf.report.missing(found)))

# %% [markdown]
# ## What was done?

# %%
exhibits.framework(found)

# %% [markdown]
# The diagnosis is frozen, so that whatever differs between sources comes from the images. Who the patients are:

# %%
exhibits.cohort(found)

# %%
exhibits.examples(found)

# %% [markdown]
# Three test images, chosen by the rank of their noisy version's PSNR. They show what to expect, and prove nothing.
#
# ## Does the diagnosis survive?
#
# **Predict first:** what share of the comparisons below will be *undecided*, and why is that not the same as *equivalent*?

# %%
exhibits.verdicts(found)

# %% [markdown]
# *Equivalent* is a claim that has to be earned: the whole interval of the change lies within the margin, which is a choice. Where a cohort is too small
# to exclude a change that matters, the answer is *undecided*, however small the change that was seen. The intervals are not adjusted for their number.

# %%
exhibits.against_noise(found)

# %% [markdown]
# All panels have the same axis, in percent. Where the lines of the tasks are flatter than that of PSNR, pixels suffered more than diagnoses did. It is
# not proved that what was lost in pixels is never needed: other tasks may need it.

# %%
exhibits.performance(found)

# %%
exhibits.against_baseline(found)

# %% [markdown]
# The slides asked whether subtle findings suffer more: then the dots on the left would lie lower. With few tasks no trend can be seen either way.
#
# ## Is bias shifted, and for whom?

# %%
exhibits.shift_histogram(found)

# %% [markdown]
# Every task and reconstructor is one count. A percentage of a small disparity is large; the same shifts in their own unit, with intervals:

# %%
exhibits.shift_eodd(found)

# %%
exhibits.shift_ser(found)

# %% [markdown]
# Filled points survive adjustment for their number; a hollow one is no proof that nothing happened. The same by the measures of the appendix:

# %%
exhibits.shift_eop(found)

# %%
exhibits.shift_delta_dice(found)

# %%
exhibits.bias_on_originals(found)

# %% [markdown]
# What stands in brackets is what groups of these sizes would show if nothing distinguished them. Only what exceeds it is a disparity.

# %%
exhibits.by_attribute(found)

# %% [markdown]
# `++` and `--` mark a disparity that grew or fell with adjusted p < 0.05, `+` and `-` with p < 0.1; `~` a standard error larger than the shift.

# %%
exhibits.shift_by_model(found)

# %%
exhibits.psnr_gaps(found)

# %% [markdown]
# A gap in PSNR is a gap between pixels. It neither implies nor excludes one in the diagnosis above.
#
# ## How sure are we?

# %%
exhibits.absolute_shift(found)

# %% [markdown]
# The size of a shift is never zero; the dashed line is what noise alone would give. A bar that stays below it shows no shift.

# %%
exhibits.standard_errors(found)

# %%
exhibits.power(found)

# %% [markdown]
# `detectable` is the shift that would have been found with 80 % power. Of anything smaller this study can say nothing.
#
# ## Does mitigation help, and what does it cost?

# %%
exhibits.shift_eodd_by_strategy(found)

# %%
exhibits.shift_ser_by_strategy(found)

# %%
exhibits.shift_by_strategy(found)

# %%
exhibits.cost(found)

# %% [markdown]
# Worth having is a strategy whose mark lies left of 0 on the right (less bias) and not below it (the diagnosis kept). One training with one seed is
# one draw: two trainings of the *same* strategy differ as well.

# %%
exhibits.tradeoffs(found)

# %%
exhibits.strategies(found)

# %% [markdown]
# ## The page
#
# Everything above, with its tables as CSV and LaTeX beside it; and `index.html` in the output root, over all runs.

# %%
page = rf.report.page(found)
print(page.name, *sorted(path.name for path in page.parent.glob("*.tex")))

# %% [markdown]
# All numbers of this run, as Parquet and as CSV:

# %%
rf.report.export(study)

# %% [markdown]
# **What this report does not prove.** It compares models on one cohort. Neither a small nor a large shift here is a statement about another hospital, another scanner
# or another reconstruction. Numbers of a phantom study show that the machinery works and prove nothing about patients.
