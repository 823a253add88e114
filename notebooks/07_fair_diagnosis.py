# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 Fairer diagnosis: can the reader be made fairer?
#
# Chapter 06 changed the reconstruction. The paper's own discussion says that one should begin with the diagnostic model.
# This chapter does so: it trains **readers** by several strategies on the original images, freezes them, and lets them look
# at every source. The strategies come from two works. Lee et al. (MELBA 2025) make segmenters of heart images fairer by
# changing the dose of attention that a group gets, and by cropping. FairREAD (Gao, Hao and Zhou 2024), which builds on
# FCRO (Deng et al., IPMI 2023), makes a classifier's latent space orthogonal to the patient's attributes and then gives the
# attributes back openly.
#
# **After this chapter you can**
#
# - say where the bias of a segmenter lies, by an experiment and not by a saliency map;
# - describe oversampling, reweighting and DRO as one dial, the dose of attention that the rarest group gets;
# - write down the losses that make a latent space orthogonal to an attribute, and the adversary's game;
# - judge a fairer reader by its gap, its performance, and who gained and who lost;
# - find what contradicts itself in a published table.
#
# *Reading and running: about 50 minutes. You need chapters 04 to 06, and what an orthogonal vector is.*

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import reconfair as rf
from reconfair import fair_diagnosis, figures
from reconfair.diagnosis import fairread, groupwise, strategies
from reconfair.params import Reader
from reconfair.remedies import balance

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing. With the U-Net alone this chapter takes a minute; `reconstruction = {}` includes the other
# reconstructors. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {"models": ["unet"]}
diagnosis = {}
fairness = {}
readers = {}
compute = {}

# %%
study = rf.params.study(
    base,
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    readers=readers,
    compute=compute,
)
fair_diagnosis.train(study)
performance, gaps = fair_diagnosis.judge_readers(study)
measures = fair_diagnosis.measured(study)
Markdown("Readers: " + ", ".join(f"`{reader}`" for reader in study.reader_names))

# %% [markdown]
# ## Where does the bias live?
#
# A segmenter outlines tumours worse in one group. Does it misread the tumour itself, or something elsewhere in the image? A
# saliency map shows where a network looks; it does not show what would happen if the network could not look there. An
# experiment does: **crop** the image to a window around the true tumour, train a network on such windows, and see whether
# the gap remains. If it closes, its cause lay outside. If it remains, its cause lies inside the window.
#
# The true tumour is unknown in practice, so this reader cannot be deployed. It is an upper bound. A **cascade** can be
# deployed: a first network looks at the whole image, and its mask decides where the window lies. Often the mask also has
# small spots elsewhere. The window is then centred on the largest region of the mask (`readers.box: largest`). The published
# cascade puts the window around all regions (`as_published`). With a spot far from the tumour, such a window can miss the
# tumour.
#
# **Predict first:** in this study a dial changes how bright the tumour is in one group. Will the crop close the gap?

# %%
outlined = measures[(measures.metric == "dice_median") & (measures.source == "original")]
outlined = outlined[outlined.attribute.isin(["all", study.attributes()[0]])]
medians = outlined.pivot_table("value", ["task", "reader"], "group", sort=False)
medians.round(3)

# %%
segmented = measures[(measures.source == "original") & (measures.metric == "fairness_gap")]
segmented = segmented[segmented.attribute == study.attributes()[0]]
lines = [
    f"`{row.reader}`: gap {row.value:+.3f}"
    + (
        f", change {row.change:+.3f} ({row.change_low:+.3f} to {row.change_high:+.3f})"
        if row.change == row.change
        else ""
    )
    for row in segmented.itertuples()
]
Markdown(
    "The gap is the median Dice of the largest group minus that of the other one. "
    + ("; ".join(lines) + "." if lines else "This study has no segmentation, so there is nothing to crop.")
)

# %% [markdown]
# The interval belongs to the change on the same patients. It is what a decision needs. A Mann-Whitney test between two
# groups, as in the paper, asks another question: whether the groups differ. A large p says neither that they are equal nor
# that a strategy helped.
#
# How large was the window, and how well did the cascade find it?

# %%
windows = fair_diagnosis.windows(study)
windows.round(1)

# %%
lost = windows.dropna(subset=["first_empty"]) if "first_empty" in windows else windows.iloc[:0]
Markdown(
    " ".join(
        f"`{row.reader}`: the sides of the box were wrong by {row.box_error_y:.0f} % and {row.box_error_x:.0f} % on average; "
        f"for {row.first_empty:.0f} of {row.patients} patients the first network found nothing, and its empty mask was kept."
        for row in lost.itertuples()
    )
    or "No cascade was tried."
)

