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
# All results are now in tables: what each reader says about each patient, from each image. Two questions remain. Did
# the diagnosis get worse? And did it get worse for some patients and not for others?
#
# **After this chapter you can**
#
# - compute the change of each group, with limits that hold for all groups at once;
# - say why a largest difference between groups is large by chance, and compare it with what chance gives;
# - say why it is hard to show that a gap grew, and when "no change" may be claimed;
# - correct for many comparisons, and read the paper's bootstrap on the same data.
#
# *Reading and running: about 60 minutes. You need chapter 04, and what a standard error is.*

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown
from scipy import stats

import reconfair as rf
from reconfair import judge, play
from reconfair.diagnosis import probe
from reconfair.fairness import cells, decision, gaps, metrics, planning, resampling, sensitivity, simulation, two_groups

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
performance, disparities = judge.judge(study)
everyone, groups = performance[performance.attribute == "all"], performance[performance.attribute != "all"]
source = str(study.sources[-1])
len(performance), len(disparities)

# %% [markdown]
# These are the rows of the two tables of this chapter: performance (of everyone and of each group) and fairness
# (differences between groups). Everything below is read from them.
#
# If the study has `dataset.folds`, every patient was tested once, by models that were not trained on that patient. Rates
# count the decisions of all folds, each at the threshold of its fold. AUROC compares only pairs of patients of one fold,
# because scores of different models have different scales. The intervals are given these trained models: patients vary
# in them, and the noise of training does not.
#
# ## Performance of everyone
#
# AUROC is the probability that a patient with the disease has a higher score than one without; 0.5 is chance. Dice is
# twice the overlap of two outlines divided by the sum of their areas. Both are compared for the *same patients*, read
# from the original and from another image.
#
# **Predict first:** how much of the loss in image quality will reach the diagnosis?

# %%
main = everyone[everyone.metric.isin(["auroc", "dice", "psnr"])]
rf.figures.keep(rf.figures.values(main), study, "05_performance")

# %%
asked = everyone[everyone.metric.isin(["auroc", "dice", "tpr", "fpr"]) & (everyone.source != "original")]
worse, chance = asked[asked.verdict == "worse"], everyone[everyone.note.str.contains("chance")]
alike = judge.called_alike(performance)
Markdown(
    f"For everyone together, {len(worse)} of {len(asked)} changes of AUROC, TPR, FPR and Dice are shown to be worse, "
    f"{(asked.verdict == 'kept').sum()} are kept within the margin, and {(asked.verdict == 'not shown').sum()} are not "
    "shown either way. "
    + (
        f"Not shown to be better than chance: {'; '.join(f'{row.task} on {row.source}' for row in chance.itertuples())}. "
        if len(chance)
        else "No interval of AUROC holds 0.5. "
    )
    + " ".join(f"For {row.task} on {row.source}, {row.called} is called positive." for row in alike.itertuples())
)

# %% [markdown]
# Bars are 95 % intervals of each value alone. A diagnosis at chance cannot lose anything, so its bias means little.
# Where everybody is called positive, TPR and FPR are 1 in all groups, and the gap between groups is 0 for that
# reason.
#
# *Not proved:* that the lost image quality is never needed. Other tasks may need it.
#
# ## Performance of each group
#
# A score becomes a decision at a threshold, which is chosen on validation originals and stays the same for every
# source. First we invent a hospital in which the truth is known. The reader is worse for women, and a new kind of image
# makes it a little worse still. Each dot is a patient with the disease (orange) or without (blue). Right of the line
# the reader says "positive".

# %%
two = {"women": 0.5, "men": 0.5}
truth = {"separation": {"women": 1.2, "men": 1.8}, "change": {"women": -0.4, "men": 0.0}, "images": (1, 1)}
hospital = simulation.simulate(patients=400, share=two, prevalence=0.4, **truth, seed=3)
rf.figures.keep(rf.figures.decisions(hospital, 0.75), study, "05_decisions")

# %% [markdown]
# For each group $a$, the shares right of the line are its true positive rate $R_1(a)$ (TPR, sensitivity) and its
# false positive rate $R_0(a)$ (FPR, 1 - specificity). All groups of this study:

# %%
rates = ["tpr", "fpr"] if (groups.metric == "tpr").any() else ["dice"]
rf.figures.keep(rf.figures.group_values(groups, *rates), study, "05_groups")

# %%
of_originals = groups[(groups.source == "original") & groups.metric.isin(rates)]
small, empty = of_originals[of_originals.compared == 0], of_originals[of_originals.value.isna()]
Markdown(
    f"On originals, {len(of_originals)} values of groups are listed. {len(small)} of them rest on fewer than "
    f"{study.fairness.min_cases} patients with the label that is needed; these groups are not compared. "
    + "; ".join(f"{row.task}, {row.group}: {row.note}" for row in empty.head(3).itertuples())
)

# %% [markdown]
# A group of three patients can only have a TPR of 0, 1/3, 2/3 or 1. The table lists it with two precautions. Its
# interval is wide. And the column `pooled` borrows from the other groups: the empirical Bayes rate
# $\frac{x + m\,\bar R}{n + m}$ adds $m$ imaginary cases at the mean rate $\bar R$ to the $x$ of $n$ cases of the group. The
# number $m$ is estimated from how much the groups differ.

# %%
smallest = of_originals[of_originals.metric.isin(["tpr", "dice"])].sort_values("patients").head(4)
smallest.set_index(["task", "attribute", "group"])[
    ["patients", "value", "low", "high", "pooled", "pooled_low", "pooled_high"]
].round(2)

