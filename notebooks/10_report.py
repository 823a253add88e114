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
# *Reading and running: about 20 minutes. You need chapter 05.*

# %%
import pandas as pd
from IPython.display import Markdown

import reconfair as rf
from reconfair.report import exhibits, show, stages
from reconfair.report import readers as fairer
from reconfair.words import markdown

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section
# of it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study,
# which does not use the base. Chapters 07 to 09 take minutes and are left out here; after they have run, `{}` in place of
# `"none"` includes them. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {}
diagnosis = {}
fairness = {}
mitigation = {}
readers = "none"
synthesis = "none"
two_stages = "none"
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

# %%
Markdown(markdown(rf.report.origin(runs)))

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
# ## What do the measures mean?
#
# A *margin* is the change that is said not to matter. It is a choice: `fairness.margins` sets it.

# %%
Markdown(markdown(rf.report.measures(runs)))

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
# PSNR is in decibels. All other panels share one axis, in percent. This does not prove that the lost pixels are never needed: other tasks
# may need them. The same numbers with their intervals:

# %%
show(exhibits.performance, runs)

# %% [markdown]
# Do difficult tasks suffer more?

# %%
show(exhibits.against_baseline, runs)

# %% [markdown]
# The slides asked whether subtle findings suffer more. With so few tasks, no trend can be shown.
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
# An attribute that is a number, such as the body mass index, can be kept whole. Then a slope says how a rate changes with
# it:

# %%
show(exhibits.slopes, runs)

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
# Chapter 07, where it was run, trained readers by several strategies. How much attention did each give to the rarest
# group?

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
# Chapter 09, where it was run, let every reader read every reconstruction. The task and attribute with the largest gap:

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
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. "No significant difference between the groups was found." What is missing in this sentence?**
#
# <details><summary>Nothing.</summary>No. It does not say how large a difference could have been overlooked.</details>
# <details><summary>The bound on the difference, and the number of patients.</summary>Yes. Without them, a study of three
# patients could write the same sentence.</details>
# <details><summary>The p-value to four digits.</summary>No. More digits do not say what could be hidden.</details>

# %% [markdown] tags=["quiz"]
# **2. Which comparison is called *kept*?**
#
# <details><summary>Its change is small.</summary>No. A small observed change with a wide interval is *not shown*.</details>
# <details><summary>Its p-value is large.</summary>No. A large p-value is no evidence that nothing changed.</details>
# <details><summary>A loss beyond the margin is excluded.</summary>Yes. The bound must lie within the margin, and the margin
# is stated.</details>

# %% [markdown] tags=["quiz"]
# **3. A strategy lowers EODD against the original images. Against what else must it be compared?**
#
# <details><summary>Against the standard model of the same reconstructor.</summary>Yes. That model may have lowered EODD just
# as much.</details>
# <details><summary>Against the best of all reconstructors.</summary>No. Then two things differ, the network and the
# strategy.</details>
# <details><summary>Against nothing else.</summary>No. What the strategy did is its difference from the same model without
# it.</details>

# %% [markdown] tags=["quiz"]
# **4. A task has a shift of EODD of +200 %. Is this a disaster?**
#
# <details><summary>Yes, bias tripled.</summary>No. It can be a shift from 0.01 to 0.03, which chance alone gives.</details>
# <details><summary>Look at the gap in its own unit, with its interval.</summary>Yes. A percentage of a small gap is large,
# and hides how small both are.</details>
# <details><summary>No, percentages are always wrong.</summary>No. They can be read beside the gap in its own unit.</details>

# %% [markdown] tags=["quiz"]
# **5. All patients of this report are simulated. What may be concluded?**
#
# <details><summary>How these reconstructions treat women.</summary>No. No woman was scanned; the cohort has what was planted
# in it.</details>
# <details><summary>That the method finds what was planted, or that it does not.</summary>Yes. The truth is known here, and
# this is what a simulation is for.</details>
# <details><summary>Nothing at all.</summary>No. The method can be checked against the known truth.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (predict, then run).** Choose the first headline of the summary that names a group, or a task, and find its
# numbers in `runs.performance`. How many rows does a sentence rest on?

# %% tags=["exercise", "solution"]
# Hint: rows of groups have an attribute other than "all"; `change` has the limits change_low and change_high.
judged = runs.performance[runs.performance.metric.isin(["tpr", "fpr", "dice"]) & runs.performance.change.notna()]
by_group = judged[(judged.attribute != "all") & (judged.verdict != "not judged")]
columns = ["task", "source", "group", "metric", "change", "change_low", "change_high", "margin", "patients", "verdict"]
by_group[columns].sort_values("change").head(5).round(3)

