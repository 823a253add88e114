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
# Chapter 05 prints p-values and intervals. A p-value makes a promise: where nothing happened it is below 0.05 in one study of twenty. An interval makes another: it
# holds the truth in nineteen of twenty. Neither can be checked on real patients, whose truth nobody knows. So patients are invented, thousands of studies of them,
# and it is counted how often each promise was kept.
#
# This appendix only reads the counts. To make them anew, which takes half an hour on two cores, run
#
# ```
# python benchmarks/calibration.py
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import reconfair as rf

# %%
stored = pd.read_csv(rf.store.NOTEBOOKS.parent / "benchmarks" / "results" / "calibration.csv")
sums = stored.drop(columns="chunk").groupby("scenario", sort=False).sum()
studies = sums.pop("studies")
share = sums.div(studies, axis=0).sort_index()
print(f"{len(share)} scenarios, {studies.min():.0f} to {studies.max():.0f} studies each")

# %% [markdown]
# Every scenario is a hospital. Its name begins with the number of groups, two equal ones or six as unequal as the races of a large X-ray
# collection, and goes on with what the new kind of image does:
#
# - `none`: no disparity, and the new image is as good as the old one; `same`: a disparity, which it leaves as it is; `all_worse`: it is worse for everybody;
# - `more`: an EODD of about 0.09 grows by 0.05; `from_0_to_10`: one of 0 grows to 0.10; `from_10_to_0`: the reverse; `other_group`: it only changes sides;
# - `prevalence_0.05`: 5 % positives rather than 20 %; `patients_500`: 500 patients rather than 5,000; `uneven`: prevalence differs by group; `validated`: the threshold is
#   chosen on other patients, rather than fixed.
#
# A patient has one to five images, which resemble each other. Groups with fewer than 20 patients of either label are left out, here as everywhere.
#
# ## Does a test reject as rarely as it says?
#
# **Predict first:** in how many of a hundred studies in which *nothing happened* will the paper's bootstrap call the shift significant?
#
# Where the new image is as good as the old, each test should reject 5 % of the time. Dots are scenarios, lines twice the error of a share of so many studies.


# %%
def forest(axis, scenarios, columns, colours=rf.figures.GROUPS):
    for i, ((column, label), colour) in enumerate(zip(columns.items(), colours, strict=False)):
        value = share.loc[scenarios, column]
        error = 2 * np.sqrt(value * (1 - value) / studies[scenarios])
        at = np.arange(len(scenarios)) + 0.2 * i
        axis.errorbar(value, at, xerr=error, fmt="o", ms=4, color=colour, label=label)
    axis.set_yticks(np.arange(len(scenarios)), scenarios, fontsize="small")
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.legend(fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=3)


nothing = [name for name in share.index if "_none" in name or "_same" in name]
figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
forest(axis, nothing, {"swap": "swap test (ours)", "paper": "paired bootstrap (paper)"})
axis.axvline(0.05, color="black", lw=1, ls="--")
axis.set(xlabel="share of studies with p <= 0.05 where nothing happened", xlim=(0, 0.1))
# %% [markdown]
# The swap test is close to its 5 %. The bootstrap is near 0 and gives away most of its chances to find something: compare both where something did happen.

# %%
happened = [name for name in share.index if abs(share.loc[name, "shift"]) > 1e-9]
figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
forest(axis, happened, {"swap": "swap test (ours)", "paper": "paired bootstrap (paper)"})
axis.set(xlabel="share of studies with p <= 0.05 where the disparity changed", xlim=(0, 1.02))
# %% [markdown]
# The same for the question whether there is a disparity at all, asked where there is none. The plain bootstrap has no test of this, since its interval never holds 0.

# %%
equal = [name for name in share.index if "_none" in name or "all_worse" in name or name.endswith("10_to_0")]
figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
forest(axis, equal, {"permutation": "largest gap (p_range)", "max_t": "largest studentised gap (p_disparity)"})
axis.axvline(0.05, color="black", lw=1, ls="--")
axis.set(xlabel="share of studies with p <= 0.05 where groups are equal", xlim=(0, 0.1))
# %% [markdown]
# ## Does an interval hold the truth as often as it says?

# %%
figure, axis = plt.subplots(figsize=(8, 9), layout="constrained")
columns = {"covers_shift": "shift (ours)", "covers_paper": "shift (paper)", "covers_eodd": "EODD (ours)"}
forest(axis, list(share.index), columns)
axis.axvline(0.95, color="black", lw=1, ls="--")
axis.set(xlabel="share of 95 % intervals that hold the truth", xlim=(0.5, 1.005))
# %% [markdown]
# Two things to see. The paper's interval fails where a disparity *appears*: starting from 0 the noise of the original pushes its EODD up, and the shift looks smaller than it is. And
# ours errs on the other side: with six groups it holds the truth in 99 of 100 studies and is thus longer than it need be. It is the price of a bound that may not
# presume which groups are the best and worst served; a shorter one (the bootstrap studentised) holds the truth of `6_from_0_to_10` in 90 of 100.
#
# ## Is "no change" ever claimed wrongly?
#
# "No change" is claimed where the bound on the largest change of a gap is below the margin. Here the margin is chosen to be *just* the true change, the hardest case, so that every claim is false.

# %%
figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
forest(axis, happened, {"false_equivalence": "false claim of no change"})
axis.axvline(0.05, color="black", lw=1, ls="--")
axis.set(xlabel="share of studies that claim no change", xlim=(0, 0.12))
# %% [markdown]
# ## All of it
#
# Shares of studies (`swap` to `max_t`: p <= 0.05; `covers`: interval holds the truth), mean length of intervals, the mean smallest detectable shift.

# %%
share.drop(columns=["equivalent"]).round(3)

# %% [markdown]
# **What this does not prove.** These are forty-one invented hospitals. Scores are normal, a patient's images resemble each other in one way only, and sources differ by a
# shift alone. A promise kept here can be broken by data unlike them: groups of fewer than 20 cases, images by the dozen per patient, a threshold moved between sources.
# What breaks it here, is shown.