# %% [markdown]
# *Not proved:* that a group with a low rate is treated unjustly. Its disease may be harder to see, or its labels
# worse.
#
# ## What happened to each group: the first result
#
# The clearest question has no maximum in it: for each group, how much did its rate change when *the same patients*
# were read from another image? Count the patients with the disease who turned positive (gain $g$) and negative (loss
# $l$):
#
# $$\Delta R_1(a) = g - l, \qquad L = \Delta R_1 - \sqrt{(g - g_L)^2 + (l_U - l)^2 + 2 r\,(g - g_L)(l_U - l)}.$$
#
# $g_L$ and $l_U$ are limits of the two shares (Clopper and Pearson 1934), $r$ accounts for the fact that nobody can
# turn both ways, and the upper limit is built in the same way. This is the *method of variance estimates recovery*
# (Zou and Donner 2008). It needs no resampling, and it holds where nobody turned, since the limits of a share of 0
# are not 0. By hand, for the invented hospital:


# %%
def change(before, after, z=1.96):
    """Change of a rate of the same n patients, and its limits at the one-sided normal level z."""
    n, tail = len(before), stats.norm.sf(z)
    gained, lost = (after & ~before).sum(), (before & ~after).sum()
    low = [stats.beta.ppf(tail, x, n - x + 1) if x else 0.0 for x in (gained, lost)]
    high = [stats.beta.isf(tail, x + 1, n - x) for x in (gained, lost)]
    gain, loss = gained / n, lost / n
    r = np.sqrt(gain * loss / ((1 - gain) * (1 - loss)))
    lower = np.sqrt((gain - low[0]) ** 2 + (high[1] - loss) ** 2 + 2 * r * (gain - low[0]) * (high[1] - loss))
    upper = np.sqrt((high[0] - gain) ** 2 + (loss - low[1]) ** 2 + 2 * r * (high[0] - gain) * (loss - low[1]))
    return gain - loss, gain - loss - lower, gain - loss + upper


ill = dict(list(hospital[hospital.label == 1].groupby("group")))
by_hand = {
    group: change((rows.score >= 0.75).to_numpy(), (rows.score_source >= 0.75).to_numpy())
    for group, rows in ill.items()
}
pd.DataFrame(by_hand, ["change of TPR", "low", "high"]).T.assign(
    patients={g: len(rows) for g, rows in ill.items()}
).round(3)

# %%
lost = {group: high < 0 for group, (_, _, high) in by_hand.items()}
Markdown(
    "; ".join(f"{group}: {'a loss is shown' if shown else 'no loss is shown'}" for group, shown in lost.items())
    + ". In truth the women lost "
    + f"{stats.norm.cdf(1.2 - stats.norm.ppf(0.75)) - stats.norm.cdf(0.8 - stats.norm.ppf(0.75)):.2f} "
    "of their TPR, and the men nothing."
)

# %% [markdown]
# **Predict first:** in this study, which group loses most, and is that the group that was rare or hard to see?

# %%
changes = judge.changes(groups[groups.source != "noisy"], study.fairness.primary)
rf.figures.keep(rf.figures.changes(changes), study, "05_changes")

# %%
count = changes.verdict.value_counts().reindex(["worse", "better", "kept", "not shown"], fill_value=0)
lines = [
    f"- {row.task}, {rf.words.name(row.source)}, {rf.words.name(row.attribute)}: {judge.change_sentence(row)}"
    for _, row in changes.head(4).iterrows()
]
Markdown(
    f"Of {len(changes)} changes of compared groups, {count.worse} are worse, {count.better} better, {count.kept} exclude "
    f"a loss beyond the margin, and {count['not shown']} show neither. The four that most clearly lost, or came nearest "
    "to it:\n\n" + "\n".join(lines)
)

# %% [markdown]
# *Filled:* the limits exclude 0. *Grey:* a loss beyond the margin is excluded (the shaded margin is a choice, see
# `fairness.margins`). *Hollow:* neither is shown; there are too few patients. The limits are wider than those of one
# group alone, because they hold for all groups, tasks and sources of an attribute together; a section below says how.
#
# *Not proved:* that a group without a shown loss lost nothing.
#
# ## Gaps between groups
#
# Papers summarise groups by one number. *Equalised odds* asks that TPR and FPR be the same in all groups (Hardt,
# Price and Srebro 2016). The *equalised odds difference* (EODD) is the distance from that,
#
# $$\mathrm{EODD} = \tfrac12 \Bigl(\max_a R_1(a) - \min_a R_1(a)\Bigr) + \tfrac12 \Bigl(\max_a R_0(a) - \min_a R_0(a)\Bigr),$$
#
# and its first half alone is the difference in *equal opportunity* (EOP). EODD is half the sum of two ranges here, as in the
# paper. The function `equalized_odds_difference` of Fairlearn returns the larger of the two ranges, so compare values of one
# kind only (`fairness.eodd: worst_case` takes the larger). For segmentation the slides use the *skewed
# error ratio*, $\mathrm{SER} = \frac{1 - \min_a \mathrm{Dice}_a}{1 - \max_a \mathrm{Dice}_a}$, which is 1 if groups
# are equal.
#
# ### By hand
#
# Eighteen patients, small enough for paper: nine of group a and nine of group b. `ill` is the truth, and `called` is the
# decision of the reader.

# %%
eighteen = pd.DataFrame(
    {
        "group": list("aaaaaaaaabbbbbbbbb"),
        "ill": [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0],
        "called": [1, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0],
    }
)
eighteen.T

# %% [markdown]
# **Predict first:** count TP, FN, FP and TN of both groups on paper, and compute TPR, FPR and EODD. The next cell does the
# same.

# %%
rates_by_hand = eighteen.groupby(["ill", "group"]).called.mean().unstack().rename({1: "TPR", 0: "FPR"})
ranges = rates_by_hand.max(axis=1) - rates_by_hand.min(axis=1)
eodd_by_hand = ranges.mean()
rates_by_hand.assign(range=ranges).round(3)