# %% [markdown]
# ## One dial: the dose
#
# Three strategies leave the network as it is and change how much each group counts.
#
# - **Oversampling** draws some groups more often. In a batch, each group has the share $(1 - \ell)\,n_g/n + \ell/G$.
#   The level $\ell$ lies between 0 (natural shares) and 1 (equal shares).
# - **Reweighting** draws images as they come and multiplies the loss of each by $w_g = n/(G\,n_g)$, whose mean is 1.
# - **Group DRO** lets the weights follow the losses: $q_g \leftarrow q_g \exp(\eta L_g)/Z$ (chapter 06).
#
# Dice belongs to a whole batch, so the weights of its slices enter the sums that it is made of; with equal weights, training
# is the plain one. A patient with an unknown attribute belongs to no group and counts as in plain training.
#
# All three can be measured on one scale: the share of the gradient that the rarest group gets, relative to plain training.
# For the numbers of Lee et al., 15 Black among 4,236 patients:

# %%
methods = ("reweight as_published", "plain", "dro as_published", "oversample", "reweight")
dose = {method: [balance.minority_share(15, 4236, method, batch) for batch in (16, 64)] for method in methods}
pd.DataFrame(dose, index=["batches of 16", "batches of 64"]).T.round(2)

# %% [markdown]
# The two rows "as published" follow the public code, which differs from the text. There, reweighting counts groups in the
# batch, and a product of the wrong shapes scales the whole batch: batches with a rare patient are nearly switched off. DRO
# starts anew in every step, so that it is the mean of the batch's group means. The order of these doses is the order of the
# published Dice of the Black patients. So the table may compare doses rather than methods.

# %%
theirs = rf.tables.published("cmr_groups").query("source == 'full' and group == 'Black' and task == 'overall'")
theirs = theirs[(theirs.level == "internal") & (theirs.metric == "dice_median") & theirs.cited.eq("paper: table 4")]
published_dice = theirs.set_index("strategy").value
Markdown(
    "Published median Dice of the Black patients: "
    + ", ".join(
        f"{rf.words.name(word)} {published_dice[word]:.3f}" for word in ("reweight", "standard", "dro", "oversample")
    )
    + "."
)

# %% [markdown]
# The dose that the readers of this study got, measured while they trained:

# %%
doses = strategies.doses(study)
doses.round(2)

# %%
strongest = doses.loc[doses.minority_share.idxmax()]
Markdown(
    f"The rarest joint group is *{strongest.group}* with {strongest.images} training images. The largest dose, "
    f"{strongest.minority_share:.1f} times that of plain training, was given by `{strongest.reader}`."
)

# %% [markdown]
# ## Disentangle, then re-fuse
#
# FCRO trains two networks. The *sensitive* network predicts the attributes from the image; its latent vectors are $z_A$. The
# *target* network predicts the disease; its latent vectors $z_T$ are to be orthogonal to them:
#
# $$L = \mathrm{BCE}(y) + 80\,\frac{\Vert Z_T U\Vert_F^2}{N} + 125\,\Vert \frac{1}{N} \tilde Z_T^\top \tilde Z_A
# \Vert_F^2 .$$
#
# BCE is the binary cross-entropy. $U$ holds the leading directions of $Z_A$ over the training set, and a tilde means that the mean is subtracted. Both terms
# are computed within each class of $y$ and averaged: a difference that the disease explains is no leak. As functions:


# %%
def column_loss(z, U):
    return (z @ U).square().sum() / len(z)


def row_loss(z, z_A):
    z, z_A = z - z.mean(0), z_A - z_A.mean(0)
    return (z.T @ z_A / len(z)).square().sum()


draw = torch.Generator().manual_seed(0)
z_A = torch.randn(64, 4, generator=draw) * torch.tensor([3.0, 1.0, 0.1, 0.1])  # two directions hold the attributes
U = fairread.basis(z_A, rank=2)
within, outside = z_A @ U @ U.T, z_A - z_A @ U @ U.T
{"within the attributes' space": float(column_loss(within, U)), "orthogonal to it": float(column_loss(outside, U))}

