# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A1 Calibration: can the statistics be believed?
#
# Chapter 05 prints intervals, p-values and claims. Each of them makes a promise. A 95 % interval promises to hold the truth
# in 95 of 100 studies. A test at 5 % promises to reject in 5 of 100 studies in which nothing happened. Nobody can check
# these promises on real patients, because their truth is unknown. So we simulate studies whose truth we know, and count
# how often each promise was kept.
#
# **After this chapter you can**
#
# - say what coverage and size of a test mean, and read them from a figure with their Monte-Carlo error;
# - name the situations in which an interval is too short or a test rejects too often;
# - explain why a claim "no change" needs a bound, and how often it is false;
# - decide which numbers of chapter 05 to trust for a small group.
#
# *Reading: about 20 minutes.* This appendix only reads the counts. To make them anew, run
# `python benchmarks/calibration.py`; it takes some hours on two cores and goes on after an interruption.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown

import reconfair as rf

# %%
stored = pd.read_csv(rf.params.shipped() / "benchmarks" / "results" / "calibration.csv")
truth = stored.groupby(["scenario", "metric"])[["true_gap", "true_shift", "true_unequal"]].mean()
columns = ["studies", "cover_gap", "reject_gap", "cover_shift", "verdict", "wrong", "reject_unequal"]
columns += ["false_equivalence", "cover_change", "paper"]
counts = stored.groupby(["scenario", "metric"])[columns].sum(min_count=1)
studies = counts.pop("studies")
share = counts.div(studies, axis=0)
Markdown(
    f"{stored.scenario.nunique()} scenarios and {len(share)} pairs of scenario and metric, with {studies.min():.0f} to "
    f"{studies.max():.0f} studies each. With {studies.median():.0f} studies, a share of 0.95 has a standard error of "
    f"{np.sqrt(0.95 * 0.05 / studies.median()):.3f}."
)

# %% [markdown]
# A scenario is a situation in which a user can be. The letters stand for families of scenarios: rates with one image a
# patient (A, B, J, N, S, R), up to 60 images a patient (D, E, Q), Dice, the skewed error ratio (SER) and PSNR (M, H, L),
# AUROC (U), and cohorts of two or six groups (names that begin with a number). The awkward situations are all there: few
# decisions that differ, flips in one direction, groups of 20, rates near 0 and 1, and unequal spread.
#
# ## Does an interval hold the truth as often as it promises?
#
# If $n$ studies give intervals $[L_i, U_i]$ and the truth is $\theta$, the coverage is
#
# $$\hat c = \frac 1 n \sum_i 1[L_i \le \theta \le U_i], \qquad \text{standard error } \sqrt{\hat c (1 - \hat c) / n}.$$
#
# **Predict first:** for which kind of truth is the coverage of a gap hardest: a gap of zero, or a large one?

# %%
families = {"rates": "ABJNSR", "clusters": "DEQ", "means": "MHLG", "AUROC": "UX", "cohorts": "26"}
family = {name: kind for kind, letters in families.items() for name in letters}


def dots(columns: dict[str, str], line: float, xlabel: str, name: str):
    """Draw shares of all scenarios, a row of dots for each family, and the promise as a line."""
    figure, axes = plt.subplots(
        1, len(columns), figsize=(3.4 * len(columns) + 1, 2.8), sharey=True, layout="constrained"
    )
    kinds = share.index.get_level_values("scenario").str[0].map(family)
    for axis, (column, title) in zip(np.atleast_1d(axes), columns.items(), strict=True):
        for at, kind in enumerate(families):
            values = share.loc[kinds == kind, column].dropna()
            jitter = at + 0.5 * (np.arange(len(values)) / max(len(values), 1) - 0.5)
            axis.plot(values, jitter, "o", ms=3, alpha=0.6, color=rf.words.BLUE)
        axis.axvline(line, color="black", lw=1, ls="--")
        axis.set(title=title, xlabel=xlabel)
    axes = np.atleast_1d(axes)
    axes[0].set_yticks(range(len(families)), list(families))
    axes[0].invert_yaxis()
    plt.close(figure)  # shown once, by the cell that returns it
    return figure


figure = dots(
    {"cover_gap": "gap", "cover_shift": "shift of the gap", "cover_change": "changes of all groups"},
    0.95,
    "share of intervals that hold the truth",
    "coverage",
)
figure


# %%
def written(key: tuple[str, str]) -> str:
    """A scenario and a metric, in words."""
    return f"{key[0]} {rf.words.name(key[1])}"


def lowest(column: str, n: int = 3) -> str:
    """The scenarios with the lowest share, in words."""
    rows = share[column].dropna().nsmallest(n)
    errors = [np.sqrt(max(value * (1 - value), 1e-4) / studies[key]) for key, value in rows.items()]
    return ", ".join(
        f"{written(key)} {value:.3f} (± {error:.3f})" for (key, value), error in zip(rows.items(), errors, strict=True)
    )


Markdown(
    f"Lowest coverage of the gap: {lowest('cover_gap')}. Of the shift: {lowest('cover_shift')}. Of the changes of all groups "
    f"at once: {lowest('cover_change')}. The number after ± is the standard error; the lowest of many scenarios looks worse "
    "than it is."
)

