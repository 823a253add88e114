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
# Everything is now in tables: what each model said about each patient, from each image. We ask two questions. Did the
# diagnosis get worse? And did it get worse for some groups and not for others?
#
# **After this chapter you can**
#
# - compute the equalised odds difference (EODD) and the skewed error ratio (SER) of groups;
# - explain why a largest difference between groups is large by chance;
# - test whether a reconstruction changed a disparity;
# - tell "no change was found" from "nothing changed".
#
# *Reading and running: about 50 minutes.*

# %%
import numpy as np
import pandas as pd

import reconfair as rf
from reconfair import judge
from reconfair.fairness import counts, metrics, resampling, simulation

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study, which
# does not use the base. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {}
diagnosis = {}
fairness = {}
compute = {}

# %%
study = rf.params.study(
    base,
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    compute=compute,
)
performance, gaps = judge.judge(study)
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
# A score becomes a decision at a threshold, chosen on validation originals and kept for every source. To see what is compared, first an invented hospital in which
# the truth is known: the model is worse for women, and a new kind of image takes a little more from them. Each dot is an image, of a patient with the disease
# (orange) or without (blue). Right of the line the model says "positive".

# %%
two = {"women": 0.5, "men": 0.5}
truth = {"separation": {"women": 1.2, "men": 1.8}, "change": {"women": -0.3, "men": 0.0}}
hospital = simulation.simulate(patients=120, share=two, prevalence=0.4, **truth, seed=3)
rf.figures.keep(rf.figures.decisions(hospital, 0.75), study, "05_decisions")

# %% [markdown]
# For each group $a$ the shares right of the line are its true positive rate $R_1(a)$ and its false positive rate $R_0(a)$. *Equalised odds* asks that both be
# the same in all groups; the distance from that is
#
# $$\mathrm{EODD} = \tfrac12 \Bigl(\max_a R_1(a) - \min_a R_1(a)\Bigr) + \tfrac12 \Bigl(\max_a R_0(a) - \min_a R_0(a)\Bigr).$$
#
# Its first half alone is the difference in *equal opportunity*, EOP. All groups of this study, on originals:

# %%
rates = performance[(performance.source == "original") & performance.metric.isin(["tpr", "fpr"])]
keys = ["task", "attribute", "group"]
by_group = rates.pivot_table("value", keys, "metric", sort=False).join(
    rates.groupby(keys)[["patients", "positives"]].first()
)
by_group.round(2)

# %% [markdown]
# ## Why a largest difference is large by chance
#
# **Predict first:** suppose a model treats everybody alike, and you compare two groups of a thousand patients, or six groups as unequal in size as the
# races of a hospital. What EODD will you measure, on average?
#
# Nobody needs to take this on trust. Below, two hundred cohorts in which *no* group differs from another.

# %%
six = dict(zip("abcdef", np.array([176, 6936, 3093, 861, 9634, 36110]) / 56810, strict=True))


def cohort_of(seed, share, **truth):
    rows = simulation.simulate(patients=400, share=share, seed=seed, **truth)
    called = {"decision": rows.score_source >= 0.75, "reference": rows.score >= 0.75}
    who = rows[["label", "group"]].to_dict("series") | {"patient": rows.patient_id}
    return counts.tabulate(**who, **called).keep(1)[0]


by_chance = {
    f"{len(share)} groups": np.array(
        [metrics.eodd(tpr=c.rates[1, 0], fpr=c.rates[1, 1]) for c in (cohort_of(seed, share) for seed in range(200))]
    )
    for share in (two, six)
}
rf.figures.keep(rf.figures.histograms({"no disparity at all": by_chance}, "EODD", {"truth": 0}), study, "05_chance")

# %% [markdown]
# Noise can only push a largest difference up. Three positives in the smallest group make a TPR of 0, 1/3, 2/3 or 1, and that group decides the
# maximum. Three consequences, kept to everywhere below:
#
# 1. Groups with fewer than a set number of patients of each label are **left out** of comparisons, and listed. That says nothing about how well they are served.
# 2. No EODD is printed without what it would be, **on average, if there were no disparity** (`expected`): groups are exchanged among patients with the same number of
#    positive and negative images.
# 3. The same exchange answers whether there *is* a disparity: `p_disparity` is the share of exchanges in which some two groups differ by at least as much, in units of
#    their own noise.

# %%
bias = judge.main_measure(gaps)
originally = bias[bias.source == "original"].set_index(["task", "attribute", "metric"])
originally[["value", "low", "high", "expected", "p_disparity", "n_smallest", "left_out"]].round(3)

# %% [markdown]
# The interval `low` to `high` is a *union-intersection* bound: EODD is the largest of many plain differences between groups, and a bound that
# holds for each of them holds for the largest. For segmentation the slides' measures are used:
# $\mathrm{SER} = \frac{1 - \min_a \mathrm{Dice}_a}{1 - \max_a \mathrm{Dice}_a}$, which is 1 without disparity, and $\Delta\mathrm{Dice}$.