# %%
Markdown(
    f"TPR differs by {ranges['TPR']:.2f} and FPR by {ranges['FPR']:.2f}. EODD is their mean, {eodd_by_hand:.3f}. Group b is "
    "served worse on both sides: its ill patients are missed more often, and its healthy patients get more false alarms."
)

# %% [markdown]
# Now the outlines of six patients, three of each group. `true` and `drawn` are areas in pixels, and `overlap` is the area
# that both share. Dice is $2 \cdot \text{overlap} / (\text{true} + \text{drawn})$.
#
# **Predict first:** compute the six values of Dice, the mean of each group, and SER.

# %%
outlines = pd.DataFrame(
    {
        "group": list("aaabbb"),
        "true": [40, 30, 42, 30, 44, 50],
        "drawn": [40, 30, 38, 30, 36, 50],
        "overlap": [34, 27, 38, 21, 32, 45],
    }
)
outlines["dice"] = 2 * outlines.overlap / (outlines.true + outlines.drawn)
mean_dice = outlines.groupby("group").dice.mean()
ser_by_hand = (1 - mean_dice.min()) / (1 - mean_dice.max())
outlines

# %%
Markdown(
    f"The mean Dice is {mean_dice['a']:.2f} in group a and {mean_dice['b']:.2f} in group b. The errors are "
    f"{1 - mean_dice['a']:.2f} and {1 - mean_dice['b']:.2f}, so SER is {ser_by_hand:.2f}: the outlines of group b have "
    f"{ser_by_hand:.2g} times the error. The difference in Dice is only {mean_dice.max() - mean_dice.min():.2f}."
)

# %% [markdown]
# ### By chance
#
# **Predict first:** suppose a reader treats everybody alike, and you compare two groups of equal size, or six groups
# as unequal in size as the races of a large hospital. What EODD will you measure, on average?

# %%
six = dict(zip("abcdef", np.array([176, 6936, 3093, 861, 9634, 36110]) / 56810, strict=True))


def eodd_of(rows, column="score"):
    called = rows.assign(called=rows[column] >= 0.75).groupby(["label", "group"]).called.mean().unstack()
    return float(metrics.eodd(tpr=called.loc[1.0], fpr=called.loc[0.0]))


by_chance = {
    f"{len(share)} groups": np.array(
        [eodd_of(simulation.simulate(patients=400, share=share, images=(1, 1), seed=k)) for k in range(150)]
    )
    for share in (two, six)
}
rf.figures.keep(rf.figures.histograms({"no disparity at all": by_chance}, "EODD", {"truth": 0}), study, "05_chance")

# %%
Markdown(
    "No group differs from another in these cohorts, and yet the mean EODD is "
    + " and ".join(f"{values.mean():.2f} with {title}" for title, values in by_chance.items())
    + "."
)

# %% [markdown]
# Move the sliders. Group a has 1,000 patients. The ill patients of group b have scores that are lower by the disparity. Left
# are the two groups on their ROC curves. Right is EODD with its interval, and in grey the EODD of studies in which the groups
# are equal.
#
# **Predict first:** with a disparity of 0.5, how many patients must group b have before the interval leaves 0?

# %%
play.show(play.gap, play.GAP)

# %%
enough = [n for n in play.PATIENTS if two_groups.compare(patients=n, disparity=0.5, threshold=0.7)["low"] > 0]
Markdown(
    f"At the threshold 0.7 the interval leaves 0 with {min(enough)} patients, and with no smaller number of the slider."
)

# %% [markdown]
# On average, noise makes a largest difference larger, and the smallest group decides by how much. Three consequences hold from here
# on:
#
# - Groups with fewer than a set number of patients of each label are **left out** of gaps, and listed. This says
#   nothing about how well they are served.
# - No gap is printed without `expected`, its mean if the groups did not differ.
# - The column `p` tests whether they differ, from the largest difference between two groups in units of its own
#   noise.

# %%
bias = judge.main_measure(disparities)
originally = bias[bias.source == "original"].set_index(["task", "attribute", "metric"])
columns = ["value", "low", "high", "expected", "p", "n_smallest", "left_out"]
originally[columns].assign(p=originally.p.map(rf.words.p_value, na_action="ignore")).round(3)

# %%
tested, lowest = originally[originally.p_adjusted.notna()], {"eodd": "TPR - FPR", "ser": "Dice"}
Markdown(
    f"On originals, groups differ in {(tested.p_adjusted <= 0.05).sum()} of {len(tested)} comparisons (adjusted p at most "
    "0.05). "
    + "; ".join(
        f"{task}, {rf.words.name(attribute)}: {row.worst} has the lowest {lowest[metric]}"
        for (task, attribute, metric), row in tested[tested.p_adjusted <= 0.05].iterrows()
    )
)

# %% [markdown]
# The median over tasks, in the form of the paper's table 1 (EODD and SER in rows of their own, because they have
# different units):

# %%
judge.bias_on_originals(disparities)

# %% [markdown]
# *Not proved:* that reconstruction causes these gaps. They were there before any reconstruction, in the data and the
# reader.
#
# ## Did the gap change?
#
# The **shift** is EODD on the reconstruction minus EODD on the original, for the same patients. Its sign is hard to
# decide: with a true difference $D$ between two groups before, and a change $d$ of that difference, the shift is
# $\lvert D + d \rvert - \lvert D \rvert$. If the sign of $D$ is not known, it can be anything from $-\lvert d \rvert$
# to $+\lvert d \rvert$. So three statements are kept apart:
#
# - *The gap grew (or fell)*: the interval of the shift excludes 0.
# - *The groups changed unequally*: some difference between two groups changed (`p_unequal`). Whether that widened the
#   gap cannot be told.
# - *No change that matters*: the 95 % `bound` on the change of **any** gap between two groups is below the margin.