# %% [markdown]
# The published code chooses the rank of $U$ by energy and may choose 0. Then the loss is 0 whatever the network does, and
# no message says so. Here the rank is at least 1.
#
# FairREAD adds a second stage. An adversary $D$ tries to read the attributes $a$ from the feature map $z$, and the network
# plays against it:
#
# $$D \text{ minimises } \text{BCE}(D(z), a), \qquad \text{the rest minimises } \text{BCE}(y) - \alpha\,\text{BCE}(D(z), a).$$
#
# In the public code one optimiser minimises the second expression over $D$ as well. Then $D$ learns to be surely wrong, and
# for this $z$ must *hold* the attribute. A toy shows the difference: ten small networks each learn a label that goes together
# with an attribute. Afterwards a fresh linear probe looks for the attribute.
#
# **Predict first:** will the probe find the attribute better or less well after the published game than without any?

# %%
probes = {game: fairread.toy(game) for game in ("none", "right", "as_published")}
figure, axis = plt.subplots(figsize=(5, 2.4), layout="constrained")
for at, values in enumerate(probes.values()):
    axis.plot(values, np.full(len(values), at), "o", alpha=0.6)
axis.set(yticks=range(3), yticklabels=["no game", "right game", "published game"], xlabel="AUROC of a fresh probe")
figures.keep(figure, study, "07_game")

# %%
Markdown(
    "Mean AUROC of the probe: "
    + ", ".join(f"{game.replace('_', ' ')} {values.mean():.2f}" for game, values in probes.items())
    + ". The right game removes part of the attribute. The published one makes it easier to find."
)

# %% [markdown]
# After the game, the attributes come back: a small network turns them into weights of the channels of $z$ (*re-fusion*). So
# FairREAD uses the attributes openly when it decides. For a patient whose attribute is unknown it counts 0.5. This has a
# price: where the training images link a group to the disease and the patients do not, the network learns the link and
# uses it. Then the last step of FairREAD, thresholds by group, must put it right (appendix A3 measures how much).

# %%
tested = rf.data.load(study).table.query("split == 'test'").drop_duplicates("patient_id")
unknown = tested[list(study.attributes("readers"))].isna().any(axis=1).sum()
Markdown(
    f"Of {len(tested)} test patients, {unknown} have an unknown attribute. FairREAD counts 0.5 for them, and thresholds by "
    "group give them the threshold of all."
)

# %% [markdown]
# The latent spaces of this study's readers, in their first two principal components, coloured by group and by disease:

# %%
attribute = study.attributes("readers")[0]
classifying = [reader for reader in study.reader_names if reader in ("standard", "fcro", "fairread")]
classifying = [reader for reader in classifying if any(net.kind == "classify" for net in study.networks_of(reader))]
task = next((task for task, kind in study.tasks.items() if kind == "classify"), "")
spaces, probed, who = {}, {}, None
for reader in classifying if task else ():
    network = next(net for net in study.networks_of(reader) if task in net.tasks)
    z, who = fair_diagnosis.latent(study, Reader(network, reader))
    spaces[rf.words.name(reader)] = z
if who is not None:
    colours = {rf.words.name(attribute): who[attribute], task: who[task].map({0.0: "absent", 1.0: "present"})}
    drawn = figures.spaces(spaces, {name: groups.reset_index(drop=True) for name, groups in colours.items()})
else:
    drawn = figures.sentence("This study has no classifier.")
figures.keep(drawn, study, "07_spaces")

# %% [markdown]
# A picture of two components hides all others. That two colours mix here does not prove that nothing is left; a probe on the
# whole space is the better test.
#
# ## Thresholds by group
#
# The simplest remedy leaves the network as it is and gives each group its own threshold, chosen on validation patients:
# $\theta_g = \arg\min |\mathrm{TPR}_g - \mathrm{TNR}_g|$. It needs the patient's group at the moment of decision. In
# several countries it is unlawful to decide by sex or race, and two patients with the same image may get different
# answers. A hospital that uses such thresholds must be able to justify this to the patient.

# %%
moved = [reader for reader in study.reader_names if reader.endswith("+thresholds")]
chosen = groupwise.read(study, moved[0]) if moved else pd.DataFrame()
chosen.round(3)

# %%
Markdown(
    " ".join(groupwise.sentence(groupwise.read(study, name), name, study.fairness.min_cases) for name in moved)
    or "No thresholds by group were asked for (`readers = {'thresholds': 'min_gap'}`)."
)