# %%
judge.bias_on_originals(gaps)

# %% [markdown]
# *Median disparity on originals, over tasks: the paper's table 1.* It is what was there before any reconstruction, in data and diagnosis; it is not the
# reconstruction's doing, and it does not say why it is there.
#
# ## Did the reconstruction change it? The swap test
#
# The **shift** is EODD on the reconstruction minus EODD on the original, of the same patients. If it makes no difference which of the two images a patient's diagnosis
# was read from, then the two decisions of each patient may be *swapped*, and the shift should not care. So we swap, at random, again and again, in the invented hospital:

# %%
label, group, patient = (hospital[column].to_numpy() for column in ("label", "group", "patient_id"))
new, old = (hospital[column].to_numpy() >= 0.75 for column in ("score_source", "score"))
random, images_of = np.random.default_rng(0), [np.flatnonzero(patient == p) for p in np.unique(patient)]


def eodd_of(called, rows=slice(None)):
    called, known, own = called[rows], label[rows], group[rows]
    rate = [[called[(own == name) & (known == y)].mean() for name in two] for y in (1, 0)]
    return metrics.eodd(tpr=rate[0], fpr=rate[1])


observed, swapped, resampled = eodd_of(new) - eodd_of(old), [], []
for _ in range(400):
    swap = random.integers(2, size=patient.max() + 1)[patient] == 1
    swapped.append(eodd_of(np.where(swap, old, new)) - eodd_of(np.where(swap, new, old)))
    rows = np.concatenate([images_of[p] for p in random.integers(len(images_of), size=len(images_of))])
    resampled.append(eodd_of(new, rows) - eodd_of(old, rows))
drawn = {"swapped: what chance alone does": {"shift": np.array(swapped)}}
drawn |= {"resampled: where it would scatter": {"shift": np.array(resampled)}}
rf.figures.keep(rf.figures.histograms(drawn, "shift of EODD", {"observed": observed, "none": 0}), study, "05_swap")

# %% [markdown]
# Left, the shift under the assumption that original and reconstruction are interchangeable: the *p*-value is the share of swaps at least as far from 0 as the observed one.
# Right, the paper's way: patients are drawn with replacement, and it is counted how often the resampled shift falls on the other side of 0.
#
# The right one looks as reasonable as the left. But resampled groups are noisier than the groups themselves, and noise pushes each EODD up, in both sources; the
# resampled shifts scatter more than shifts between cohorts do. Here are both p-values in a hundred simulated studies in which *nothing happened*:

# %%
ps = {"swap test": [], "paper's bootstrap": []}
for seed in range(100):
    nothing = cohort_of(1000 + seed, six)
    ps["swap test"].append(counts.shift(nothing, metrics=["eodd"], resamples=199)["eodd"]["p"])
    rate = counts.bootstrap(nothing, resamples=199)
    e = metrics.eodd(tpr=rate[:, :, 0], fpr=rate[:, :, 1])
    ps["paper's bootstrap"].append(resampling.shift(e[:, 0], e[:, 1])["p"])
ps = {test: np.array(values) for test, values in ps.items()}
panels = {test: {"nothing happened": values} for test, values in ps.items()}
rf.figures.keep(rf.figures.histograms(panels, "p", {"0.05": 0.05}), study, "05_p_values")
pd.Series({test: (values < 0.05).mean() for test, values in ps.items()}, name="share below 0.05")

# %% [markdown]
# A test that keeps its promise is below 0.05 in one study of twenty: its p-values are spread evenly. The bootstrap's crowd to the right: it would call almost nothing
# significant, and its silence means little. The appendix `A1_calibration` shows this for a range of cohorts, with each method's failures, ours included.
#
# ## This study
#
# Every shift with its 95 % interval. Right of 0 the disparity grew. Filled: p < 0.05 after Benjamini and Hochberg's adjustment for the number
# of comparisons. Shaded: changes that would not matter (the margin, a choice).

# %%
margin = study.fairness.margins.get("eodd", 0.05)
rf.figures.keep(rf.figures.shifts(gaps, "eodd", margin), study, "05_shift_eodd")

# %%
shifted = bias[(bias.source != "original") & bias["shift"].notna()].set_index(["task", "attribute", "metric", "source"])
columns = ["shift", "shift_low", "shift_high", "p", "p_adjusted", "p_interaction", "margin", "equivalent", "detectable"]
shifted[columns].round(3)