# %%
main_gap = "eodd" if (bias.metric == "eodd").any() else "ser"
rf.figures.keep(rf.figures.shifts(disparities[disparities.source != "noisy"], main_gap), study, "05_shift_eodd")

# %%
shifted = bias[~bias.source.isin(["original", "noisy"]) & bias["shift"].notna()]
lines = [
    f"- {row.task}, {rf.words.name(row.attribute)}, {rf.words.name(row.source)}: "
    + " ".join(each for each in judge.sentences(row) if "shift" in each)
    for _, row in shifted[shifted.source == source].iterrows()
]
counted = shifted.verdict.value_counts().to_dict()
Markdown(
    f"Verdicts on {len(shifted)} shifts: {', '.join(f'{n} {verdict}' for verdict, n in counted.items()) or 'none'}. "
    f"Those of {rf.words.name(source)}:\n\n" + "\n".join(lines)
    if len(shifted)
    else "Nothing is compared with the originals, so there is no shift."
)

# %% [markdown]
# *Not proved:* that "not shown" means unchanged. The bound says how much could be hidden.
#
# The slides have a table for each attribute. Ours adds the verdict; a value without a word means "not shown":

# %%
pd.concat(
    {rf.words.name(attribute): judge.by_attribute(disparities, attribute) for attribute in study.attributes()}
).fillna("")

# %% [markdown]
# ## Many comparisons
#
# Twenty comparisons of things that are equal give one "significant" result on average. Two corrections are used here.
# For the changes of groups, the limits hold *simultaneously*: with $m$ changes each has the level $0.95^{1/m}$. For
# gaps, p-values are adjusted after Benjamini and Hochberg (1995): sort them, and multiply the $i$-th smallest by
# $m/i$.

# %%
m = len(judge.changes(groups, study.fairness.primary).query("attribute == @study.attributes()[0]"))
number = np.arange(1, 201)
drawn = {"simultaneous limits": stats.norm.ppf((1 + 0.95 ** (1 / number)) / 2), "one comparison": np.full(200, 1.96)}
rf.figures.keep(
    rf.figures.lines(drawn, "number of changes m", "half length (standard errors)", number),
    study,
    "05_multiplicity",
)

# %%
p = np.sort(tested.p.to_numpy())
adjusted = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1].clip(max=1)
Markdown(
    f"By {rf.words.name(study.attributes()[0])}, this study has {m} changes of groups. An interval is "
    f"{stats.norm.ppf((1 + 0.95 ** (1 / max(m, 1))) / 2) / 1.96:.2f} times as long as that of a single comparison: the "
    "price grows slowly. "
    + (
        f"Of the gaps on originals, the smallest p is {p[0]:.3g}; adjusted over these rows alone it is {adjusted[0]:.3g}."
        if len(p)
        else ""
    )
)

# %% [markdown]
# The tables adjust within each attribute and measure, over all tasks and sources.
#
# *Not proved:* anything about comparisons that were made and not reported.
#
# ## What the paper's bootstrap says about the same data
#
# The paper draws patients with replacement, computes the shift in each such cohort, and counts how often it falls on
# the other side of 0. Another idea is the *swap test*: if it makes no difference which image a patient was read from,
# the two decisions of each patient can be exchanged at random. Both are short loops over the patients of the invented
# hospital:


# %%
def shift_of(rows):
    return eodd_of(rows, "score_source") - eodd_of(rows, "score")


def bootstrap(rows, resamples=200):
    draw = np.random.default_rng(0)
    return np.array([shift_of(rows.iloc[draw.integers(len(rows), size=len(rows))]) for _ in range(resamples)])


def swap(rows, resamples=200):
    draw, both, swapped = np.random.default_rng(0), rows[["score", "score_source"]].to_numpy(), []
    for _ in range(resamples):
        exchanged = np.where(draw.random((len(rows), 1)) < 0.5, both, both[:, ::-1])
        swapped.append(shift_of(rows.assign(score=exchanged[:, 0], score_source=exchanged[:, 1])))
    return np.array(swapped)


observed, swapped, resampled = shift_of(hospital), swap(hospital), bootstrap(hospital)
panels = {"swapped: what chance alone does": {"shift": swapped}}
panels |= {"resampled: the paper's bootstrap": {"shift": resampled}}
rf.figures.keep(rf.figures.histograms(panels, "shift of EODD", {"observed": observed, "none": 0}), study, "05_swap")

# %%
p_swap = (1 + np.sum(np.abs(swapped) >= abs(observed) - 1e-12)) / (1 + len(swapped))
below = min(np.sum(resampled <= 0), np.sum(resampled >= 0))
Markdown(
    f"The observed shift is {observed:+.3f}. The swap test gives p = {p_swap:.3f}, the bootstrap p = "
    f"{min(1, 2 * (1 + below) / (1 + len(resampled))):.3f}."
)

# %% [markdown]
# Neither answers our question. The swap test asks whether the two *sources* are interchangeable: it also rejects when
# all groups lose alike, so `p_swap` never decides a verdict. The bootstrap adds noise to groups that are noisy
# already. Here are the p-values of 100 studies in which *nothing happened*, in three unequal groups:

# %%
three, ps = {"a": 0.7, "b": 0.2, "c": 0.1}, {"unequal change (ours)": [], "paper's bootstrap": []}
for seed in range(100):
    rows = simulation.simulate(patients=400, share=three, prevalence=0.4, images=(1, 1), seed=seed).sort_values("group")
    called = {name: rows[column].to_numpy() >= 0.75 for name, column in (("old", "score"), ("new", "score_source"))}
    units = cells.Groups(np.arange(len(rows)), pd.factorize(rows.group)[0], list(three))
    label = rows.label.to_numpy()
    ps["unequal change (ours)"].append(
        gaps.p_equal([units.rate_change(called["new"], called["old"], label == y) for y in (1, 0)])
    )
    patterns = resampling.tabulate(
        label=label, patient=rows.patient_id, group=rows.group, decision=called["new"], reference=called["old"]
    )
    rate = resampling.bootstrap(patterns, resamples=199)
    drawn = metrics.eodd(tpr=rate[:, :, 0], fpr=rate[:, :, 1])
    ps["paper's bootstrap"].append(resampling.shift(drawn[:, 0], drawn[:, 1])["p"])
