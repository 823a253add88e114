# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 Mitigation: can the reconstruction be made fairer?
#
# One could intervene in many places: in the data, in the reconstruction, in the diagnostic model, or at its threshold.
# Here we change the reconstructor and nothing else, as a vendor would who cannot retrain the models of a hospital. The
# reconstructor starts from its standard weights and is fine-tuned; the diagnosis stays frozen. The strategies are those of
# the paper (Wohlrapp et al., MIDL 2026): reweighting, a penalty on the equalised odds difference (EODD), and an adversary.
# Moving the threshold of each group is the reference for all of them (Hardt, Price and Srebro 2016).
#
# **After this chapter you can**
#
# - write down four ways to make the training of a reconstructor fairer;
# - explain why a decision must be softened before it can be a loss;
# - check whether a strategy did what it was meant to do;
# - tell whether a gap closed because the worse group rose or because the better group fell.
#
# *Reading and running: about 40 minutes. You need chapters 03 and 05, and what a gradient is.*

# %%
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import reconfair as rf
from reconfair import figures, judge
from reconfair.mitigation import thresholds
from reconfair.remedies import adv, dro, eodd

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
mitigation = {}
compute = {}

# %%
study = rf.params.study(
    base,
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    mitigation=mitigation,
    compute=compute,
)
for source in study.mitigated:
    rf.mitigation.mitigate(study, source)
performance, gaps = judge.judge(study, rf.mitigation.judged(study))
fold = study.folds[0]
Markdown("Mitigated sources: " + ", ".join(f"`{source}`" for source in study.mitigated))

# %% [markdown]
# Without `dataset.folds` there is one fold, the study itself. With folds, every reconstructor is fine-tuned once for each
# fold. The training groups and the penalties below are those of fold 1; the results count the test patients of all folds.
#
# ## Reweighting
#
# A group that is rare in training counts little in the loss. Reweighting draws each image with probability
#
# $$p_i = \frac{1/n_{g(i)}}{\sum_j 1/n_{g(j)}},$$
#
# where $n_{g(i)}$ is the number of images whose patient is in the same joint group of sex, age group and race. Then the
# model sees every joint group equally often.
#
# **Predict first:** how often will an image of the smallest joint group be drawn in one epoch?

# %%
every = rf.mitigation.groups(fold)
groups = every.dropna()
n = groups.groupby(list(groups.columns))[groups.columns[0]].transform("size")
p = (1 / n) / (1 / n).sum()

drawn = groups.assign(images=1, share=p).groupby(list(groups.columns)).sum()
drawn["draws_per_image"] = drawn.share * len(groups) / drawn.images
shares = pd.DataFrame({"as they come": drawn.images / len(groups), "reweighted": drawn.share})
shares.index = [", ".join(map(str, np.atleast_1d(group))) for group in drawn.index.to_numpy()]
size = (7, 0.28 * len(shares) + 1.2)
axis = shares.sort_values("as they come").plot.barh(figsize=size, color=["#999999", "#0072B2"], width=0.75)
axis.set(xlabel="share of the images of an epoch", ylabel="")
figures.keep(axis.figure, study, "06_reweight")

# %%
rare = drawn.loc[drawn.images.idxmin()]
Markdown(
    f"The smallest joint group, {shares.index[drawn.images.argmin()]}, has {rare.images:.0f} training images. Each of them is "
    f"drawn {rare.draws_per_image:.1f} times in an epoch on average; an image of the largest group is drawn "
    f"{drawn.draws_per_image.min():.2f} times. {len(every) - len(groups)} of {len(every)} images have an attribute that is not "
    "recorded. They belong to no group and are drawn as before."
)

# %% [markdown]
# The model can memorise a few images that are shown dozens of times. Reweighting gives a group more attention, but not more
# information.
#
# ## Group DRO
#
# Group DRO (`dro`; Sagawa et al. 2020) draws images as they come and weighs their losses. The weight does not depend on how
# rare a group is but on how badly it is reconstructed: after each batch, with strength $\eta$,
#
# $$w_g \leftarrow w_g \exp\bigl(\eta\,(L_g / \bar L - 1)\bigr), \qquad \text{scaled so that the mean weight is 1}.$$
#
# Here are two invented groups: a common one, and one of a tenth of the images with twice the loss.