# %% [markdown]
# - `p`: swap test. Its null is that the two sources' decisions are interchangeable, so a small p can also mean that accuracy changed for everybody.
# - `p_interaction`: did rates change *unequally* between groups? This is the question of harm to some.
# - `margin`: no gap between any two groups changed by more than this, with 95 % confidence: the smallest margin for which this cohort supports "no change". `equivalent` is 1
#   where that is below the margin above.
# - `detectable`: the smallest shift that this cohort would find with 80 % power. **No significant shift is not no shift**: smaller ones pass unseen.
#
# In words:

# %%
model = str(study.sources[-1])
for _, row in bias[bias.source == model].iterrows():
    print(f"{row.task}, {row.attribute}:", *judge.sentences(row, rf.words.name), sep="\n  ")

# %% [markdown]
# *Not proved:* that the reconstruction caused a shift in patients not seen here, or that a gap is unjust: groups may differ in how visible their disease is.
#
# ### The slides' tables
#
# `++` and `--` mark a disparity that grew or fell with adjusted p < 0.05, `+` and `-` with p < 0.1; `~` a standard error larger than the shift.

# %%
for attribute in study.attributes():
    display(judge.by_attribute(gaps, attribute).style.set_caption(rf.words.name(attribute)))  # noqa: F821

# %% [markdown]
# *Not proved:* anything about a cell without a mark. Look up what could have been seen in the table before.
#
# ### All shifts at once
#
# Each task, attribute and reconstructor is one count (the paper's figure 3), in percent of the disparity on originals; below, median and median absolute shift by
# reconstructor (its table 2).

# %%
rf.figures.keep(rf.figures.shift_histogram(bias[bias.strategy == "standard"]), study, "05_histogram")

# %%
judge.shift_by_model(gaps)

# %% [markdown]
# *Not proved:* that a median near 0 means no harm. Shifts in both directions cancel in it, and a percentage of a small disparity is large.
#
# ## Three inferences on the same predictions
#
# Ours beside the paper's bootstrap, and beside that of its published code: one-sided, images instead of patients resampled, and for each source its own threshold, chosen
# on the very scores that are judged.

# %%
columns = ["value", "low", "high", "shift", "shift_low", "shift_high", "p"]
keys = ["task", "attribute", "source"]
compared = {i: judge.inferred(study, i) for i in ("randomisation", "bootstrap", "as_published")}
compared = {i: rows[(rows.metric == "eodd") & (rows.source == model)] for i, rows in compared.items()}
pd.concat({i: rows.set_index(keys)[columns] for i, rows in compared.items()}, names=["inference"]).round(3)

# %% [markdown]
# The estimates of the first two agree, for they are the same numbers; where the third differs, it is by its thresholds. The bootstrap's intervals for EODD never reach 0, whatever the truth.
#
# ## Who gains, who loses
#
# A shift of a difference hides who moved. Here is every group:

# %%
grouped = performance[performance.attribute != "all"]
metric = "tpr" if (grouped.metric == "tpr").any() else "dice"
rf.figures.keep(rf.figures.group_values(grouped, metric), study, "05_groups")

# %%
if study.models:  # originals alone have no PSNR
    figure = rf.figures.keep(rf.figures.group_values(grouped[grouped.task == "image"], "psnr"), study, "05_groups_psnr")
figure if study.models else None

# %% [markdown]
# A group may lose image quality and no diagnosis, or the reverse; the measures of one do not stand in for the other. Further gaps of every task:

# %%
others = gaps[~gaps.metric.isin(["eodd", "ser"]) & (gaps.source == model)]
others.pivot_table(["value", "expected", "shift"], ["task", "metric"], "attribute", sort=False).round(3)

# %% [markdown]
# `demographic_parity` differs wherever prevalence does, and `auprc_gap` too: neither is a fault of the model by itself. `calibration_gap` compares mean score minus prevalence.
#
# ## When the truth can be known
#
# A phantom population has no end. With twenty thousand fresh patients chance hardly matters, and what is left is the true disparity of these
# very models, with which the estimates above can be compared. It takes some minutes:
#
# ```python
# rf.truth.true_disparity(study, "original"), rf.truth.true_disparity(study, "unet")
# ```
#
# ## What this chapter does not prove
#
# A shift is a property of these models on these patients. It does not tell why the shift is there, nor what a clinician
# would have decided. Nothing here is causal, and nothing is a clinical claim beyond these data.
#
# ## Three things to take away
#
# 1. A largest difference between groups is never zero. Compare it with what chance gives.
# 2. Compare the same patients before and after reconstruction.
# 3. "No significant shift" is a result only together with the shift that could have been found.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 1.** Compute the EODD by sex of one task from the test predictions on originals, without the package. Compare
# it with the table.

# %% [markdown] tags=["exercise"]
# **Exercise 2.** Simulate a cohort with three groups of equal size and no disparity. How does the mean EODD change when the
# number of patients doubles?

# %% [markdown] tags=["exercise"]
# **Exercise 3.** Raise `fairness = {"min_cases": 10}`. Which groups are left out now? What can you still say about them?
