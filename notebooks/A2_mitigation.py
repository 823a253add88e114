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
# are dense, and 95 % of the women are kept from the images that train the reconstruction; the frozen diagnosis has seen both sexes.
#
# - `scarce_6e2`: the noisy image still shows what is mottled. A reconstruction that had seen enough women could keep it; one that did not takes it for noise. The disparity
#   comes from the reconstruction, so a strategy there can mend it.
# - `erased_4e1`: fifteen times fewer photons hide what is mottled from anybody. No reconstruction can bring it back, and a strategy that "closes the gap" does so by other means.
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
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from scipy import stats

import reconfair as rf
from reconfair import figures, words

RESULTS = rf.store.PACKAGE.parent / "benchmarks" / "results"
pd.set_option("display.max_rows", 200)
every = pd.read_csv(RESULTS / "mitigation.csv").sort_values(["scenario", "model"], ascending=False, kind="stable")
plain = every.strategy == "reweight@0"  # the strategies' training, without a strategy
every["part"] = every.strategy.where(plain, every.strategy.str.replace(r"@[\d.]+", "", regex=True))
rows = every[every.scenario.str.contains("scarce|plenty|erased")]  # simulated: the answer is known
seeds = every[every.seed > 0].groupby(["scenario", "model"]).seed.nunique()
seeds.rename("held-out seeds").to_frame()

# %% [markdown]
# ## Where does the disparity come from?
#
# One seed, standard models, by what was read. *Informed*: a diagnosis of the same kind, trained on the noisy images themselves, so that no reconstruction stands between. *Plenty*: reconstructions by models
# that were trained with all women.

# %%
standard = rows[rows.strategy.isin(["standard", "informed"]) & (rows.seed == 0)]
studies = {"scarce_6e2": "scarce", "plenty_6e2": "scarce", "erased_4e1": "erased", "plenty_4e1": "erased"}
plenty = standard.scenario.str.startswith("plenty") & (standard.source == standard.model)
read = standard.source.map(words.name).mask(standard.strategy == "informed", "Noisy, informed diagnosis")
read = read.mask(plenty, read + " (plenty)")
standard = standard.assign(study=standard.scenario.map(studies), read=read).drop_duplicates(["study", "read"])
shown = {"disparity": "EODD", "performance_female": "AUROC, women", "performance_male": "AUROC, men"}
shown |= {
    f"{rate}_{sex}": f"{rate.upper()}, {word}"
    for rate in ("tpr", "fpr")
    for sex, word in (("female", "women"), ("male", "men"))
}
order = ["study", *standard.read.unique()]
standard.set_index(["study", "read"])[list(shown)].rename(columns=shown).round(2).sort_index(
    level=0, ascending=False, sort_remaining=False
)

# %% [markdown]
# Read the columns of women. In `scarce` the informed diagnosis finds in noisy images nearly what the frozen one finds in originals: the information is there, and standard reconstructions lose it. In `erased`
# it does hardly better than a coin, while men's dense consolidations are still found. With all women in training a reconstruction keeps more of what is mottled, yet not all: its loss asks for what
# many pixels have in common, not for what the diagnosis looks at.
#
# **Predict first:** in which of the two should a strategy be able to help, and which of the two sexes would pay in the other?
#
# ## The sweep
#
# Every strategy and $\lambda$ on the first seed: the shift of EODD against originals that is left, against what it cost in PSNR. Dashed: half of what the standard model brought; dotted: 1 dB;
# what costs more than 4.5 dB lies beyond the edge.


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
    return joined


looks = {"row": "scenario", "col": "model", "hue": "part", "palette": figures.STRATEGIES, "height": 2.6, "aspect": 1.2}


def present(rows):
    """Strategies of `rows` in the order of the legend, with their markers."""
    return {part: words.marker(part) for part in figures.STRATEGIES if part in set(rows.part)}


def reconstructors(rows):
    """Models of `rows`, in the order in which they are told of everywhere."""
    return [model for model in ("unet", "pix2pix", "sde") if model in set(rows.model)]


def drawn(grid, marks):
    """Name everything, mark half of what the standard model brought and the price of 1 dB, and show the figure once."""
    for (row, column, hue), part in grid.facet_data():
        if hue == 0:
            grid.axes[row, column].axhline(part.shift_before.mean() / 2, ls="--", lw=0.8, color="grey")
            grid.axes[row, column].axvline(-1, ls=":", lw=0.8, color="grey")
    grid.set(xlim=(-4.5, 1.5)).set_axis_labels("change of PSNR (dB)", "shift of EODD")
    for (row, column), axis in zip(product(grid.row_names, grid.col_names), grid.axes.flat, strict=True):
        axis.set_title(f"{row}, {words.name(column)}")
    style = {"ls": "none", "ms": 6}
    handles = [
        Line2D([], [], marker=mark, color=figures.STRATEGIES[part], label=words.name(part), **style)
        for part, mark in marks.items()
    ]
    grid.figure.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5))
    plt.close(grid.figure)
    return grid.figure