# %%
members = torch.arange(100) % 10 // 9
remedy, followed = dro.GroupDRO(SimpleNamespace(joint=members), range(100), 0.1), []
for _ in range(60):
    followed.append(remedy.weights.numpy())
    remedy.weigh(1.0 + members, torch.arange(100))
lines = dict(zip(["common group, loss 1", "rare group, loss 2"], np.transpose(followed), strict=True))
figures.keep(figures.lines(lines, "batch", "weight of an image"), study, "06_dro")

# %%
Markdown(
    f"After {len(followed)} batches an image of the rare group counts {followed[-1][1] / followed[-1][0]:.0f} times as much as "
    "one of the common group."
)

# %% [markdown]
# ## EODD as a loss
#
# The equalised odds difference (EODD, chapter 05) compares the rates of decisions between groups. A decision is a step: its
# derivative is zero, so no gradient can reduce it. The strategy `eodd` softens the decision with a temperature $T$,
#
# $$s = \sigma\bigl((p - \tau)/T\bigr),$$
#
# and takes the EODD of the soft decisions. As a function:


# %%
def soft_eodd(score, label, group, threshold, temperature):
    s = torch.sigmoid((score - threshold) / temperature)
    rates = [[s[(group == g) & (label == y)].mean() for g in group.unique()] for y in (1, 0)]
    return sum(max(rate) - min(rate) for rate in rates) / 2


score = torch.tensor([0.4, 0.8, 0.1, 0.3, 0.7, 0.9, 0.2, 0.4], requires_grad=True)
label, group = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
penalty = soft_eodd(score, label, group, threshold=0.5, temperature=0.1)
penalty.backward()
pd.DataFrame({"group": group, "label": label, "score": score.detach(), "gradient": score.grad}).round(2)

# %%
Markdown(
    f"The soft EODD of these eight invented patients is {penalty:.2f}. Descent moves a score against its gradient: it raises "
    f"the score of the missed patient of group 0 (gradient {score.grad[0]:.2f}). A patient far from the threshold hardly moves."
)

# %%
at = torch.linspace(0, 1, 201)
soft = {f"T = {t:g}": eodd.soft_decisions(at, 0.5, t).numpy() for t in (0.01, 0.1, study.mitigation.temperature)}
figures.keep(figures.lines(soft, "score p (threshold 0.5)", "soft decision s", at.numpy()), study, "06_soft")

# %% [markdown]
# With a large temperature, scores far from the threshold still have a gradient, but the soft EODD is less like the EODD of
# the decisions. Let $E$ be the largest soft EODD over tasks and attributes. The loss is
#
# $$L = L_\text{recon} + \lambda\, F\, \frac{\overline{L_\text{recon}}}{\overline F}, \qquad
# F = \frac{E^2}{\overline{E^2}} + \frac12 \frac{\text{BCE}}{\overline{\text{BCE}}}.$$
#
# BCE is the binary cross-entropy of the frozen reader's scores. A bar is a moving average without gradient. It brings terms with different units to one scale, so that $\lambda = 1$ gives
# fairness the same weight as image quality. The averages $\overline{E^2}$ and $\overline{\text{BCE}}$ never fall below a
# quarter of the value of the standard weights. Otherwise the gradient would grow like $1/E$ while $E$ falls, and training
# could collapse to calling everyone positive.
#
# A batch of sixteen images hardly contains a patient of a small group with the disease. So the last decision on every
# training image is remembered, $E$ is computed from all of them, and only the batch carries a gradient.
#
# ## An adversary
#
# For a binary group $A$ with share $p_y$ among the patients with label $y$, the gap is a covariance:
#
# $$E[s \mid A{=}0, y] - E[s \mid A{=}1, y] = -\,\mathrm{cov}(s, A \mid y) \,/\, \bigl(p_y (1 - p_y)\bigr).$$
#
# So the gap falls if the image no longer contains what tells the groups apart. The strategy `adv` asks for exactly this. A
# small network $h$ predicts the group from the features that the frozen reader sees in the reconstruction. The
# reconstructor minimises $\mathrm{corr}^2(h, A)$, and $h$ maximises it:


# %%
def squared_correlation(h, A):
    h, A = h - h.mean(), A - A.mean()
    return (h * A).sum() ** 2 / ((h**2).sum() * (A**2).sum())