# %% [markdown]
# Most dots lie at or to the right of the line: the intervals of a gap and of its shift are rather too long than too short.
# This is the price of not knowing which groups are the best and the worst served. There are two known failures. One is SER
# with 20 patients a group (H4): a few patients carry almost all of the error. The other is Dice where one patient in 15
# loses much (G): many samples of 20 or 30 patients hold no such patient, and nothing in them tells of the loss.

# %%
small = pd.DataFrame({"limits of the change hold": share.cover_change, "p of the gap at most 0.05": share.reject_gap})
small = small[small.index.isin([("H4", "ser"), ("H4", "delta_dice"), ("H1", "ser"), ("H1", "delta_dice")])]
small.assign(studies=studies).round(3)

# %% [markdown]
# In both scenarios groups are equal, so the first column should be 0.95 and the second 0.05. H4 has 20 patients in each
# group, H1 200 and 25. Therefore `reconfair judge` and the report print a note beside SER and the gap of Dice wherever a
# group has fewer than 30 patients. It is better to read the changes of the groups there (`delta_dice` in the first
# column).
#
# The table in `docs/results.md` sets the worst scenario of every promise beside its aim. Both come from the same counts:
# `python benchmarks/calibration.py --markdown` writes that table anew.
#
# ## Does a test reject as rarely as it promises?
#
# The first test asks whether groups are equal, the second whether they changed unequally. Only scenarios in which nothing
# happened count here.

# %%
none = {
    "reject_gap": ("groups are equal", truth.true_gap.abs() < 1e-9),
    "reject_unequal": ("groups changed alike", truth.true_unequal.abs() < 1e-9),
}
figure, axes = plt.subplots(1, 2, figsize=(7.8, 2.8), layout="constrained")
highest = {}
for axis, (column, (title, still)) in zip(axes, none.items(), strict=True):
    values = share.loc[still.reindex(share.index), column].dropna()
    highest[column] = values.nlargest(3)
    axis.hist(values, np.linspace(0, 0.2, 21), color=rf.words.BLUE)
    axis.axvline(0.05, color="black", lw=1, ls="--")
    axis.set(title=title, xlabel="share of studies with p at most 0.05")
axes[0].set_ylabel("scenarios and metrics")
plt.close(figure)
figure

# %%
texts = {
    column: ", ".join(f"{written(key)} {value:.3f}" for key, value in rows.items()) for column, rows in highest.items()
}
Markdown(
    f"Where groups are equal, the test rejects most often in {texts['reject_gap']}. Where groups changed alike, the test of "
    f"unequal change rejects most often in {texts['reject_unequal']}."
)

# %% [markdown]
# ## Is a claim ever false?
#
# Three claims can be wrong: that the disparity grew or fell (with the wrong sign), and that no gap changed by more than the
# margin. For the last one, each study is asked about a margin just below the true change, which is the hardest case.

# %%
dots(
    {"wrong": "grew or fell, wrong sign", "false_equivalence": "no change, falsely"},
    0.05,
    "share of studies",
    "claims",
)

# %%
worst = {column: share[column].dropna() for column in ("wrong", "false_equivalence")}
Markdown(
    f"A wrong sign was claimed in at most {worst['wrong'].max():.3f} of the studies of any scenario "
    f"({written(worst['wrong'].idxmax())}), a false *no change* in at most {worst['false_equivalence'].max():.3f} "
    f"({written(worst['false_equivalence'].idxmax())})."
)

# %% [markdown]
# ## What does the paper's bootstrap find?
#
# In the cohorts of two groups the paired bootstrap of the paper was run as well. It resamples patients and compares the
# EODD of both sources. Its promise is 5 % where the sources are interchangeable.

# %%
paper = share.paper.dropna()
still = truth.true_shift.abs().reindex(paper.index) < 1e-9
Markdown(
    f"Without a shift it rejects in {paper[still].min():.3f} to {paper[still].max():.3f} of the studies; with a shift, in "
    f"{paper[~still].min():.3f} to {paper[~still].max():.3f}."
    if still.any() and (~still).any()
    else "The bootstrap was not run in these counts."
)

# %% [markdown]
# ## All of it
#
# Shares of studies by scenario and metric: `cover` means that the interval holds the truth, `reject` that p is at most 0.05,
# `verdict` that the disparity is said to have grown or fallen.

# %%
share.drop(columns="paper").round(3)

# %% [markdown]
# ## What this does not prove
#
# These are simulated studies. Scores are normal, images of one patient resemble each other in one way only, and thresholds
# are fixed in most scenarios. Data that differ from all of them can break a promise that was kept here. AUPRC has no
# calibrated interval at all; its rows say so.
#
# ## Three things to take away
#
# 1. Coverage and size are shares. Read them with their standard error, and look at the worst scenario.
# 2. The sign of a shift is hard to decide where groups began equal. "Not shown" is then the honest answer.
# 3. With 20 patients a group, trust changes of rates and of Dice more than SER.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 1.** Find the scenario with the longest interval of the shift (column `length_shift` of `stored`). Why is it so
# long? The functions of `benchmarks/calibration.py` list the sizes and rates of every scenario.

# %% [markdown] tags=["exercise"]
# **Exercise 2.** Simulate 200 studies of two groups of 50 with a true rate of 0.95 and compute Wald intervals of the gap. Which
# share holds the truth? Compare with `rf.fairness.cells`.

# %% [markdown] tags=["exercise"]
# **Exercise 3.** Break the test of unequal change: invent a scenario in which it rejects more than 10 % although all groups
# changed alike.