# %% [markdown]
# ## Gap against performance
#
# Each dot is a reader on the originals. For classifiers the gap is the worst-case EODD over the joint groups of all
# attributes, and performance is AUROC; for segmenters it is the gap of median Dice, and performance is median Dice. The best
# place is at the lower right. A star is a reader with thresholds by group.

# %%
here = measures[measures.source == "original"]
rows = []
for gap, value in (("eodd_worst_case", "auroc"), ("fairness_gap", "dice_median")):
    of_gap = here[(here.metric == gap) & here.attribute.isin([attribute, *here.attribute[here.metric == "auroc"]])]
    of_value = here[(here.metric == value) & (here.group == "all")].set_index(["task", "reader"]).value
    for row in of_gap.drop_duplicates(["task", "reader"]).itertuples():
        place = {"panel": row.task, "reader": row.reader, "performance": of_value.get((row.task, row.reader), np.nan)}
        rows.append(place | {"gap": row.value, "gap_low": row.low, "gap_high": row.high})
figures.keep(figures.readers(pd.DataFrame(rows), "gap"), study, "07_readers")

# %%
eodd = here[(here.metric == "eodd_worst_case") & (here.group == "all")]
standard = eodd[eodd.reader == fair_diagnosis.baseline(study)].set_index("task")
Markdown(
    " ".join(
        f"`{task}`: the baseline's worst-case EODD is {row.value:.3f}; if the groups did not differ, {row.expected:.3f} would be "
        "expected in a sample of this size."
        for task, row in standard.iterrows()
    )
    or "No classification was judged."
)

# %% [markdown]
# FairREAD's authors weigh gain against cost in one number, FATE $= (P - P_b)/P_b - (F - F_b)/F_b$ with performance $P$,
# disparity $F$ and the baseline $b$. Where the baseline's disparity is not above what chance gives, FATE divides noise by
# noise. Then it is not printed.

# %%
fates = here[here.metric.isin(["fate_eo", "fate_auc"])]
fates.pivot_table("value", ["task", "reader"], "metric", sort=False).round(2)

# %%
none = fates.note.str.startswith("no bias").sum()
Markdown(f"{none} of {len(fates)} values of FATE are left out: no bias to reduce.")

# %% [markdown]
# ## Who gained, who lost
#
# A gap can close because the worse group rises or because the better group falls (*levelling down*, chapter 06). The table
# has the change of each group against the standard reader, on the same patients.

# %%
changed = performance[(performance.source == "original") & (performance.reader != "standard")]
changed = changed[(changed.attribute == attribute) & changed.metric.isin(["auroc", "dice"])]
wide = changed.pivot_table("change_standard", ["task", "reader"], "group", sort=False)
wide.round(3)

# %%
down = wide[(wide < 0).all(axis=1)]
Markdown(
    f"In {len(down)} of {len(wide)} rows every group of {rf.words.name(attribute)} is read less well than by the standard reader."
)

# %% [markdown]
# The readers are frozen and look at every source. Does a reader that is fairer on originals stay fairer on reconstructions?

# %%
metric = "eodd" if task else "delta_dice"
everywhere = gaps[(gaps.metric == metric) & (gaps.attribute == attribute)]
everywhere = everywhere.pivot_table("value", ["task", "reader"], "source", sort=False)
everywhere.round(3)

# %%
spread = everywhere.max(axis=1) - everywhere.min(axis=1)
Markdown(
    f"Between sources the disparity of one reader differs by up to {spread.max():.3f} (`{spread.idxmax()[1]}`, "
    f"{spread.idxmax()[0]})."
    if len(spread.dropna())
    else "No group has enough patients to be compared."
)

# %% [markdown]
# ## Published values
#
# Lee et al. on heart images, with oversampling, reweighting, DRO, crops and cascades:

# %%
cmr = rf.tables.published("cmr_strategies").query(
    "level == 'internal' and task == 'overall' and attribute == 'ethnicity'"
)
cmr = cmr[cmr.metric.isin(["ser_median", "fairness_gap"]) & ~cmr.cited.str.contains("S9")]
cmr.pivot_table("value", ["source", "strategy"], "metric", sort=False)

# %% [markdown]
# Read the table twice. Some of its values surprise, and some contradict each other:
#
# - The cascade halves the gap (0.050 to 0.021) while the ratio of errors SER *rises* (1.49 to 1.52): both groups have
#   fewer errors, but the group with few errors gains relatively more. So the ratio and the difference can move in
#   opposite directions.
# - The cascade's Dice (0.959) beats that of the crop around the truth (0.917), which is meant to be its upper bound.
# - "Best overall", the cascade with oversampling, is the least fair of all for Asian patients (table S9: SER 2.48).
# - Table S8 repeats the p-values of table 9.
#
# We have the values of FairREAD and FCRO only second-hand, from the reading notes of a third party:

# %%
second_hand = rf.tables.published("fairread_strategies").query("dataset == 'chexpert' and task == 'average'")
second_hand.pivot_table("value", "strategy", "metric", sort=False)

# %% [markdown]
# ## What this chapter does not prove
#
# Each reader was trained once, and another seed moves a gap by more than many strategies do. The appendix `A3_readers`
# shows the same strategies with several seeds, on phantoms whose answer is known. A crop that does not close the
# gap shows that its cause lies inside the window, not what it is. An adversary that fails to find an attribute proves nothing
# about a stronger one. Thresholds by group equalise rates on the validation patients; whether they do so elsewhere must be
# measured there.
#
# ## Three things to take away
#
# 1. To find where a bias lives, remove a part of the image and look at the gap.
# 2. Compare strategies at the same dose, and print the dose.
# 3. Judge a reader by four numbers together: its gap, its performance, an interval on the same patients, and what chance
#    would give.
#
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. A segmenter is worse for women. After cropping around the true tumour, the gap is as large as before. What follows?**
#
# <details><summary>The cause lies outside the window.</summary>No. What lies outside was removed, and the gap
# stayed.</details>
# <details><summary>The cause lies inside the window.</summary>Yes. It does not say what it is: contrast, size, or the
# outlines of the experts.</details>
# <details><summary>Cropping is a bad method.</summary>No. The experiment gave a clear answer.</details>

# %% [markdown] tags=["quiz"]
# **2. Strategy A oversamples with a dose of 100, strategy B reweights with a dose of 3. A has the smaller gap. What do you
# write?**
#
# <details><summary>Oversampling is better than reweighting.</summary>No. The dose differs as well, and may explain
# it.</details>
# <details><summary>Nothing can be compared.</summary>No. The doses can be made equal, and then the methods can be
# compared.</details>
# <details><summary>The larger dose had the smaller gap; the methods were not compared at one dose.</summary>Yes. This is
# what was seen, and it names what was not.</details>

# %% [markdown] tags=["quiz"]
# **3. An adversary cannot find sex in the features. What is shown?**
#
# <details><summary>This adversary could not find it.</summary>Yes. A stronger probe may find it; test with a fresh one that
# did not take part in the game.</details>
# <details><summary>The features do not hold sex.</summary>No. They can hold it in a form that this adversary does not
# see.</details>
# <details><summary>The reader is fair.</summary>No. Errors can differ between groups although the group is not in the
# features.</details>

# %% [markdown] tags=["quiz"]
# **4. Errors of two groups fall from 0.10 and 0.15 to 0.04 and 0.07. What happens to the gap and to SER?**
#
# <details><summary>Both fall.</summary>No. SER is a ratio: 0.15 / 0.10 is 1.5, and 0.07 / 0.04 is 1.75.</details>
# <details><summary>The gap falls and SER rises.</summary>Yes. The difference becomes smaller, and the ratio larger. Both
# groups gained.</details>
# <details><summary>Both rise.</summary>No. The difference was 0.05 and is now 0.03.</details>

# %% [markdown] tags=["quiz"]
# **5. Why can a reader with thresholds by group be a problem, although its gap is small?**
#
# <details><summary>It needs a second network.</summary>No. It uses the same network with other thresholds.</details>
# <details><summary>Two patients with the same image can get different answers.</summary>Yes. This has to be justified to
# the patient, and in several countries it is unlawful.</details>
# <details><summary>Its AUROC is lower.</summary>No. Within a group the order of the scores stays as it is.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (predict, then run).** Compute the column loss of `within` for a basis of rank 0 and of rank 1. What would a
# training with rank 0 learn about the attribute?

# %% tags=["exercise", "solution"]
# Hint: a basis of rank 0 has no columns: U[:, :0].
losses = {f"rank {rank}": float(column_loss(within, U[:, :rank])) for rank in (0, 1, 2)}
pd.Series(losses, name="column loss").round(3).to_frame()