A = torch.tensor([0.0, 0.0, 1.0, 1.0])
{"h knows the group": float(squared_correlation(A, A)), "h guesses": float(squared_correlation(A[[0, 2, 1, 3]], A))}

# %% [markdown]
# Does it work? In a toy, one quarter of the image is brighter in one group, and the "reconstructor" can only reduce this
# brightness. For the first 100 steps, only $h$ learns.

# %%
duel = adv.duel(steps=300, alone=100)
lines = dict(zip(["corr² of h with the group", "share of the brightness left"], duel.T, strict=True))
figures.keep(figures.lines(lines, "step", "share"), study, "06_adversary")

# %%
Markdown(
    f"After 100 steps corr² is {duel[99, 0]:.2f}: $h$ has found the group. In the last 20 steps {duel[-20:, 1].mean():.0%} of the "
    f"brightness is left, and corr² is {duel[-20:, 0].mean():.2f}."
)

# %% [markdown]
# The adversary removes whatever tells the groups apart, whether it is a nuisance or the disease.
#
# The file `reconfair/mitigation/penalties.py` adds all these terms to the training of any reconstructor.
#
# ## Did the penalties fall?
#
# A strategy can only be judged if it did what it is meant to do. The table has the validation losses of the epoch that was
# kept, in units of the standard model: 1 is the value before fine-tuning.

# %%
logs = {}
for source in study.mitigated:
    path = rf.mitigation.weights(fold, source).folder / "log.csv"
    if path.exists():  # group thresholds train nothing
        log = pd.read_csv(path)
        seen = log.filter(regex="epoch|share_(loss|eodd|bce|adv|balanced|worst)$|val_total|train_empty")
        logs[source.model, source.strategy] = seen.loc[[log.val_total.idxmin()]]
kept = pd.concat(logs, names=["model", "strategy"]).droplevel(2) if logs else pd.DataFrame()
kept.round(4)

# %%
fell = []
for (model, strategy), row in kept.iterrows():
    terms = [
        name
        for name in ("share_eodd", "share_adv", "share_balanced", "share_worst")
        if row.get(name, np.nan) == row.get(name)
    ]
    fell.append(
        f"`{model}-{strategy}`: " + ", ".join(f"{name.removeprefix('share_')} {row[name]:.2f}" for name in terms)
    )
Markdown("After fine-tuning, in units of the standard model: " + "; ".join(fell) + ". Below 1, the term fell.")

# %% [markdown]
# The epoch that is kept has the smallest `val_total`: validation loss and penalty together, weighted as in training, so that
# the standard model has $1 + \lambda$. `train_empty` is the share of the cells (group, label and task) for which no decision
# was remembered yet, on average over the epoch. A penalty cannot see those cells. The term of `adv` can rise although the
# strategy works, because $h$ learns as well: it starts as a guess.
#
# ## How strong?
#
# We choose $\lambda$; no formula gives it. The figure shows what it does in the experiment of appendix A2: a simulated
# cohort whose women were missing in the training of the reconstruction. Disparity is the EODD by sex on test images, with
# one training for each point. (To try several strengths in your own study:
# `mitigation = {"strategies": ["eodd@0.1", "eodd@0.3", "eodd@1"]}`.)
#
# **Predict first:** for which of the three models will a strong adversary do harm?

# %%
tried = pd.read_csv(rf.params.shipped() / "benchmarks" / "results" / "mitigation.csv")
tried = tried[(tried.scenario == "scarce_6e2") & (tried.seed == 0) & (tried.source == tried.model)]
measures = {"disparity": "EODD", "performance": "AUROC", "psnr": "PSNR (dB)"}
figures.keep(figures.strengths(tried, measures), study, "06_strengths")

# %%
standard = tried[tried.strategy == "standard"].set_index("model").psnr
strong = tried[tried.strategy.str.fullmatch(r"adv(@[\d.]+)?")].copy()
strong["cost"] = strong.psnr - strong.model.map(standard)
dearest = strong.loc[strong.groupby("model", sort=False).cost.idxmin()]
Markdown(
    "The largest cost of an adversary alone in that experiment: "
    + ", ".join(f"{rf.words.name(row.model)} {row.cost:+.1f} dB (`{row.strategy}`)" for row in dearest.itertuples())
    + "."
)

# %% [markdown]
# ## What it changed, in this study