panels = {test: {"nothing happened": np.array(values)} for test, values in ps.items()}
rf.figures.keep(rf.figures.histograms(panels, "p", {"0.05": 0.05}, uniform=True), study, "05_p_values")

# %%
shares = {test: np.mean(np.array(values) <= 0.05) for test, values in ps.items()}
Markdown(
    "; ".join(f"{test}: p is at most 0.05 in {100 * share:.0f} %" for test, share in shares.items())
    + ". A valid test gives about 5 %."
)

# %% [markdown]
# A test that keeps its promise has p-values that are spread evenly. Those of the bootstrap crowd to the right: it
# would find almost nothing, so a large p of the bootstrap means little. Appendix `A1_calibration` shows this for many kinds of
# cohorts, with the failures of every method, ours included.
#
# On this study's predictions, for the EODD of one reconstructor (`as_published` also resamples images instead of
# patients, tests one side only, and chooses a threshold for each source on the scores that are judged):

# %%
columns = ["value", "low", "high", "shift", "shift_low", "shift_high", "p_shift", "verdict"]
compared = {inference: judge.inferred(study, inference) for inference in rf.fairness.INFERENCES}
compared = {name: rows[(rows.metric == main_gap) & (rows.source == source)] for name, rows in compared.items()}
joined = pd.concat(
    {name: rows.set_index(["task", "attribute"])[columns] for name, rows in compared.items()}, names=["inference"]
)
joined.assign(p_shift=joined.p_shift.map(rf.words.p_value, na_action="ignore")).round(3)

# %%
least = {name: rows.low.min() for name, rows in compared.items()}
Markdown(
    "The smallest lower limit of a gap: "
    + "; ".join(f"{name} {low:.3f}" for name, low in least.items())
    + "."
    + (
        " Resampled gaps are never 0, so the interval of a bootstrap excludes equality whatever the truth is."
        if least.get("bootstrap", 0) > 0
        else ""
    )
    + " Only the closed form gives verdicts."
)

# %% [markdown]
# *Not proved:* that the paper's conclusions are wrong. Its estimates are the same numbers; what differs is how sure
# they are.
#
# ## All shifts at once
#
# Each task, attribute and reconstructor is one count (the paper's figure 3), in percent of the gap on originals. A
# source that calls everybody positive is left out, because "-100 % bias" would only mean that nothing is decided any
# more.

# %%
with_percent = judge.with_percentages(bias, performance)
plain = with_percent.query("strategy == 'standard' and reader == 'standard'")
rf.figures.keep(rf.figures.shift_histogram(plain), study, "05_histogram")

# %% [markdown]
# Shifts in both directions cancel in a median, and a percentage of a small gap is large. The median and the median
# size, by reconstructor (the paper's table 2):

# %%
judge.shift_by_model(with_percent)

# %% [markdown]
# *Not proved:* that a median near 0 means no harm.
#
# ## Can the group be told from the features?
#
# A reader can treat groups differently only if it sees the group. The **attribute probe** asks how much of the group is
# in the features of the frozen reader, that is, in what its last layer sees. A logistic regression learns the group from
# the features of some patients and is tested on the others. Its AUROC is 0.5 if the features say nothing about the group.
#
# **Predict first:** does a reconstruction hide the group, or does it sharpen it?

# %%
probed = probe.probe(study)
probed.set_index(["network", "attribute", "group", "source"]).round(3)

# %%
seen = probed[(probed.source == "original") & (probed.low > 0.5)]
moves = probed[(probed.change_low > 0) | (probed.change_high < 0)]
Markdown(
    "On originals, better than chance: "
    + (", ".join(f"{row.attribute} by {row.network} ({row.value:.2f})" for row in seen.itertuples()) or "no attribute")
    + ". Intervals of the change that exclude 0: "
    + (
        ", ".join(
            f"{row.attribute} by {row.network}, {rf.words.name(row.source)} ({row.change:+.2f})"
            for row in moves.itertuples()
        )
        or "none"
    )
    + f", of {probed.change.notna().sum()}; by chance alone about one in twenty would. A negative change hides the group, "
    "and a positive one sharpens it."
)

# %% [markdown]
# *Not proved:* that the reader uses the group for its decision. A feature can hold the group because it holds the disease,
# where both go together.
#
# ## Image quality of groups
#
# Does a group get worse images? Here is the mean PSNR of every group:

# %%
rf.figures.keep(rf.figures.group_values(groups[groups.task == "image"], "psnr"), study, "05_groups_psnr")

# %%
psnr = disparities[disparities.metric == "psnr_gap"]
grew = psnr[psnr.verdict == "grew"]
Markdown(
    f"Against the noisy images, the gap in PSNR grew in {len(grew)} of {psnr['shift'].notna().sum()} comparisons"
    + "".join(
        f"; {rf.words.name(row.attribute)} with {rf.words.name(row.source)}: {row.shift:+.2f} dB "
        f"({row.shift_low:+.2f} to {row.shift_high:+.2f}; margin {row.margin} dB)"
        for row in grew.head(4).itertuples()
    )
    + "."
)

# %% [markdown]
# A group may lose image quality and no diagnosis, or the reverse. PSNR does not stand in for the diagnosis. Further
# gaps, of one reconstructor:

# %%
others = disparities[~disparities.metric.isin(["eodd", "ser"]) & (disparities.source == source)]
others.pivot_table(["value", "expected", "shift"], ["task", "metric"], "attribute", sort=False).round(3)

# %% [markdown]
# The demographic parity difference, and AUPRC, differ wherever prevalence differs; this alone is no fault of the
# model.
#
# ### Several classes, and attributes that are numbers
#
# In a task with several classes, each class against the rest has a TPR, an FPR and an EODD. One number for the task is
# either their mean over the classes, which can hide one bad class, or the largest of them, which is large by chance more
# often. Both have limits that hold for all classes at once (the level is divided by the number of classes). NAR is the
# range of the accuracies of the groups divided by their mean. ESSP divides the accuracy of everyone by one plus the
# distances of the groups from it (Tian et al. 2024): it can rise because the groups come together, or because everyone is
# read better.
#
# An attribute that is a number, such as the body mass index, can be kept whole. Then the table has the slope of each rate:
# by how much it changes for one standard deviation of the number.

# %%
together = disparities.task.str.contains(": ").groupby(disparities.task.str.partition(": ")[0]).transform("any")
asked = together & ~disparities.task.str.contains(": ") & disparities.metric.isin(["eodd", "eodd_worst", "nar", "essp"])
asked |= disparities.metric.str.endswith("_slope")
rows = disparities[asked & (disparities.source != "noisy")].set_index(["task", "attribute", "metric", "source"])
rows = rows[["value", "low", "high", "shift", "shift_low", "shift_high", "verdict", "note"]].round(3)
rows if len(rows) else print("This study has no task of several classes, and no attribute is kept whole.")

# %% [markdown]
# ## What if the data are not what they seem?
#
# Attributes can be missing, labels can be wrong, groups can differ in their case mix, and a hospital can see other
# patients than we sampled. For each doubt the gap is computed again: (1) the attribute of every tenth patient is hidden,
# and all of them are given to one group, then to another; (2) a twentieth of the labels is taken to be wrong; (3) within
# each label, every group gets the same mix of a second attribute; (4) one half of the patients counts twice.
#
# **Predict first:** which doubt moves the gap most?

# %%
rows = judge.collect("predictions", judge.predictions(study)).query("split == 'test' and kind == 'classify'")
rows = rows[rows.source.isin(["original", source])]
people, cut = rf.data.load(study).table, rf.diagnosis.thresholds(study)
attribute, second = (study.attributes() * 2)[:2]
numbers = pd.factorize(people.patient_id)[0]
people = people.assign(weight=np.where(people[second] == people[second].min(), 2, 1))
hidden = people.assign(**{attribute: people[attribute].mask(numbers % 10 == 0)})
how = {"thresholds": cut, "min_cases": study.fairness.min_cases}
arm, doubts = ["task", "source"], {}
if len(rows):
    mixed = sensitivity.weighted(rows, people, attribute, strata=[second], **how).query("metric == 'eodd'")
    sampled = sensitivity.weighted(rows, people, attribute, weight="weight", **how).query("metric == 'eodd'")
    labels = sensitivity.label_errors(performance[performance.attribute == attribute], 0.05)
    labels = labels[labels.source.isin(rows.source) & (labels.strategy == "standard")]
    missing = sensitivity.missing_attribute(rows, hidden, attribute, resamples=99, **how).query("metric == 'eodd'")
    doubts["as it is"] = mixed.set_index(arm).value
    for assumed, some in missing.groupby("assumed", sort=False):
        doubts[f"hidden: {assumed}"] = some.set_index(arm).value
    doubts["5 % wrong labels"] = labels.groupby(arm).eodd_true.first()
    doubts[f"same mix of {rf.words.name(second)}"] = mixed.set_index(arm).value_weighted
    doubts["weighted"] = sampled.set_index(arm).value_weighted
doubted = pd.DataFrame(doubts).dropna(how="all")
doubted.round(3)

# %%
moves = doubted.drop(columns="as it is").sub(doubted["as it is"], axis=0).abs() if len(doubted) else doubted
moves = moves.max().dropna()
Markdown(
    f"By {rf.words.name(attribute)}, the largest move of EODD is {moves.max():.3f}, under the doubt "
    f"'{moves.idxmax()}'. Under '{moves.idxmin()}' it moves by at most {moves.min():.3f}."
    if len(moves)
    else "No classification with a threshold has two groups with enough cases."
)

# %% [markdown]
# *Not proved:* that the truth lies between these values. Each column doubts one thing at a time, wrong labels are taken
# to be spread at random, and the column "weighted" is invented.
#
# ## What are the decisions worth to each group?
#
# A TPR does not say whether acting on the decisions does good. The *net benefit* at threshold $t$ does (Vickers and
# Elkin 2006). It is the number of true positives minus $t / (1 - t)$ times the number of false positives, divided by
# the number of decisions. Calling nobody positive has 0. Scores are risks only if they are calibrated. To test this, a
# logistic regression predicts the label from the log odds of the score. Its *slope* should be 1. With the slope held at
# 1, its *intercept* should be 0.

# %%
worth = decision.decision_view(rows, people, attributes=[attribute], thresholds=cut) if len(rows) else pd.DataFrame()
if len(worth):
    worth["cell"] = [
        f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})" if np.isfinite(row.value) else "too few cases"
        for row in worth.itertuples()
    ]
    worth = worth[worth.attribute == attribute]
worth.pivot_table("cell", ["task", "source", "group"], "metric", "first", sort=False) if len(worth) else worth