tried = beside_standard(rows[~rows.scenario.str.startswith("plenty")])
looks["row_order"] = list(dict.fromkeys(tried.scenario))
looks["col_order"] = reconstructors(tried)
sweep = tried[tried.seed == 0].sort_values("psnr_change")
marks = present(sweep)
lines = {"kind": "line", "estimator": None, "sort": False, "style": "part", "markers": marks, "dashes": False}
grid = sns.relplot(
    sweep, x="psnr_change", y="shift", hue_order=list(marks), style_order=list(marks), **lines, **looks, legend=False
)
drawn(grid, marks)

# %% [markdown]
# Plain fine-tuning (`reweight@0`) is what more training does by itself. A strategy must beat that, and not only the standard model.
#
# ## Held-out seeds
#
# The chosen strengths, each model trained and tuned anew. Means over seeds with 95 % intervals ($t$); `remains` is the share of the standard model's shift that is left. `met`: the aim that was set before,
# at least half of the shift gone at a cost of at most 1 dB PSNR and 0.01 AUROC, on the mean over seeds.


# %%
def interval(values):
    """Mean and half the 95 % interval over seeds."""
    half = stats.t.ppf(0.975, max(len(values) - 1, 1)) * values.sem()
    return f"{values.mean():+.3f}" + f" ± {half:.3f}" * (len(values) > 1)


held = tried[tried.seed > 0]
arms = held.groupby(["scenario", "model", "strategy"], sort=False)
costs = ["psnr_change", "performance_change", "performance_female_change", "performance_male_change"]
table, means = arms[["shift", *costs]].agg(interval), arms[["shift", "shift_before", *costs]].mean()
table.insert(1, "remains", (means["shift"] / means.shift_before).map("{:.0%}".format))
met = (means["shift"] <= means.shift_before / 2) & (means.psnr_change >= -1) & (means.performance_change >= -0.01)
table.insert(2, "met", met.map({True: "yes", False: ""}))
table

# %% [markdown]
# What closes a gap in EODD? The decision threshold is frozen, so that reconstructions on which a network's scores rise bring findings and false alarms alike. Rates by sex, means over the
# same seeds; a cure would have those of `original`. A gap that closes because men are found no oftener than women is *levelled down*: see men's TPR under `thresholds`.

# %%
arms = rows[(rows.seed > 0) & ~rows.scenario.str.startswith("plenty")]
arms = arms.assign(strategy=arms.strategy.where(arms.source == arms.model, arms.source))
rates = ["tpr_female", "tpr_male", "fpr_female", "fpr_male"]
arms.groupby(["scenario", "model", "strategy"], sort=False)[rates].mean().round(2)

# %% [markdown]
# The front of fairness against quality, means over seeds with two standard errors (again up to 4.5 dB): no strategy beside another one both fairer and better in PSNR. Others are shown pale.

# %%
front = held.groupby(["scenario", "model", "part"], sort=False)[["shift", "psnr_change", "shift_before"]].mean()
errors = 2 * held.groupby(["scenario", "model", "part"], sort=False)[["shift", "psnr_change"]].sem()
front = front.join(errors.add_suffix("_error")).reset_index()


def beaten(arm):
    """Whether another strategy is fairer and no worse in PSNR, or better in PSNR and no less fair."""
    rivals = front[(front.scenario == arm.scenario) & (front.model == arm.model)]
    fairer, better = rivals["shift"] - arm["shift"], rivals.psnr_change - arm.psnr_change
    return ((fairer <= 0) & (better >= 0) & ((fairer < 0) | (better > 0))).any()


def point(data, color, label):
    """Draw a strategy with its errors."""
    for _, arm in data.iterrows():
        bars = {"xerr": arm.psnr_change_error, "yerr": arm.shift_error, "alpha": 0.35 if beaten(arm) else 1}
        plt.errorbar(arm.psnr_change, arm["shift"], **bars, fmt=words.marker(label), color=color, lw=0.8, label=label)


marks = present(front)
drawn(sns.FacetGrid(front, hue_order=list(marks), **looks).map_dataframe(point), marks)