# %%
everyone = performance[(performance.attribute == "all") & performance.metric.isin(["auroc", "dice", "psnr"])]
figures.keep(figures.values(everyone), study, "06_performance")

# %%
cost = everyone.pivot_table("value", ["metric", "task", "source"], "strategy", sort=False)
change = cost.drop(columns="standard").sub(cost.standard, axis=0).dropna(how="all")
change.round(3)

# %%
worst = change.stack().groupby(level=["metric", "strategy"], sort=False).min()
Markdown(
    "The table has the change from the standard model. The least favourable changes: "
    + ", ".join(
        f"{rf.words.name(metric)} {part.min():+.3f} by {rf.words.name(part.idxmin()[1])}"
        for metric, part in worst.groupby(level="metric", sort=False)
    )
    + ". Group thresholds leave the images as they are, so they have no PSNR of their own."
)

# %% [markdown]
# The shift of EODD against the originals, for the standard and the mitigated models:

# %%
figures.keep(figures.shifts(gaps[gaps.source != "noisy"], "eodd"), study, "06_shift_eodd")

# %% [markdown]
# `shift_standard` compares the fine-tuned model with the standard one on the same patients. Below zero, the disparity became
# smaller. The interval is that of chapter 05.

# %%
tuned = gaps[(gaps.strategy != "standard") & gaps.metric.isin(["eodd", "ser", "psnr_gap"])]
columns = ["value", "shift_standard", "shift_standard_low", "shift_standard_high", "verdict_standard"]
tuned = tuned.set_index(["task", "attribute", "metric", "source", "strategy"])[columns].dropna()
tuned.round(3)

# %%
counts = tuned.verdict_standard.value_counts()
Markdown(
    f"Of {len(tuned)} disparities, {counts.get('fell', 0)} fell and {counts.get('grew', 0)} grew against the standard model. "
    f"In {counts.get('unequal', 0)} the groups changed unequally, but whether that changed the gap cannot be told; in "
    f"{counts.get('no change', 0)} no gap changed by more than the margin. The rest is not shown: that is no sign of equality."
)

# %%
sentences = []
for source in study.mitigated:
    table = thresholds.read(study, source) if source.strategy == "thresholds" else None
    if table is not None:
        own = table[table.moved].groupby("task").group.nunique()
        told = ", ".join(f"{n} groups for {task}" for task, n in own.items()) or "nobody, so it was not applied"
        sentences.append(
            f"With {rf.words.name(source.model)}, group thresholds gave a threshold of their own to {told}."
        )
Markdown(" ".join(sentences) or "Group thresholds were not tried.")

# %% [markdown]
# The median shift of the disparity against originals by strategy, in percent, in the form of the paper's table 3:

# %%
bias = gaps[gaps.metric.isin(["eodd", "ser"]) & gaps.source.isin({source.model for source in study.mitigated})]
bias.groupby(["metric", "source", "strategy"], sort=False).shift_percent.agg(["count", "median"]).round(1)

# %% [markdown]
# The price of each strategy, in the form of the paper's figure 13: the mean change of the disparity against the change of
# PSNR, both from the standard model. The best place is at the lower right.

# %%
classified = gaps[(gaps.metric == "eodd") & gaps.shift_standard.notna()]
fairer = classified.groupby(["source", "strategy"], sort=False).shift_standard.mean()
figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
for (model, strategy), moved in fairer.items():
    moved_psnr = change.loc["psnr"].droplevel("task")[strategy].get(model, np.nan) if strategy in change else np.nan
    moved_psnr = 0 if strategy == "thresholds" else moved_psnr
    title = f"{rf.words.name(model)}, {rf.words.name(strategy)}"
    axis.plot(moved_psnr, moved, rf.words.marker(strategy), color=rf.words.colour(model), label=title)
axis.axhline(0, color="grey", lw=0.8)
axis.axvline(0, color="grey", lw=0.8)
axis.set(xlabel="change of PSNR (dB)", ylabel="mean change of EODD")
figure.legend(fontsize="small", loc="outside upper center", ncols=2)
figures.keep(figure, study, "06_tradeoff")

# %% [markdown]
# ## Who gains, who loses
#
# A gap can close because the worse group rises or because the better group falls. The second is called *levelling down*, and
# it helps nobody. The table shows the best and the worst group for every gap:

# %%
moved = judge.moved(performance)
moved

