# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 Report: what did we find?
#
# This chapter computes nothing new. It reads the tables of a run and puts them together as sentences, figures and
# tables.
#
# **After this chapter you can**
#
# - read a headline and find the numbers that carry it;
# - tell "kept", "not shown" and "worse" apart;
# - compare a mitigation strategy with the right standard model;
# - say what is missing before anyone else does.
#
# *Reading and running: about 20 minutes.*

# %%
from IPython.display import Markdown

import reconfair as rf
from reconfair.report import exhibits, show, stages
from reconfair.report import readers as fairer
from reconfair.words import markdown

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section
# of it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study,
# which does not use the base. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {}
diagnosis = {}
fairness = {}
mitigation = {}
readers = {}
synthesis = {}
two_stages = {}
report = {}
compute = {}

# %%
study = rf.params.study(
    base,
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    report=report,
    compute=compute,
    mitigation=mitigation,
    readers=readers,
    synthesis=synthesis,
    two_stages=two_stages,
)
runs = rf.report.gather(study)

# %% [markdown]
# ## In a minute

# %% tags=["summary"]
Markdown(markdown(rf.report.summary(runs)))

# %% [markdown]
# The tables are those of this run or, with `runs: all`, of every finished noise level of this dataset. With
# `dataset.folds` they count the test patients of all folds; pictures are of fold 1. Each sentence
# above is put together from them and names its margin. The figures and tables below are those of the paper and its
# slides; published values stand next to ours where both are from the same data. What is missing from the paper's
# grid:

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
# **Predict first:** what share of the comparisons below is *not shown*, and why is that not the same as *kept*?

# %%
show(exhibits.verdicts, runs)

# %% [markdown]
# *Worse* and *better* mean that the interval of the change excludes 0. *Kept* means that a loss beyond the margin is
# excluded, and the margin is a choice. If a cohort is too small for either, the comparison is *not shown*, however
# small the observed change is. The limits of groups hold for all groups, tasks and sources of an attribute at once.

# %%
show(exhibits.against_noise, runs)

# %% [markdown]
# All panels have the same axis, in percent. This does not prove that the lost pixels are never needed: other tasks
# may need them. The same numbers with their intervals:

# %%
show(exhibits.performance, runs)

# %% [markdown]
# Do difficult tasks suffer more?

# %%
show(exhibits.against_baseline, runs)

# %% [markdown]
# The slides asked whether subtle findings suffer more. Few tasks show no trend in either direction.
#
# ## Is bias shifted, and for whom?
#
# The first result is what happened to each group:

# %%
show(exhibits.group_changes, runs)

# %% [markdown]
# A group that lost is named in the summary with its limits, its number of cases and the margin. Groups with too few
# cases are not drawn, which says nothing about them. The paper's view is that of gaps between groups:

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
# A filled point has an interval that excludes 0. A hollow point does not prove that nothing happened. The measures of
# the paper's appendix:

# %%
show(exhibits.shift_eop, runs)

# %%
show(exhibits.shift_delta_dice, runs)

# %% [markdown]
# How large was the bias before any reconstruction?

# %%
show(exhibits.bias_on_originals, runs)

# %% [markdown]
# Only the excess over the value in brackets is a disparity. Every task, with the verdict on its shift:

# %%
show(exhibits.by_attribute, runs)

# %% [markdown]
# Over tasks and attributes, for each reconstructor. EODD and SER stand apart, because they have different units:

# %%
show(exhibits.shift_by_model, runs)

# %% [markdown]
# Are some groups' images better than others'?

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
show(exhibits.interval_lengths, runs)

# %% [markdown]
# What can be claimed with these intervals?

# %%
show(exhibits.supported, runs)

# %% [markdown]
# Changes below `bound` can be there and stay unseen. Only where the bound is below the margin may one say "no change
# that matters".
#
# ## Does mitigation help, and what does it cost?

# %%
show(exhibits.group_changes_by_strategy, runs)

# %% [markdown]
# A strategy that closes a gap by harming the better group is no help. This figure shows who moved. The gaps:

# %%
show(exhibits.shift_eodd_by_strategy, runs)

# %%
show(exhibits.shift_ser_by_strategy, runs)

# %% [markdown]
# In percent of the gap on originals, for each reconstructor:

# %%
show(exhibits.shift_by_strategy, runs)

# %% [markdown]
# And what does a strategy cost, against the standard model of the same reconstructor?

# %%
show(exhibits.cost, runs)

# %% [markdown]
# A useful strategy has its mark left of 0 in the right panel (less bias) and not below 0 (the diagnosis is kept).
# One training with one seed is one draw: two trainings of the *same* strategy differ as well. The same as a table:

# %%
show(exhibits.tradeoffs, runs)

# %% [markdown]
# Thresholds by group change no image. They need enough validation cases in each group:

# %%
show(exhibits.group_thresholds, runs)

# %% [markdown]
# Performance of everyone, strategy by strategy:

# %%
show(exhibits.strategies, runs)

# %% [markdown]
# ## Can the reader be made fairer?
#
# Chapter 07 trained readers by several strategies. How much attention did each give to the rarest group?

# %%
show(fairer.readers_doses, runs)

# %% [markdown]
# Their gap against their performance, on the originals:

# %%
show(fairer.readers_against_gap, runs)

# %% [markdown]
# All measures, with the change from the baseline in square brackets:

# %%
show(fairer.readers, runs)

# %% [markdown]
# ## Do synthetic patients help?

# %%
show(exhibits.synthetic_images, runs)

# %% [markdown]
# Images that look right need not help anybody. What counts is the classifier, on real test patients:

# %%
show(exhibits.synthetic_training, runs)

# %% [markdown]
# ## Where should a hospital intervene?
#
# Chapter 09 let every reader read every reconstruction. The task and attribute with the largest gap:

# %%
show(stages.grid_cells, runs)

# %% [markdown]
# The row and the column *Replicate* show the luck of a training. The same cells, with intervals:

# %%
show(stages.grid_front, runs)

# %% [markdown]
# What the rule chose on validation patients, and what one look at test patients says:

# %%
show(stages.grid_decisions, runs)

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
# ## What this report does not prove
#
# It compares models on one cohort. It does not say why groups differ. Neither a small nor a large shift here is a
# statement about another hospital, another scanner or another reconstruction. Numbers of a phantom study show that
# the software works; they prove nothing about patients. Published values are from Wohlrapp et al., MIDL 2026, and its
# slides of April 2025; they come from other images and other models.
#
# ## Three things to take away
#
# 1. Each sentence of a report needs its numbers: size, limits, cases and margin.
# 2. "Not shown" is the most frequent answer of a small study, and it is an answer about the study.
# 3. Compare a strategy with the standard model of the same reconstructor, and look at who moved.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 1.** Choose a sentence of the summary and find its numbers in `runs.performance` or `runs.fairness`.

# %% [markdown] tags=["exercise"]
# **Exercise 2.** Double all margins (`fairness = {"margins": {...}}`). Which headlines change, and which cannot?

# %% [markdown] tags=["exercise"]
# **Exercise 3.** Write one sentence on this study for a clinician and one for an engineer. What does each need, and
# what must neither of them conclude?
