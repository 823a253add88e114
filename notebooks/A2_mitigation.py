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
# On real scans nobody knows whether a disparity *could* have been mended. On phantoms we know, because we made the
# patients. Two studies of chest phantoms differ in one respect only. In both, women's consolidations are mottled and
# men's are dense. In both, 95 % of the women are kept from the training of the reconstruction; the diagnostic model has
# seen both sexes.
#
# - `scarce_6e2`: the noisy image still shows the mottled lesion. A reconstruction that had seen enough women could keep
#   it. One that has not takes the lesion for noise. The disparity comes from the reconstruction, so a strategy in the
#   reconstruction can repair it.
# - `erased_4e1`: the dose is fifteen times lower, and the noise hides the mottled lesion completely. No reconstruction
#   can bring it back. If a strategy closes the gap here, it does so by other means.
#
# **After this chapter you can**
#
# - explain why the same strategy can work in one study and cannot work in another;
# - read a front of fairness against quality, and tell a cure from levelling down;
# - say why a strategy must beat plain fine-tuning and must be tried with held-out seeds;
# - explain why a penalty on the first guess of a diffusion model does not control its samples.
#
# *Reading: about 30 minutes.* This appendix only reads results. To make them anew, run `python
# benchmarks/experiment.py`. The benchmark tries each strategy with several strengths $\lambda$ on one seed, chooses
# one, and trains everything anew with other seeds. The first table shows how many held-out seeds there are; scenarios
# without seeds are not shown.

# %%
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from scipy import stats

import reconfair as rf
from reconfair import figures, words

RESULTS = rf.params.shipped() / "benchmarks" / "results"
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
# The table shows the standard models of one seed. Each row is one kind of image that the diagnostic model has read.
# *Informed* means a diagnostic model that was trained on the noisy images themselves, so no reconstruction stands
# between. *Plenty* means reconstructions by models that were trained with all women.

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
# Compare the columns for women. In `scarce` the informed model finds in noisy images almost as many lesions as the
# frozen model finds in originals. So the information is there, and the standard reconstructions lose it. In `erased`
# the informed model is hardly better than chance for women, while it still finds men's dense consolidations. With all
# women in training (*plenty*), a reconstruction keeps more of the mottled lesion, but not all of it: its loss averages
# over many pixels, and the lesion has few.
#
# **Predict first.** In which of the two studies should a strategy be able to help? Who would pay for a smaller gap in
# the other one?
#
# ## The sweep
#
# Each point is one strategy with one $\lambda$ on the first seed. The vertical axis is the shift of the equalised odds
# difference (EODD) from the originals that is left. The horizontal axis is the change of PSNR. The dashed line is half
# the shift of the standard model; the dotted line is a cost of 1 dB. Points that cost more than 4.5 dB lie outside the
# figure.


# %%
def against_standard(rows):
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
    """Models of `rows`, in the order that all chapters use."""
    return [model for model in ("unet", "pix2pix", "sde") if model in set(rows.model)]


def finish(grid, marks):
    """Name the axes, mark half of the standard model's shift and a cost of 1 dB, and show the figure once."""
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


tried = against_standard(rows[~rows.scenario.str.startswith("plenty")])
looks["row_order"] = list(dict.fromkeys(tried.scenario))
looks["col_order"] = reconstructors(tried)
sweep = tried[tried.seed == 0].sort_values("psnr_change")
marks = present(sweep)
lines = {"kind": "line", "estimator": None, "sort": False, "style": "part", "markers": marks, "dashes": False}
grid = sns.relplot(
    sweep, x="psnr_change", y="shift", hue_order=list(marks), style_order=list(marks), **lines, **looks, legend=False
)
finish(grid, marks)

# %% [markdown]
# Plain fine-tuning (`reweight@0`) shows what more training does by itself. A strategy must beat plain fine-tuning, not
# only the standard model.
#
# ## Held-out seeds
#
# The next table uses the chosen strengths and models that were trained anew. It shows means over seeds with 95 %
# intervals (Student's $t$). `remains` is the share of the standard model's shift that is left. The aim was set before
# the experiment: at least half of the shift is gone, and the cost is at most 1 dB of PSNR and 0.01 of AUROC, as means
# over seeds. The column `met` says whether it was met.


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
# What can close a gap in EODD? The threshold is frozen. If scores rise, true findings and false alarms rise together.
# The next table shows the rates by sex, as means over the same seeds. A cure would bring back the rates of `original`.
# If a gap closes because fewer men are found, the strategy has *levelled down*: compare men's TPR in the rows
# `thresholds`.