# %%
off = {"slope": 1, "intercept": 0}
worth_of = worth.pivot_table("value", [*arm, "group"], "metric") if len(worth) else worth
lines = []
for metric, right in off.items() if len(worth) else ():
    known = worth[(worth.metric == metric) & worth.value.notna()]
    wrong = known[(known.low > right) | (known.high < right)]
    lines.append(f"the {metric} is shown to differ from {right} in {len(wrong)} of {len(known)}")
Markdown(
    f"In {(worth_of.net_benefit <= worth_of.net_benefit_all.clip(lower=0)).sum()} of {len(worth_of)} rows, calling "
    f"everybody or nobody positive is worth at least as much as the reader's decisions; {'; '.join(lines)}."
    if len(worth)
    else "There is no classification with a threshold."
)

# %% [markdown]
# *Not proved:* that anybody should act at this threshold. It balances sensitivity and specificity; a clinic would choose
# the risk from which treatment does more good than harm. The limits are those of each group alone.
#
# ## How many patients would be needed?
#
# Suppose we want to show that no group lost more than 0.05 of its TPR, with 80 % power. We state what we expect and
# simulate studies of growing size, judged by the same limits as above.

# %%
expected = planning.design(["a", "b"], tpr=0.8, fpr=0.2, prevalence=0.3, discordance=0.05)
planned = planning.plan(expected, aim="kept", size=0.05, patients=(100, 200, 400, 800, 1600), studies=100)
rf.figures.keep(
    rf.figures.lines(
        {"power": planned.power.to_numpy(), "80 %": np.full(len(planned), 0.8)},
        "patients of each group",
        "power",
        planned.patients,
    ),
    study,
    "05_plan",
)

# %%
Markdown(planning.advice(planned, aim="kept", size=0.05))

# %% [markdown]
# Few cohorts have so many patients in every group. This is why so many results above are "not shown".
#
# ## When the truth can be known
#
# A phantom population has no end. With 20,000 fresh patients chance hardly matters, and what is left is the true
# disparity of these very models. It takes some minutes:
#
# ```python
# rf.truth.true_disparity(study, "original"), rf.truth.true_disparity(study, "unet")
# ```
#
# ## What this chapter does not prove
#
# A shift is a property of these models on these patients. It does not say why it happened, nor what a clinician would
# have decided. Nothing here is causal, and nothing here is a clinical claim beyond these data. Phantom images are
# simulated: their numbers show how the method works.
#
# ## Three things to take away
#
# 1. Ask first what happened to each group. Its paired change needs no maximum and has a clear direction.
# 2. A largest difference is large by chance. Compare it with its expected value, and name only groups with enough
#    cases.
# 3. "Not shown" is not "unchanged". "No change" needs a margin and a bound below it.
#
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. Two groups of 50 patients have an EODD of 0.08. What follows?**
#
# <details><summary>The reader is unfair.</summary>No. Groups of this size have about such an EODD without any
# disparity.</details>
# <details><summary>Nothing yet: compare it with `expected` and with its interval.</summary>Yes. A largest difference is
# never negative, so chance alone makes it positive.</details>
# <details><summary>The reader is fair, since 0.08 is small.</summary>No. The interval can include values that matter, and
# what matters is a choice.</details>

# %% [markdown] tags=["quiz"]
# **2. The interval of a group's change of TPR is -0.12 to +0.03. The margin is 0.05. What is the verdict?**
#
# <details><summary>Kept.</summary>No. A loss of 0.12 is not excluded, and it is larger than the margin.</details>
# <details><summary>Worse.</summary>No. The interval includes 0, so no loss is shown.</details>
# <details><summary>Not shown.</summary>Yes. Neither a loss nor its absence is shown; there are too few patients.</details>

# %% [markdown] tags=["quiz"]
# **3. After a reconstruction, EODD falls from 0.20 to 0.10. For whom is this good?**
#
# <details><summary>This number does not tell.</summary>Yes. The worse group can have risen, or the better group can have
# fallen. Look at the change of each group.</details>
# <details><summary>For the worse group.</summary>No. It may have stayed where it was, or even have lost.</details>
# <details><summary>For everybody.</summary>No. If the better group fell, nobody gained anything.</details>

# %% [markdown] tags=["quiz"]
# **4. Why does the interval of a bootstrapped EODD never include 0?**
#
# <details><summary>Because real readers are never fair.</summary>No. It also happens in simulations where all groups are
# equal.</details>
# <details><summary>Because 1,000 resamples are too few.</summary>No. More resamples give the same limits more
# exactly.</details>
# <details><summary>Because each resample has noise of its own, and a range of noisy rates is positive.</summary>Yes. Every
# resampled gap is above 0, and so is every quantile of them.</details>

# %% [markdown] tags=["quiz"]
# **5. A study makes 40 comparisons between things that are equal. How many have p at most 0.05?**
#
# <details><summary>None, because nothing differs.</summary>No. Then p is spread evenly between 0 and 1.</details>
# <details><summary>About two.</summary>Yes. Each has a chance of 5 %, and 40 times 0.05 is 2. This is why p is
# adjusted.</details>
# <details><summary>About twenty.</summary>No. That would be half, the chance of a p of at most 0.5.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (by hand).** One of the missed patients of group b is now called positive. What are TPR of group b and EODD of
# the eighteen patients now (`eodd_after`)? And what is SER (`ser_after`) if the worst outline of group b becomes perfect?
# Use paper.

# %% tags=["exercise", "solution"]
# Hint: TPR of group b was 2 of 4. Of the outlines, only one value of Dice changes; the mean of its group rises by a third of that change.
eodd_after = ((4 / 5 - 3 / 4) + (3 / 5 - 1 / 4)) / 2
dice_b = (1 + 0.8 + 0.9) / 3
ser_after = max(1 - 0.9, 1 - dice_b) / min(1 - 0.9, 1 - dice_b)
print(f"EODD {eodd_after:.3f}, SER {ser_after:.2f}")

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "eodd_after" not in globals():
    print("Hint: call your answer eodd_after.")