# %% [markdown] tags=["exercise", "solution"]
# With rank 0 the loss is 0 for every network. The training runs, its log looks good, and it asks for nothing. A loss that is
# always 0 must raise a question.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (write).** Fifteen of 4,236 patients are Black. Write a function `dose(level)`: the share of the rarest group
# in a batch that is oversampled with `level`, divided by its share in the data, for two groups. At which level does the group
# count ten times as much as in plain training?


# %% tags=["exercise", "solution"]
# Hint: the share is (1 - level) n_g / n + level / G.
def dose(level, count=15, images=4236, groups=2):
    share = count / images
    return ((1 - level) * share + level / groups) / share


ten_times = next(level for level in np.linspace(0, 1, 10001) if dose(level) >= 10)
print(f"level {ten_times:.3f}; the whole level gives {dose(1):.0f} times")

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "dose" not in globals():
    print("Hint: define dose(level) first.")
elif abs(dose(0) - 1) > 1e-9:
    print("Hint: with level 0 the images come as they are. What is the dose of plain training?")
else:
    print("Hint: dose(1) should agree with balance.minority_share(15, 4236, 'oversample'). Does it?")

# %% [markdown] tags=["exercise", "solution"]
# A level of about 0.06 is enough for ten times. The whole level gives 141 times: each of the fifteen patients is then seen 141
# times as often as in plain training, and 281 times as often as a patient of the other group. It is soon learned by heart.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (write).** Two groups have the errors 0.10 and 0.15, and after a strategy 0.04 and 0.07. Compute the gap and SER
# before and after: `gap_change` and `ser_change`, each after minus before. Which of the two would you report, and why?

# %% tags=["exercise", "solution"]
# Hint: SER is the larger error divided by the smaller one.
gap_change = (0.07 - 0.04) - (0.15 - 0.10)
ser_change = 0.07 / 0.04 - 0.15 / 0.10
print(f"gap {gap_change:+.3f}, SER {ser_change:+.3f}")

# %% tags=["exercise"]
if "gap_change" not in globals() or "ser_change" not in globals():
    print("Hint: call your answers gap_change and ser_change.")
elif gap_change > 0:
    print("Hint: the difference of the errors was 0.05. What is it now? After minus before.")
else:
    print("Hint: do your two answers have the same sign? Explain to a colleague why or why not.")

# %% [markdown] tags=["exercise", "solution"]
# The gap falls by 0.02 and SER rises by 0.25. Both groups have less than half of their errors, so nobody lost. A report
# should give the errors of both groups, and then both summaries; each summary alone can be chosen to please.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (predict, then run).** Suppose that nothing is unfair: baseline and strategy both have an EODD that is noise
# alone, $\tfrac12(|e_1| + |e_2|)$ with normal $e$ of standard deviation 0.05, and the same AUROC. In which share of 1,000
# such comparisons does FATE exceed 0.2?

# %% tags=["exercise", "solution"]
# Hint: with equal performance FATE is -(F - F_b) / F_b.
noise_only = np.abs(np.random.default_rng(0).normal(0, 0.05, (2, 1000, 2))).mean(axis=2)
fate = -(noise_only[1] - noise_only[0]) / noise_only[0]
print(f"FATE above 0.2 in {np.mean(fate > 0.2):.0%}, below -0.2 in {np.mean(fate < -0.2):.0%} of the comparisons")

# %% [markdown] tags=["exercise", "solution"]
# In about four of ten comparisons the strategy seems to gain much, in four of ten it seems to lose much, and nothing
# happened. So FATE is left out where the baseline's disparity is not above what chance gives.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open, break it).** Break the linear probe: invent features of 400 patients that hold the attribute fully, and
# in which a logistic regression finds nothing. Which probe finds it? What does this say about "the attribute was removed"?

# %% tags=["exercise", "solution"]
# Hint: let the attribute be the sign of a product of two features.
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

features = np.random.default_rng(1).normal(size=(400, 2))
hidden = features[:, 0] * features[:, 1] > 0
learned, tested = slice(0, 200), slice(200, 400)
for name, model in {"linear": LogisticRegression(), "neighbours": KNeighborsClassifier(9)}.items():
    score = model.fit(features[learned], hidden[learned]).predict_proba(features[tested])[:, 1]
    print(f"{name} probe: AUROC {roc_auc_score(hidden[tested], score):.2f}")

# %% [markdown] tags=["exercise", "solution"]
# The linear probe is near 0.5, and a probe of nearest neighbours finds nearly everything. A network that reads the features
# after this layer is not linear either. A good answer says "no linear probe found it", and asks what harm is left if it is
# still there.