# %%
closed = moved[moved.gap_change < 0]
Markdown(
    f"{len(closed)} of {len(moved)} gaps became smaller. In {int(closed.levelled_down.sum())} of these the worst group did not "
    "rise: they were levelled down."
)

# %%
grouped = performance[(performance.attribute != "all") & ~performance.source.isin(["noisy"])]
figures.keep(figures.group_values(grouped[grouped.task == "image"], "psnr"), study, "06_groups_psnr")

# %% [markdown]
# ## What this chapter does not prove
#
# Another seed of the training changes results by more than many strategies do. The appendix `A2_mitigation` asks the
# question with several seeds where the answer is known. A disparity that the diagnostic model has on originals cannot be
# expected to vanish when only the image changes.
#
# ## Three things to take away
#
# 1. First check that the penalty fell, then look at the disparity.
# 2. A fairer model has a price, in PSNR and in performance; name both.
# 3. Look at both groups. A gap can close because the better group fell.
#
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. Why is the decision softened before EODD becomes a loss?**
#
# <details><summary>A step has the derivative zero almost everywhere.</summary>Yes. Without a slope, no gradient tells the
# reconstructor what to change.</details>
# <details><summary>A soft EODD is fairer.</summary>No. It is only an approximation of the EODD of the decisions.</details>
# <details><summary>Scores must lie between 0 and 1.</summary>No. They do so already, before they are softened.</details>

# %% [markdown] tags=["quiz"]
# **2. A group has 5 of 500 training images. What does reweighting add?**
#
# <details><summary>Information about this group.</summary>No. There are still five images; each of them is only seen more
# often.</details>
# <details><summary>Weight of this group in the loss.</summary>Yes. The model can also learn these five images by
# heart.</details>
# <details><summary>Test patients of this group.</summary>No. The training split and the test split have different
# patients.</details>

# %% [markdown] tags=["quiz"]
# **3. The gap in TPR falls from 0.20 to 0.12. TPR by group was 0.80 and 0.60; now it is 0.70 and 0.58. What happened?**
#
# <details><summary>The worse group was helped.</summary>No. Its TPR fell from 0.60 to 0.58.</details>
# <details><summary>Chance.</summary>No, this cannot be said without an interval. It is not the first thing to see,
# either.</details>
# <details><summary>Levelling down.</summary>Yes. Both groups lost, and the gap closed because the better group lost
# more.</details>

# %% [markdown] tags=["quiz"]
# **4. An adversary removes all that tells two groups apart. The disease is more common in one of them. What is the risk?**
#
# <details><summary>None, because the groups are then equal.</summary>No. They are equal in the image and not in their
# disease.</details>
# <details><summary>The sign of the disease is removed as well.</summary>Yes. What goes together with the group is removed,
# whether it is a nuisance or the disease.</details>
# <details><summary>The image becomes brighter.</summary>No. It changes where the groups differ, in either direction.</details>

# %% [markdown] tags=["quiz"]
# **5. A fine-tuned model has a smaller gap than the standard model. What is the fair comparison?**
#
# <details><summary>With the original images.</summary>No. The standard model is already different from them.</details>
# <details><summary>With the best published model.</summary>No. It saw other images and other patients.</details>
# <details><summary>With the standard model that was trained just as much longer, without a penalty.</summary>Yes. Fine-tuning
# alone changes results, in either direction.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (predict, then run).** Compute `soft_eodd` for the eight patients with temperatures 0.01, 0.1 and 1. The EODD of
# their decisions is 0.25. Predict: which temperature gives the best approximation, and which the largest gradient for the
# missed patient of group 0?

# %% tags=["exercise", "solution"]
# Hint: a new tensor with requires_grad=True for each temperature; backward() fills its gradient.
rows = []
for temperature in (0.01, 0.1, 1.0):
    again = score.detach().clone().requires_grad_()
    value = soft_eodd(again, label, group, threshold=0.5, temperature=temperature)
    value.backward()
    rows.append({"T": temperature, "soft EODD": value.item(), "gradient": again.grad[0].item()})
pd.DataFrame(rows).set_index("T").round(4)

# %% [markdown] tags=["exercise", "solution"]
# The smallest temperature gives 0.25 almost exactly, but hardly any gradient: the score 0.4 is already ten temperatures from
# the threshold. The largest temperature flattens everything. A temperature between the two gives a gradient and a usable
# value.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (write).** Balance the first attribute alone (as `mitigation = {"attributes": ["sex"]}` does). How often is an
# image of the smaller group drawn in an epoch, on average (`draws`)? How often with joint groups?

