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

sns.set_palette("colorblind")
every = pd.read_csv(rf.store.NOTEBOOKS.parent / "benchmarks" / "results" / "mitigation.csv")
every["part"] = every.strategy.str.replace(r"@[\d.]+", "", regex=True)
every["strength"] = pd.to_numeric(every.strategy.str.extract(r"^[a-z]+@([\d.]+)$")[0])
rows = every[every.scenario.str.contains("scarce|plenty|erased")]  # simulated: the answer is known
seeds = rows[rows.seed > 0].groupby(["scenario", "model"]).seed.nunique()
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
    keys, columns = (
        ["scenario", "model", "seed", "task", "attribute"],
        ["shift", "psnr", "performance", "performance_female", "performance_male"],
    )
    own = rows[rows.source == rows.model]
    joined = own.merge(own[own.strategy == "standard"][keys + columns], on=keys, suffixes=("", "_before"))
    for column in ("psnr", "performance", "performance_female", "performance_male"):
        joined[f"{column}_change"] = joined[column] - joined[f"{column}_before"]
    joined.loc[joined.strategy == "thresholds", "psnr_change"] = 0  # it leaves images as they are
    return joined


def scatter(table, x, y, xlabel):
    """A panel per scenario and model, a colour and a marker per strategy, a line through its strengths."""
    panels = list(table.groupby(["scenario", "model"], sort=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels) + 1.8, 3), squeeze=False, layout="constrained")
    for axis, ((scenario, model), part) in zip(axes[0], panels, strict=True):
        for k, (name, own) in enumerate(part.groupby("part", sort=True)):
            own = own.sort_values("strength")
            axis.plot(own[x], own[y], "osD^vP*X"[k % 8], ls="-", lw=0.8, ms=5, color=f"C{k}", label=name)
        axis.axhline(part.shift_before.mean() / 2, ls="--", lw=0.8, color="grey")
        axis.axvline(-1, ls=":", lw=0.8, color="grey")
        axis.set(title=f"{scenario}, {figures.name(model)}", xlabel=xlabel)
    axes[0, 0].set_ylabel("shift of EODD against originals")
    handles = {
        label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside right center", fontsize="x-small")
    return figure


tried = beside_standard(rows[rows.scenario != "plenty"])
figure = scatter(tried[tried.seed == 0], "psnr_change", "shift", "change of PSNR (dB)")
plt.close(figure)
figure

# %% [markdown]
# `reweight@0` is plain fine-tuning: what more training does by itself. A strategy must beat that, and not only the standard model.
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
# The front of fairness against quality: no strategy beside another one both fairer and better in PSNR. Others are shown pale.

# %%
spread = arms[["shift", "psnr_change"]].agg(["mean", "sem"])
panels = list(spread.groupby(level=["scenario", "model"], sort=False))
figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels) + 2, 3.6), squeeze=False, layout="constrained")
for axis, ((scenario, model), part) in zip(axes[0], panels, strict=True):
    x, y = part["psnr_change", "mean"], part["shift", "mean"]
    for k, (_, _, strategy) in enumerate(part.index):
        beaten = ((x >= x.iloc[k]) & (y <= y.iloc[k]) & ((x > x.iloc[k]) | (y < y.iloc[k]))).any()
        bars = {"xerr": 2 * part["psnr_change", "sem"].iloc[k], "yerr": 2 * part["shift", "sem"].iloc[k]}
        look = {"fmt": "osD^vP*Xh"[k % 9], "color": f"C{k}", "alpha": 0.35 if beaten else 1, "lw": 0.8}
        axis.errorbar(x.iloc[k], y.iloc[k], **bars, **look, label=strategy)
    axis.axhline(0, color="black", lw=0.8)
    axis.set(title=f"{scenario}, {figures.name(model)}", xlabel="change of PSNR (dB)")
axes[0, 0].set_ylabel("shift of EODD against originals")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize="x-small")
plt.close(figure)
figure

# %% [markdown]
# ## On real scans
#
# The same strategies on small versions of real sets, where nobody knows what a disparity comes from: its change beside the standard model of the same seed, with 95 % intervals over
# patients. `performance` is AUROC, and mean Dice of the tumour.
#
# **Predict first:** the test split of LGG holds 22 patients. How large a change could it show?

# %%
real = beside_standard(every[~every.scenario.isin(rows.scenario)])
real = real[real.strategy != "standard"]
costs = real.groupby(["scenario", "model", "strategy"])[["psnr_change", "performance_change"]].mean().round(3)
costs if len(costs) else "not run"


# %%
def beside_zero(table):
    """A panel per scenario and model: changes of disparity with their intervals, a colour and a marker per task and attribute."""
    panels = list(table.groupby(["scenario", "model"], sort=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 4.6), squeeze=False, layout="constrained")
    for axis, ((scenario, model), part) in zip(axes[0], panels, strict=True):
        arms = list(part.strategy.unique())
        kinds = list(part.groupby(["task", "attribute"], sort=False))
        for k, ((task, attribute), own) in enumerate(kinds):
            at = own.strategy.map(arms.index) + (k - (len(kinds) - 1) / 2) * 0.8 / len(kinds)
            ends = [own.shift_standard - own.shift_standard_low, own.shift_standard_high - own.shift_standard]
            label = f"{task}, {figures.name(attribute)}"
            axis.errorbar(own.shift_standard, at, xerr=ends, fmt="osD^"[k], ms=4, lw=1, color=f"C{k}", label=label)
        axis.set_yticks(range(len(arms)), arms)
        axis.invert_yaxis()
        axis.axvline(0, color="black", lw=0.8)
        axis.set(title=f"{scenario}, {figures.name(model)}", xlabel="change of disparity")
        axis.legend(fontsize="x-small")
    return figure


if len(real):
    figure = beside_zero(real[real.seed == 0])
    plt.close(figure)
figure if len(real) else "not run"

# %% [markdown]
# ## What does this prove, and what not?
#
# A strategy has worked if its held-out row is better than that of `reweight@0`, by more than seeds differ; one good seed is no evidence, least of all the one on which $\lambda$ was
# chosen. A disparity can also vanish because everyone is called positive: read `performance_female_change` beside `remains`. In the control, whatever closes the gap does so at
# somebody's expense: look at `performance_male_change`.
#
# `thresholds`, which leaves every image as it is, is the reference: it evens out error rates as far as scores still rank the patients of each group, and no further.
#
# *Not proved:* that real disparities are of the one kind or the other. The phantoms were made so that the question has an answer, and their lesions are easier than real ones.