# %% [markdown]
# ## The SDE: mended in what it guesses, not in what it draws
#
# A U-Net guesses the image once. An SDE is trained at random times $t$, and at early times $x_t$ shows the true image itself, $e^{-\Theta_t}$ of it. Here is what the frozen network reads in $\hat x_0$ of the
# standard SDE, by how much of the original $x_t$ shows: where it shows through, nothing is guessed, and there is no disparity. A sampler comes from the other end; what it guessed there it will not
# forget. So a penalty has to look at the times of guessing, $e^{-\Theta_t} \le 0.4$ (dashed), and it does. (Looking at the others only, as one might in order to be spared noisy $\hat x_0$, would
# ask for what is there already.)

# %%
path = RESULTS / "mitigation_times.csv"
times = pd.read_csv(path) if path.exists() else pd.DataFrame()
if len(times):
    columns = {"EODD": "disparity", "AUROC, women": "performance_female", "AUROC, men": "performance_male"}
    figure = figures.lines(
        {label: times[column] for label, column in columns.items()}, "share of the original in x_t", "", times.shows
    )
    figure.axes[0].axvline(0.4, ls="--", lw=0.8, color="grey")
    figure.axes[0].invert_xaxis()
    plt.close(figure)
figure if len(times) else "not run"

# %% [markdown]
# Nothing is left to chance in that figure: each $x_t$ was made from the original. On its own way to a sample the SDE has only what it guessed before. Here is a held-out seed, from the first guess
# (which has seen no more than the noisy image, as a U-Net) to the last, and then one sample, and the mean of two and of four; before and after fine-tuning with `eodd`.
#
# **Predict first:** texture that is drawn at random, does it make false alarms in women, or in men?

# %%
path = RESULTS / "mitigation_path.csv"
way = pd.read_csv(path) if path.exists() else pd.DataFrame()
if len(way):
    columns = {"disparity": "EODD", "fpr_female": "FPR, women", "tpr_female": "TPR, women"}
    columns |= {"performance_female": "AUROC, women", "performance_male": "AUROC, men"}
    truth = rows[(rows.scenario == "scarce_6e2") & (rows.source == "original")].iloc[0]
    figure, axes = plt.subplots(1, len(columns), figsize=(12, 3.2), layout="constrained")
    for axis, (column, label) in zip(axes, columns.items(), strict=True):
        for strategy in ("standard", way.strategy.iloc[0]):
            arm, part = way[way.strategy == strategy], strategy.split("@")[0]
            style = {"marker": words.marker(part), "color": figures.STRATEGIES[part]}
            axis.plot(arm.stage, arm[column], label=words.name(strategy), **style)
        axis.axhline(truth[column], ls=":", color="grey", label="originals")
        axis.set(title=label, ylim=(0.65, 0.9) if "AUROC" in label else None)
        axis.tick_params(axis="x", rotation=90)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.supxlabel("guesses, by share of the image in x_t, and samples", fontsize="medium")
    plt.close(figure)
figure if len(way) else "not run"

# %% [markdown]
# Women's AUROC falls on the way, from what the first guess knows to what one sample shows; a likely reason is that each step draws texture of its own, and texture passes for what is mottled. (So the standard
# model's gap may be *smaller* in one sample than in a mean of four: chance finds the lesion in some women who have it, as in some who have not.) Fine-tuning has all but closed the gap in the first guess,
# where the penalty looks. In one sample it is open again, the other way round, and women's false alarms are three times those on originals, as if a network that was taught to see what is mottled saw it in its
# own texture, at every step anew. A mean of samples averages away what each of them drew and keeps what they agree on. Therefore the reconstruction of the SDE is the mean of four samples in these two
# studies (`sde: {samples: 4}`); in one sample nothing is mended, for a penalty on $\hat x_0$ does not see what the sampler will draw.
#
# In the first table, women's AUROC is hardly higher for `SDE (plenty)` than for `SDE`: more examples alone would not have helped it, a loss that asks for the diagnosis does.

# %% [markdown]
# ## Why the adversary does harm
#
# A likely reason: it is paid for hiding whatever tells women from men. What is mottled is found in women only: it tells. So the adversary pays for erasing the very lesion that the reconstruction should have kept (see
# women's TPR), and for blurring anatomy that has nothing to do with the disease (see PSNR). An adversary helps where a group is a nuisance in the image, and harms where the group's disease looks different.
#
# Group DRO asks a third question: whose pixels are worst? It looks at all pixels of an image alike, of which the lesion has few.
#
# ## On real scans
#
# The same on small versions of real sets (LGG for its tumour, at 128 pixels and at 64), where nobody knows what a disparity comes from. First, what is there to mend: performance (AUROC, and mean Dice of
# the tumour) and disparity on originals, and what the standard models brought, means over held-out seeds.