# %% tags=["exercise", "solution"]
# Hint: the same three lines as above, with one column of `groups`.
alone = groups[[groups.columns[0]]]
n_alone = alone.groupby(alone.columns[0])[alone.columns[0]].transform("size")
p_alone = (1 / n_alone) / (1 / n_alone).sum()
draws = float(p_alone.max() * len(alone))
print(f"{draws:.2f} draws for each image of the smaller group; {drawn.draws_per_image.max():.2f} with joint groups")

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "draws" not in globals():
    print("Hint: call your number draws.")
elif draws < 1:
    print("Hint: an image of the smaller group is drawn more than once on average. Did you take the larger group?")
else:
    print("Hint: with k groups of one attribute, your number should be all images / (k times the images of the group).")

# %% [markdown] tags=["exercise", "solution"]
# With two groups of similar size the number is near 1, and nothing much changes. Joint groups are smaller, so their images
# are drawn more often, and are more easily learned by heart.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (write).** Write `before` and `after`, two dicts with TPR by group, such as `{"a": 0.8, "b": 0.6}`. From
# `before` to `after` the gap must become smaller, and TPR must fall in *every* group.

# %% tags=["exercise", "solution"]
# Hint: let the better group lose more than the worse one.
before, after = {"a": 0.80, "b": 0.60}, {"a": 0.62, "b": 0.58}
print({group: round(after[group] - before[group], 2) for group in before})

# %% tags=["exercise"]
if "before" not in globals() or not isinstance(before, dict):
    print("Hint: call your dicts before and after.")
elif max(before.values()) - min(before.values()) <= max(after.values()) - min(after.values()):
    print("Hint: is the gap of `after` smaller than that of `before`?")
elif any(after[name] >= before[name] for name in before):
    print("Hint: one of your groups is not worse off yet.")
else:
    print("Hint: how many patients of each group are harmed by your `after`, if each group has 100 ill patients?")

# %% [markdown] tags=["exercise", "solution"]
# Here the gap falls from 0.20 to 0.04. Of 100 ill patients in each group, 18 and 2 more are missed. A table of gaps alone
# shows a success.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (predict, then run).** In appendix A2, `reweight@0` is fine-tuning without any remedy. The table `longer` has the
# mean change of AUROC and of EODD by sex from the standard model. Predict: is plain fine-tuning far from zero? Which
# strategies change EODD by clearly more?

# %% tags=["exercise", "solution"]
# Hint: read mitigation.csv again, all seeds, and group the rows by strategy.
every = pd.read_csv(rf.params.shipped() / "benchmarks" / "results" / "mitigation.csv")
every = every[(every.source == every.model) & (every.attribute == "sex") & (every.scenario == "scarce_6e2")]
plain = every[every.strategy == "standard"].set_index(["seed", "task", "model"]).performance
keys = pd.MultiIndex.from_frame(every[["seed", "task", "model"]])
longer = every.assign(auroc=every.performance - plain.groupby(level=[0, 1, 2]).first().reindex(keys).to_numpy())
longer = longer.groupby("strategy").agg(
    runs=("seed", "size"), auroc=("auroc", "mean"), eodd=("shift_standard", "mean"), spread=("shift_standard", "std")
)
longer[longer.runs > 3].sort_values("eodd").round(3)

# %% [markdown] tags=["exercise", "solution"]
# Compare each row with that of `reweight@0`, and the difference with the spread between runs. What a strategy does beyond
# plain fine-tuning is its effect; the rest is longer training. One run, as in this notebook, lies anywhere within the
# spread.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open).** A vendor writes: "Our fairness update reduces the disparity by 40 %." Which five numbers do you ask
# for before your hospital installs it? Who must agree if one group loses image quality?

# %% [markdown] tags=["exercise", "solution"]
# An example: (1) the change of TPR and FPR of each group, with limits; (2) the number of ill patients of each group in the
# test; (3) the disparity that chance alone gives in such a cohort; (4) the same update without the penalty; (5) the loss
# of image quality of each group, on scans of our own hospital. There are other good answers. A good answer asks who lost,
# and lets those who are affected speak before the update is installed.