# %%
arms = rows[(rows.seed > 0) & ~rows.scenario.str.startswith("plenty")]
arms = arms.assign(strategy=arms.strategy.where(arms.source == arms.model, arms.source))
rates = ["tpr_female", "tpr_male", "fpr_female", "fpr_male"]
arms.groupby(["scenario", "model", "strategy"], sort=False)[rates].mean().round(2)

# %% [markdown]
# The next figure is the front of fairness against quality: means over seeds with two standard errors, up to a cost of
# 4.5 dB. A strategy is drawn pale if another one is fairer and has no lower PSNR, or has a higher PSNR and is no less
# fair.

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
finish(sns.FacetGrid(front, hue_order=list(marks), **looks).map_dataframe(point), marks)

# %% [markdown]
# ## The SDE: mended in its guess, not in its samples
#
# A U-Net guesses the image once. A diffusion model (SDE) is trained at random times $t$. At early times the noisy $x_t$
# contains the true image itself, with weight $e^{-\Theta_t}$. The figure shows what the frozen diagnostic model reads
# in the guess $\hat x_0$ of the standard SDE, by this weight. Where the original is visible, there is nothing to guess
# and no disparity. A sampler starts from the other end, where nothing is visible, and what it guesses there remains in
# the image. So a penalty must act at the times of guessing, $e^{-\Theta_t} \le 0.4$ (dashed line). Ours does.

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
# In this figure each $x_t$ was made from the original. During sampling, the SDE has only its own earlier guesses. The
# next figure follows a held-out seed from the first guess, which has seen only the noisy image as a U-Net has, to the
# last guess. Then it shows one sample and the means of two and four samples. Both the standard model and the one
# fine-tuned with `eodd` are shown.
#
# **Predict first.** The sampler draws random texture. Does this texture cause false alarms in women or in men?

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
# Women's AUROC falls from the first guess to one sample. A likely reason is that each step adds random texture, and the
# diagnostic model takes texture for a mottled lesion. For the same reason the gap of the standard model can be
# *smaller* in one sample than in the mean of four: chance marks some ill and some healthy women.
#
# Fine-tuning almost closes the gap in the first guess, where the penalty acts. In one sample a gap of the opposite sign
# opens: women's false alarms are three times those on originals. A network that has learned to preserve mottled lesions
# seems to see them in its own texture, at every step again. The mean of several samples removes the texture on which
# they disagree. This is why the reconstruction of the SDE is the mean of four samples in these two studies (`sde:
# {samples: 4}`). In one sample nothing is mended, because a penalty on $\hat x_0$ does not see what the sampler will
# add.
#
# In the first table, women's AUROC is hardly higher for `SDE (plenty)` than for `SDE`. So more examples alone did not
# help the SDE in this one training; a loss that asks for the diagnosis did.

# %% [markdown]
# ## Why the adversary does harm
#
# A likely reason: the adversary rewards a reconstruction for hiding everything that tells women from men. Only women
# have mottled lesions, so the lesion tells the sex. So the adversary rewards a reconstruction that loses the lesion
# (see women's TPR). It also rewards one that blurs anatomy which has nothing to do with the disease (see PSNR). An
# adversary can help where the group is a nuisance in the image. It harms where the disease of a group looks different.
#
# Group DRO asks another question: in which group are the pixels worst? It weighs all pixels of an image alike, and the
# lesion has few.
#
# ## On real scans
#
# The next tables repeat the experiment on small versions of real sets: NIH, and LGG for its tumour at 128 and at 64
# pixels. Here nobody knows where a disparity comes from. The first table shows how large the fault is: performance
# (AUROC, or mean Dice of the tumour) and disparity on originals, and their shift under the standard models. All are
# means over held-out seeds.

# %%
unmended = every[~every.scenario.isin(rows.scenario) & (every.seed > 0) & (every.strategy == "standard")]
keys = ["scenario", "task", "attribute", "source"]
brought = unmended.groupby(keys, sort=False)[["performance", "disparity", "shift"]].mean()
brought.sort_index(level=[0, 1, 2], sort_remaining=False).round(3) if len(unmended) else "not run"