# %%
unmended = every[~every.scenario.isin(rows.scenario) & (every.seed > 0) & (every.strategy == "standard")]
keys = ["scenario", "task", "attribute", "source"]
brought = unmended.groupby(keys, sort=False)[["performance", "disparity", "shift"]].mean()
brought.sort_index(level=[0, 1, 2], sort_remaining=False).round(3) if len(unmended) else "not run"

# %% [markdown]
# The frozen network for NIH, trained on few images and from nothing, is hardly better than a coin on the originals themselves (AUROC 0.53, 53 patients), so that its disparities say little of anybody. Nor do most standard models shift
# much in either set: there is little to mend, and few people to show it with. How few, LGG tells by itself: two segmenters for the same patients, trained at 128 and at 64 pixels, are equally good (Dice 0.56) and disagree
# on whether women's tumours are outlined worse than men's at all.
#
# The exception is a sample of the SDE on LGG at 128 pixels, in which women's tumours are outlined worse than men's by 0.07 to 0.09 (0.01 on originals), with every seed. That is no fivefold evidence, for the patients are the same
# in each: the interval over them leaves out zero with one seed of the five, and at 64 pixels the same kind of model shifts the gap by -0.03 to +0.02.
#
# Each strategy, at the strength that did best on the first seed, on others, beside the standard model of the same seed. The test patients are the same in all seeds, so that the choice of $\lambda$ is
# hardly more than chance. `sure` counts the seeds in which the interval over patients of the change of disparity leaves out zero.
#
# **Predict first:** the test split of LGG holds 22 patients. How large a change could it show? And in how many of a hundred rows will an interval of 95 % leave out zero, if nothing has changed?

# %%
real = beside_standard(every[~every.scenario.isin(rows.scenario)])
real = real[(real.seed > 0) & (real.strategy != "standard")]
real = real.assign(sure=(real.shift_standard_low > 0) | (real.shift_standard_high < 0))
arms = real.groupby(["scenario", "model", "task", "attribute", "strategy"], sort=False)
table = (
    arms[["shift_standard", "psnr_change", "performance_change"]]
    .agg(interval)
    .join(arms.sure.sum())
    .sort_index(level=[0, 1, 2, 3], sort_remaining=False)
)
table if len(table) else "not run"

# %%
if len(real):
    order = list(present(real))
    looks = {"row": "scenario", "col": "model", "hue": "attribute", "palette": figures.GROUPS[:2], "order": order}
    looks |= {"col_order": reconstructors(real), "height": 2.6, "aspect": 1.25, "sharex": "row", "legend_out": True}
    bars = {"kind": "point", "errorbar": ("se", 2), "linestyle": "none", "markers": ["o", "s"], "dodge": 0.3}
    told = real.assign(attribute=real.attribute.map(words.name))
    grid = sns.catplot(told, x="shift_standard", y="part", markersize=4, err_kws={"linewidth": 1}, **bars, **looks)
    grid.refline(x=0, color="black", lw=0.8).set_axis_labels("change of disparity", "")
    grid.set_yticklabels(list(map(words.name, order)))
    for (row, column), axis in grid.axes_dict.items():
        axis.set_title(f"{row}, {words.name(column)}")
        axis.locator_params(axis="x", nbins=3)
    figure = grid.figure
    plt.close(figure)
figure if len(real) else "not run"

# %%
if len(real):
    change = arms.shift_standard.agg(["mean", "sem", "size"])
    apart = (change["mean"].abs() > stats.t.ppf(0.975, (change["size"] - 1).clip(lower=1)) * change["sem"]).sum()
    said = f"zero is left out by {real.sure.sum()} of {len(real)} intervals over patients, {apart} of {len(arms)} over seeds"
said if len(real) else "not run"

# %% [markdown]
# Of intervals of 95 % one in twenty leaves out zero by chance, and no more do. On so few patients, *no effect was found* and *none could have been found* are the same sentence: what a strategy does to real patients only a
# larger cohort will tell. Group thresholds, which cannot change an outline, left the sexes of NIH further apart with every model: they were chosen on the few patients of the validation split, and need not fit
# those of the test split.

# %% [markdown]
# ## What does this prove, and what not?
#
# A strategy has worked if its held-out row is better than that of `reweight@0`, by more than seeds differ; one good seed is no evidence, least of all the one on which $\lambda$ was
# chosen. A disparity can also vanish because everyone is called positive: read the false alarms and `performance_female_change` beside `remains`. In the control, whatever closes the gap does so at
# somebody's expense: look at women's AUROC, which stays near chance there, and at the false alarms.
#
# `thresholds`, which leaves every image as it is, is the reference: it evens out error rates as far as scores still rank the patients of each group, and no further. It needs the group of every
# patient who comes.
#
# *Not proved:* that real disparities are of the one kind or the other. The phantoms were made so that the question has an answer, and their lesions are easier than real ones.