# %% [markdown] tags=["exercise", "solution"]
# A sentence on a loss rests on one row: a task, a source, a group and a measure. "Of n changes, k are worse" rests on
# all rows. If you quote one row, say how many rows there are.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (write).** Write a function `verdict(low, high, margin)` for a measure that should be high, such as TPR.
# It returns "worse", "better", "kept" or "not shown". Does it agree with the column `verdict`?


# %% tags=["exercise", "solution"]
# Hint: ask first whether the limits exclude 0, and then whether the lower limit lies above -margin.
def verdict(low, high, margin):
    if high < 0:
        return "worse"
    if low > 0:
        return "better"
    return "kept" if low > -margin else "not shown"


rates = by_group[(by_group.metric == "tpr") & by_group.verdict.isin(["worse", "better", "kept", "not shown"])]
mine = [verdict(*row) for row in rates[["change_low", "change_high", "margin"]].itertuples(index=False)]
print(f"{(rates.verdict == mine).sum()} of {len(rates)} agree")

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "verdict" not in globals():
    print("Hint: define verdict(low, high, margin) first.")
elif verdict(-0.10, -0.02, 0.05) != "worse":
    print("Hint: limits of -0.10 and -0.02 exclude 0 on one side. Which verdict is that?")
elif verdict(-0.10, 0.05, 0.05) == verdict(-0.03, 0.05, 0.05):
    print("Hint: two intervals include 0. Only one of them excludes a loss beyond the margin.")
else:
    print(
        "Hint: what does your function return for limits of -0.03 and -0.01? Is a shown loss within the margin worse or kept?"
    )

# %% [markdown] tags=["exercise", "solution"]
# Nearly all rows agree. The package takes a one-sided bound for *kept*, which is a little nearer to the estimate than the lower
# limit; so some rows are *kept* there and *not shown* here. The order of the questions is a choice as well.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (predict, then run).** Double all margins. Which verdicts change, and which cannot?

# %% tags=["exercise", "solution"]
# Hint: call your function with twice the margin.
wider = [verdict(row.change_low, row.change_high, 2 * row.margin) for row in rates.itertuples()]
table = pd.crosstab(pd.Series(mine, name="margin"), pd.Series(wider, name="twice the margin"))
table

# %% [markdown] tags=["exercise", "solution"]
# Only "not shown" can become "kept". "Worse" and "better" depend on 0 and not on the margin. So a margin that is chosen after
# the results can turn ignorance into safety.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (predict, then run).** With four times as many patients all intervals would be half as long. If the changes stayed
# as they are, how many of the "not shown" rows would get another verdict (`decided`)?

# %% tags=["exercise", "solution"]
# Hint: halve the distance of each limit from the change.
silent = rates[rates.verdict == "not shown"]
halved = silent.assign(low=(silent.change + silent.change_low) / 2, high=(silent.change + silent.change_high) / 2)
then = [verdict(row.low, row.high, row.margin) for row in halved.itertuples()]
decided = sum(word != "not shown" for word in then)
print(f"{decided} of {len(silent)} would be decided")

# %% tags=["exercise"]
if "decided" not in globals():
    print("Hint: call your number decided.")
elif decided < 0:
    print("Hint: a number of rows is not negative.")
else:
    print("Hint: which rows stay: those with a change near 0, or those with few patients? Sort by `patients`.")

# %% [markdown] tags=["exercise", "solution"]
# Rows whose change is far from 0 would be decided, as a loss or a gain. Those near 0 need intervals that fit between 0 and the
# margin, and many do not. The changes would not stay as they are, either: in small groups they are large by chance. The
# number of patients of a group is a fact about the study and its funding. It is not a fact about the group.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open, break it).** Write a headline about this study in which every number is right and which misleads. Then
# write one sentence for a clinician and one for an engineer that do not. What does each of them need, and what must neither
# conclude?

# %% [markdown] tags=["exercise", "solution"]
# An example of a misleading headline: the largest percentage of the table, without the gap that it is a percentage of. A
# sentence for a clinician names what happened to patients: of 100 ill patients of a group, how many more or fewer are found,
# and how sure this is. A sentence for an engineer names the model, the measure, its interval and the number of
# comparisons. Neither may conclude anything about a hospital whose scans were not read.