# %% [markdown]
# The diagnostic model for NIH was trained on few images from random weights. It is hardly better than chance on the
# originals themselves (AUROC 0.53, 53 patients), so its disparities say little. Most standard models shift little in
# either set. So a strategy can gain little, and there are few patients to show it. LGG gives an example of how few. Two
# segmenters for the same patients, trained at 128 and at 64 pixels, have the same mean Dice (0.56), but they disagree on
# whether women's tumours are outlined worse than men's.
#
# There is one exception. In samples of the SDE on LGG at 128 pixels, women's tumours are outlined worse than men's by
# 0.07 to 0.09 (0.01 on originals), with every seed. This is not five times the evidence, because the patients are the
# same in each seed. The interval over patients excludes zero with one seed of five. At 64 pixels the same kind of model
# shifts the gap by -0.03 to +0.02.
#
# One patient of LGG has an unknown sex. In these trainings, `reweight` and `dro` took such a patient for a group of its own;
# now an unknown attribute is no group. The tables were not made anew since.
#
# The next table shows each strategy, with the strength that did best on the first seed, on the other seeds, compared
# with the standard model of the same seed. The test patients are the same in all seeds, so the choice of $\lambda$ is
# hardly better than chance. `sure` counts the seeds in which the interval over patients of the change of disparity
# excludes zero.
#
# **Predict first.** The test split of LGG has 22 patients. How large a change could it show? If nothing has changed,
# how many of a hundred 95 % intervals exclude zero?

# %%
real = against_standard(every[~every.scenario.isin(rows.scenario)])
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
    named = real.assign(attribute=real.attribute.map(words.name))
    grid = sns.catplot(named, x="shift_standard", y="part", markersize=4, err_kws={"linewidth": 1}, **bars, **looks)
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
    sentence = (
        f"{real.sure.sum()} of {len(real)} intervals over patients exclude zero, and {apart} of {len(arms)} over seeds."
    )
sentence if len(real) else "not run"

# %% [markdown]
# If nothing has changed, one of twenty 95 % intervals excludes zero by chance, and here it is no more. With so few
# patients, *no effect was found* and *no effect could have been found* cannot be told apart: see how wide the intervals are.
# Only a larger cohort will show what a strategy does to real patients. Group thresholds cannot change an outline. On NIH they moved the sexes
# further apart with every model in the mean; over seeds this is shown for Pix2Pix alone. The thresholds were chosen on the
# few patients of the validation split and need not fit those of the test split.

# %% [markdown]
# ## What this does not prove
#
# A strategy has worked if its held-out row is better than that of `reweight@0` by more than the seeds differ. One good
# seed is no evidence, least of all the seed on which $\lambda$ was chosen. A disparity can also vanish because everyone
# is called positive: read the false alarms and `performance_female_change` together with `remains`. In the study
# `erased`, whatever closes the gap harms somebody: look at women's AUROC, which stays near chance, and at the false
# alarms.
#
# `thresholds` leaves every image as it is and serves as reference. It evens out error rates as far as the scores rank
# the patients of each group, and no further. It needs to know the group of each patient.
#
# We have *not* shown that real disparities are of one kind or the other. The phantoms were made so that the question
# has an answer, and their lesions are easier than real ones.
#
# ## Three things to take away
#
# 1. A strategy in the reconstruction can only keep what the noisy image still shows.
# 2. Judge a strategy with seeds that did not choose its strength, and beside plain fine-tuning.
# 3. A penalty controls what it sees. The samples of a diffusion model are not its first guess.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 1.** Find a row in which the gap closed and the strategy did not help anybody. Which columns show it?

# %% [markdown] tags=["exercise"]
# **Exercise 2.** Choose the best strategy of the first seed for each model. How often is it the best on the held-out
# seeds?

# %% [markdown] tags=["exercise"]
# **Exercise 3.** Run one more held-out seed with `python benchmarks/experiment.py --seeds 6` and compare its rows with the
# intervals. How many should lie within them? (Not 95 %: the interval is that of a mean, and a single seed is spread more
# widely. With five seeds it holds a sixth one in about two of three cases.)

# %% [markdown] tags=["exercise"]
# **Exercise 4.** Invent a study in which the adversary should help. What must be true about the disease and about the
# group?
