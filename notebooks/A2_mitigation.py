# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A2 Mitigation: does it work where it can?
#
# On real scans nobody knows whether a disparity *could* have been mended. Here it is known. In two studies of chest phantoms, women's consolidations are mottled where men's
# are dense, and hardly a woman is among the images that train the reconstruction; the frozen diagnosis has seen both sexes.
#
# - `scarce_6e2`: the noisy image still shows what is mottled. A reconstruction that had seen enough women could keep it (`plenty` checks that); one that did not takes it for noise. The disparity
#   comes from the reconstruction, so a strategy there can mend it.
# - `erased_4e1`: fifteen times fewer photons are meant to hide what is mottled from anybody. Then no reconstruction can bring it back; a strategy can only harm the men.
#
# This appendix reads the results of
#
# ```
# python benchmarks/experiment.py
# ```
#
# which tries each strategy with several $\lambda$ on one seed, chooses, and trains everything anew with other seeds. Scenarios, models and seeds that have not been run
# are not shown: look at the first table before you believe the last.

# %%
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from scipy import stats

import reconfair as rf
from reconfair import figures

PLAIN = "plain fine-tuning"  # reweight@0: the strategies' training without a strategy
PARTS = ["standard", PLAIN, "reweight", "dro", "eodd", "adv", "reweight+eodd", "reweight+adv", "thresholds"]
COLOURS = dict(zip(PARTS, sns.color_palette("colorblind", len(PARTS)), strict=True))
MARKERS = dict(zip(PARTS, "oXsv^DPh*", strict=True))
every = pd.read_csv(rf.store.NOTEBOOKS.parent / "benchmarks" / "results" / "mitigation.csv")
every["part"] = every.strategy.str.replace(r"@[\d.]+", "", regex=True).mask(every.strategy == "reweight@0", PLAIN)
every["strength"] = pd.to_numeric(every.strategy.str.extract(r"@([\d.]+)$")[0])
rows = every[every.scenario.str.contains("scarce|plenty|erased")]  # simulated: the answer is known
seeds = every[every.seed > 0].groupby(["scenario", "model"]).seed.nunique()
seeds.rename("held-out seeds").to_frame()

# %% [markdown]
# ## Where does the disparity come from?
#
# EODD by sex on originals, on noisy images and on reconstructions; `plenty` is the same study in which women are not scarce: what a reconstruction could do.

# %%
standard = rows[rows.strategy == "standard"]
standard.pivot_table("disparity", ["scenario", "model"], "source", sort=False).round(3)

# %%
standard.pivot_table(["performance_female", "performance_male"], ["scenario", "model", "source"], sort=False).round(3)

# %% [markdown]
# **Predict first:** in which of the two scenarios should a strategy be able to help, and which of the two sexes would pay in the other?
#
# ## The sweep
#
# Every strategy and $\lambda$ on the first seed: the shift of EODD against originals that is left, against what it cost in PSNR. Dashed: half of what the standard model brought; dotted: 1 dB.


# %%
def beside_standard(rows):
    """Strategies beside the standard model of the same scenario, model and seed."""
    keys = ["scenario", "model", "seed", "task", "attribute"]
    costs = ["psnr", "performance", "performance_female", "performance_male"]
    own = rows[rows.source == rows.model]
    before = own[own.strategy == "standard"][[*keys, "shift", *costs]]
    joined = own.merge(before, on=keys, suffixes=("", "_before"))
    for cost in costs:
        joined[f"{cost}_change"] = joined[cost] - joined[f"{cost}_before"]
    joined.loc[joined.strategy == "thresholds", "psnr_change"] = 0  # it leaves images as they are
    return joined.assign(model=joined.model.map(figures.name))


looks = {"row": "scenario", "col": "model", "hue": "part", "palette": COLOURS, "height": 2.8, "aspect": 1.15}


def shown(grid):
    """Rename the axes, mark half of what the standard model brought and the price of 1 dB, and show the figure once."""
    for (row, column, hue), part in grid.facet_data():
        if hue == 0:
            grid.axes[row, column].axhline(part.shift_before.mean() / 2, ls="--", lw=0.8, color="grey")
            grid.axes[row, column].axvline(-1, ls=":", lw=0.8, color="grey")
    grid.set_axis_labels("change of PSNR (dB)", "shift of EODD").set_titles("{row_name}, {col_name}")
    grid.legend.set_title("")
    plt.close(grid.figure)
    return grid.figure


tried = beside_standard(rows[rows.scenario != "plenty"])
sweep = tried[tried.seed == 0].sort_values("strength")
lines = {"kind": "line", "estimator": None, "sort": False, "style": "part", "markers": MARKERS, "dashes": False}
order = [part for part in PARTS if part in set(sweep.part)]
shown(sns.relplot(sweep, x="psnr_change", y="shift", hue_order=order, style_order=order, ms=6, **lines, **looks))

# %% [markdown]
# Plain fine-tuning (`reweight@0`) is what more training does by itself. A strategy must beat that, and not only the standard model.
#
# ## Held-out seeds
#
# The chosen strengths, each model trained and tuned anew. Means over seeds with 95 % intervals ($t$); `remains` is the share of the shift that is left.