elif not 0 < eodd_after < 0.325:
    print("Hint: the range of TPR became smaller, and that of FPR stayed at 0.35. EODD is half of their sum.")
else:
    print("Hint: is your EODD nearer to 0.325, or to half of the range of FPR? Which of the two rates carries it now?")

# %% [markdown] tags=["exercise", "solution"]
# TPR of group b is now 0.75, so its range is 0.05, and EODD is (0.05 + 0.35) / 2 = 0.20. One patient of eighteen moved EODD
# by 0.125. The mean Dice of group b is now 0.90, as in group a, so SER is 1.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (predict, then run).** Use the function `change` for the FPR of women and men in the invented hospital. Read
# first how the hospital was simulated: did the new images change anything for patients without the disease?

# %% tags=["exercise", "solution"]
# Hint: the same function, for the patients with label 0.
healthy = dict(list(hospital[hospital.label == 0].groupby("group")))
alarms = {
    group: change((rows.score >= 0.75).to_numpy(), (rows.score_source >= 0.75).to_numpy())
    for group, rows in healthy.items()
}
pd.DataFrame(alarms, ["change of FPR", "low", "high"]).T.round(3)

# %% [markdown] tags=["exercise", "solution"]
# `change` was -0.4 times the label, so in truth FPR did not change in either group. Some healthy patients turned positive
# and others turned negative, by chance. An interval that excludes 0 here would be one of the 5 % that are wrong.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (write).** Simulate 200 hospitals in which the new images change nothing (`change=0.0`). In which share of them
# does the interval of `change` for women exclude 0 (`excluded`)? Which share do you expect?

# %% tags=["exercise", "solution"]
# Hint: simulation.simulate(patients=400, share=two, prevalence=0.4, images=(1, 1), seed=k) for k in range(200).
outside = []
for k in range(200):
    rows = simulation.simulate(patients=400, share=two, prevalence=0.4, images=(1, 1), seed=k)
    women = rows[(rows.label == 1) & (rows.group == "women")]
    _, low, high = change((women.score >= 0.75).to_numpy(), (women.score_source >= 0.75).to_numpy())
    outside.append(low > 0 or high < 0)
excluded = np.mean(outside)
print(f"{excluded:.1%} of the intervals exclude 0")

# %% tags=["exercise"]
if "excluded" not in globals():
    print("Hint: call your share excluded.")
elif excluded > 0.15:
    print("Hint: an interval excludes 0 if it lies wholly above or wholly below it. Do you compare the same patients?")
else:
    print(
        "Hint: the limits are meant to miss the truth in at most 5 %. With 200 hospitals, which shares would not surprise you?"
    )

# %% [markdown] tags=["exercise", "solution"]
# At most 5 % are expected. The share is often lower, because few patients turn, and the limits of Clopper and Pearson are
# careful with small counts.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (predict, then run).** "No change that matters" needs a bound below the margin. Which share of the shifts in
# `shifted` could be given this verdict at a margin of 0.01, 0.05, 0.10, 0.20 and 0.50? Who should choose a margin, and when?

# %% tags=["exercise", "solution"]
# Hint: compare the column bound with each margin. Rows without a bound have groups that are too small.
margins = [0.01, 0.05, 0.1, 0.2, 0.5]
below = {margin: (shifted.bound < margin).sum() for margin in margins}
pd.Series(below, name=f"of {shifted.bound.notna().sum()} shifts").rename_axis("margin").to_frame().T

# %% [markdown] tags=["exercise", "solution"]
# A wide margin makes every change harmless. So those who are affected, and those who treat them, should choose it before
# the results are seen. The margin changes "not shown" into "no change". It never changes a shift that is shown.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (predict, then run).** Plan the study of the last section again, for a disease with a prevalence of 0.10
# instead of 0.30. By which factor does the number of patients of each group grow?

# %% tags=["exercise", "solution"]
# Hint: TPR counts the ill patients only.
rare = planning.design(["a", "b"], tpr=0.8, fpr=0.2, prevalence=0.1, discordance=0.05)
rare_plan = planning.plan(rare, aim="kept", size=0.05, patients=(1200, 2400, 4800, 9600), studies=50)
print(planning.advice(rare_plan, aim="kept", size=0.05))

# %% [markdown] tags=["exercise", "solution"]
# About three times as many: TPR rests on the ill, and a third of the prevalence gives a third of them. For a rare disease,
# the patients without the disease cost much and tell nothing about TPR.

# %% [markdown] tags=["exercise"]
# **Exercise 6 (open, break it).** Break the swap test: invent a hospital in which the new image lowers the score of
# *every* ill patient by the same step. Yet the test must report a shift of EODD in most cohorts. Is the reconstruction
# unfair? Argue for both answers.

# %% tags=["exercise", "solution"]
# Hint: the men are far from the threshold, so the same step costs them fewer decisions.
step = {"separation": {"women": 1.2, "men": 2.6}, "change": -0.6, "prevalence": 0.4, "images": (1, 1)}
p_values = []
for seed in range(5):
    rows = simulation.simulate(patients=1500, share=two, **step, seed=seed)
    as_large = np.abs(swap(rows, 39)) >= abs(shift_of(rows))
    p_values.append((1 + as_large.sum()) / (1 + len(as_large)))
print("p of the swap test:", ", ".join(f"{p:.3f}" for p in p_values))

# %% [markdown] tags=["exercise", "solution"]
# The test finds that the two sources cannot be exchanged. It does not find a reader or an image that treats groups
# differently: each ill patient lost the same step. One can say that the reconstruction is fair, since it does the same to
# everybody. One can also say that it is unfair, since more women are missed, and wrong decisions do the harm. A good answer
# says which of the two it measures, and why.