# %%
def interval(values):
    """Mean and half the 95 % interval over seeds."""
    half = stats.t.ppf(0.975, max(len(values) - 1, 1)) * values.sem()
    return f"{values.mean():+.3f} ± {half:.3f}"


held = tried[tried.seed > 0]
arms = held.groupby(["scenario", "model", "strategy"], sort=False)
table = arms[
    ["shift", "psnr_change", "performance_change", "performance_female_change", "performance_male_change"]
].agg(interval)
means = arms[["shift", "shift_before"]].mean()
table.insert(1, "remains", (means["shift"] / means.shift_before).map("{:.0%}".format))
table

# %% [markdown]
# What closes a gap in EODD? The decision threshold is frozen, so that reconstructions on which a network's scores rise bring findings and false alarms alike. Rates by sex, means over the
# same seeds; a cure would have those of `original`.

# %%
arms = rows[(rows.seed > 0) & (rows.scenario != "plenty")]
arms = arms.assign(strategy=arms.strategy.where(arms.source == arms.model, arms.source))
rates = ["tpr_female", "tpr_male", "fpr_female", "fpr_male"]
arms.groupby(["scenario", "model", "strategy"], sort=False)[rates].mean().round(2)

# %% [markdown]
# The front of fairness against quality, means over seeds with two standard errors: no strategy beside another one both fairer and better in PSNR. Others are shown pale.

# %%
front = held.groupby(["scenario", "model", "part"], sort=False)[["shift", "psnr_change", "shift_before"]].mean()
errors = 2 * held.groupby(["scenario", "model", "part"], sort=False)[["shift", "psnr_change"]].sem()
front = front.join(errors, rsuffix="_error").reset_index()


def beaten(arm):
    """Whether another strategy is fairer and no worse in PSNR, or better in PSNR and no less fair."""
    rivals = front[(front.scenario == arm.scenario) & (front.model == arm.model)]
    fairer, better = rivals["shift"] - arm["shift"], rivals.psnr_change - arm.psnr_change
    return ((fairer <= 0) & (better >= 0) & ((fairer < 0) | (better > 0))).any()


def point(data, color, label):
    """Draw a strategy with its errors."""
    for _, arm in data.iterrows():
        bars = {"xerr": arm.psnr_change_error, "yerr": arm.shift_error, "alpha": 0.35 if beaten(arm) else 1}
        plt.errorbar(arm.psnr_change, arm["shift"], **bars, fmt=MARKERS[label], color=color, lw=0.8, label=label)


order = [part for part in PARTS if part in set(front.part)]
grid = sns.FacetGrid(front, hue_order=order, **looks).map_dataframe(point)
shown(grid.add_legend())

# %% [markdown]
# ## On real scans
#
# The same on small versions of real sets, where nobody knows what a disparity comes from: held-out seeds beside the standard model of the same seed. `performance` is AUROC, and mean Dice of
# the tumour; `sure` counts the seeds in which the interval over patients of the change of disparity leaves out zero.
#
# **Predict first:** the test split of LGG holds 22 patients. How large a change could it show?

# %%
real = beside_standard(every[~every.scenario.isin(rows.scenario)])
real = real[(real.seed > 0) & (real.strategy != "standard")]
real = real.assign(sure=(real.shift_standard_low > 0) | (real.shift_standard_high < 0))
arms = real.groupby(["scenario", "model", "task", "attribute", "strategy"], sort=False)
table = arms[["shift_standard", "psnr_change", "performance_change"]].agg(interval).join(arms.sure.sum())
table if len(table) else "not run"

# %%
if len(real):
    kinds = real.task + ", " + real.attribute
    dots = {
        "kind": "point",
        "errorbar": ("se", 2),
        "linestyle": "none",
        "dodge": 0.5,
        "markersize": 4,
        "err_kws": {"lw": 1},
    }
    order = [part for part in PARTS if part in set(real.part)]
    looks |= {"hue": "kind", "palette": "colorblind", "sharex": False}
    grid = sns.catplot(real.assign(kind=kinds), x="shift_standard", y="part", order=order, **dots, **looks)
    grid.set_axis_labels("change of disparity", "").set_titles("{row_name}, {col_name}").refline(
        x=0, color="black", lw=0.8
    )
    plt.close(grid.figure)
grid.figure if len(real) else "not run"

# %% [markdown]
# ## What does this prove, and what not?
#
# A strategy has worked if its held-out row is better than that of `reweight@0`, by more than seeds differ; one good seed is no evidence, least of all the one on which $\lambda$ was
# chosen. A disparity can also vanish because everyone is called positive: read the false alarms and `performance_female_change` beside `remains`. In the control, whatever closes the gap does so at
# somebody's expense: look at `performance_male_change`.
#
# `thresholds`, which leaves every image as it is, is the reference: it evens out error rates as far as scores still rank the patients of each group, and no further.
#
# *Not proved:* that real disparities are of the one kind or the other. The phantoms were made so that the question has an answer, and their lesions are easier than real ones.
