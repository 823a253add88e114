# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 Two stages: where should a hospital intervene?
#
# Chapter 06 changed the reconstruction and kept the reader. Chapter 07 changed the reader and kept the reconstruction. A
# hospital can do either, or both. The paper (Wohlrapp et al., MIDL 2026) ends with this question. Here every strategy of
# the reconstruction meets every reader, on the same patients.
#
# **After this chapter you can**
#
# - split the gap of a system into what the reader brings and what the reconstruction adds;
# - say when two interventions repair the same fault, and when they help each other;
# - read a Pareto front together with its uncertainty;
# - write a decision rule before you look at test patients, and measure how far the winner falls back;
# - use placebos to tell a gain from the luck of one training.
#
# *Reading and running: about 30 minutes.*

# %%
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from scipy.stats import norm

import reconfair as rf
from reconfair import figures, words
from reconfair.fairness import grid

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study, which
# does not use the base. This chapter needs the sections `mitigation`, `readers` and `two_stages`.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {}
diagnosis = {}
fairness = {}
mitigation = {}
readers = {}
synthesis = {}
two_stages = {}
compute = {}

# %% [markdown]
# ## A system whose answer is known
#
# First we invent a system. In group b the reader misses lesions: their score is lower by 0.6. The standard reconstruction
# hides lesions of group b as well, by another 0.6. A strategy of the reconstruction can remove the second fault, a fairer
# reader the first. Scores are normal, so the true rates follow from the normal distribution $\Phi$:
#
# $$\mathrm{TPR}_g(r, d) = \Phi(0.6 - \beta_g(r, d)), \qquad \beta_a = 0, \quad
# \beta_b(r, d) = 0.6 \cdot 1[r = \text{standard}] + 0.6 \cdot 1[d = \text{standard}].$$
#
# **Predict first:** if each intervention alone closes half of the gap, how much do both close together?


# %%
def system(patients=400, seed=0):
    """Scores of an invented system: two rows and two readers, two groups."""
    rng, rows = np.random.default_rng(seed), []
    group, label = np.repeat(["a", "b"], patients // 2), rng.integers(0, 2, patients)
    shared = rng.normal(size=patients)
    for row, reader in product(("standard", "eodd"), ("standard", "oversample")):
        fault = 0.6 * (row == "standard") + 0.6 * (reader == "standard")
        noise = 0.8 * shared + 0.6 * rng.normal(size=patients)
        score = norm.cdf(1.2 * label - 0.6 - fault * label * (group == "b") + noise)
        about = {"source": "unet", "strategy": row, "reader": reader, "task": "ill", "kind": "classify"}
        rows.append(
            pd.DataFrame(
                {"unit": range(patients), "patient_id": range(patients), "label": label, "score": score, **about}
            )
        )
    return pd.concat(rows), pd.DataFrame({"patient_id": range(patients), "sex": group})


answers, people = system()
known = grid.grid(answers, people, thresholds={"ill": 0.5}, resamples=300)
tpr = {
    (row, reader): norm.cdf(0.6 - 0.6 * (row == "standard") - 0.6 * (reader == "standard"))
    for row, reader in product(("standard", "eodd"), ("standard", "oversample"))
}
truth = pd.Series({cell: (norm.cdf(0.6) - rate) / 2 for cell, rate in tpr.items()}, name="true EODD").rename_axis(
    ["row", "reader"]
)
table = known.cells.set_index(["row", "reader"])[["gap", "gap_low", "gap_high", "expected", "interaction"]].join(truth)
table.round(3)

# %%
gaps, true = table.gap, table["true EODD"]
Markdown(
    f"Each intervention alone leaves a true EODD of {true['eodd', 'standard']:.3f} of {true['standard', 'standard']:.3f}, and "
    f"both together leave {true['eodd', 'oversample']:.3f}. In this sample of 400 patients the four gaps are "
    f"{', '.join(f'{value:.3f}' for value in gaps)}. The last cannot be 0: if the groups were equal, "
    f"{table.expected['eodd', 'oversample']:.3f} would be expected from chance alone."
)

# %% [markdown]
# ## The interaction
#
# Let $M(r, d)$ be a rate of one group with reconstruction strategy $r$ and reader $d$, and 0 the standard. The interaction
#
# $$I(r, d) = [M(r, d) - M(0, d)] - [M(r, 0) - M(0, 0)]$$
#
# asks whether the strategy $r$ does more with the reader $d$ than with the standard one. Rates are linear in the patients,
# so $I$ has an exact variance: each patient contributes $\pm 1$ for each decision that differs. A student could write it:

# %%
called = answers.assign(called=answers.score >= 0.5).merge(people, on="patient_id")
rates = called[called.label == 1].pivot_table("called", "sex", ["strategy", "reader"])
by_hand = (
    rates["eodd", "oversample"]
    - rates["standard", "oversample"]
    - rates["eodd", "standard"]
    + rates["standard", "standard"]
)
effects = known.effects[(known.effects.effect == "interaction") & (known.effects.metric == "tpr")].set_index("group")
exact = norm.cdf(0.6) - 2 * norm.cdf(0.0) + norm.cdf(-0.6)
pd.DataFrame(
    {"by hand": by_hand, "value": effects.value, "low": effects.low, "high": effects.high, "truth": [0, exact]}
).round(3)

# %% [markdown]
# The limits hold for all groups, rates and cells at once (the largest studentised deviation of many random signs). For a
# *gap* the interaction is only printed: a gap is a range, a range is not linear, and no honest interval is known. For a
# gap, a positive number means that both interventions repair the same fault.
#
# ## The grid of this study

# %%
study = rf.params.study(
    base,
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    mitigation=mitigation,
    readers=readers,
    synthesis=synthesis,
    two_stages=two_stages,
    compute=compute,
)
results = rf.two_stages.read(study)
cells = results.grid[results.grid.split == "test"]
Markdown(
    f"{cells['row'].nunique()} rows (the original, the noisy image, and {words.name(rf.two_stages.model(study))} by strategy) and "
    f"{cells.reader.nunique()} readers, on the test patients. *{words.name('replicate')}* is the placebo: the standard training once "
    "more, with another seed. Nothing was changed there, so what differs is the luck of the training."
)

# %% [markdown]
# **Predict first:** which cell will have the smallest gap, and how far will the placebo be from the standard?

# %%
for (task, attribute), some in cells.groupby(["task", "attribute"], sort=False):
    display(figures.keep(figures.grid_cells(some), study, f"09_grid_{task}_{attribute.replace('*', '_')}"))

# %%
lines = []
for (task, attribute), some in cells.groupby(["task", "attribute"], sort=False):
    of = some.set_index(["row", "reader"])
    standard, placebo = of.loc[("standard", "standard")], of.loc[("replicate", "standard")]
    lines.append(
        f"- {words.markdown(task)}, {words.name(attribute)}: the standard system has {words.name(standard.gap_metric)} "
        f"{standard.gap:.3f} ({standard.gap_low:.3f} to {standard.gap_high:.3f}), where {standard.expected:.3f} would be expected if "
        f"groups did not differ. The reader brings {standard.brought:.3f} on originals, the reconstruction adds "
        f"{standard.added:+.3f}. The placebo alone moves the gap by {placebo.gap - standard.gap:+.3f}."
    )
Markdown("\n".join(lines))

# %% [markdown]
# ## The front
#
# A cell lies on the Pareto front if no other cell has a smaller gap and at least its performance. The front of one sample
# is uncertain. The table shows in which share of resamples of the patients each cell lies on it.

# %%
for (task, attribute), some in cells.groupby(["task", "attribute"], sort=False):
    display(figures.keep(figures.grid_front(some), study, f"09_front_{task}_{attribute.replace('*', '_')}"))

# %%
shares = cells.dropna(subset=["front"]).pivot_table("front", ["task", "attribute", "row"], "reader", sort=False)
display(shares.round(2))
surest = cells.loc[cells.front.idxmax()]
Markdown(
    f"The cell that is most often on a front ({words.name(surest['row'])}, read by {words.name(surest.reader)}; {words.markdown(surest.task)}) "
    f"is there in {100 * surest.front:.0f} % of the resamples. Its {words.name(surest.gap_metric)} is {surest.gap:.3f} ({surest.gap_low:.3f} to "
    f"{surest.gap_high:.3f}), at {words.name(surest.performance_metric)} {surest.performance:.3f} ({surest.performance_low:.3f} to "
    f"{surest.performance_high:.3f}). A cell that is on the front in a third of the resamples is no recommendation."
)

# %% [markdown]
# ## Do the stages help each other?

# %%
effects = results.effects[(results.effects.split == "test") & (results.effects.effect == "interaction")]
sure = effects[(effects.low > 0) | (effects.high < 0)]
display(sure[["task", "attribute", "group", "metric", "row", "reader", "value", "low", "high"]].round(3))
Markdown(
    f"{len(sure)} of {len(effects)} interactions of groups' rates have simultaneous limits without 0."
    + (" For all others neither an interaction nor its absence is shown." if len(sure) < len(effects) else "")
)

# %% [markdown]
# ## The decision
#
# The rule was written into the params before anybody looked at the test patients: among the cells whose AUROC or Dice on
# *validation* is within `tolerance` of the best, take the one with the least upper limit of the gap. Then look at the test
# patients once. Choosing the best of many numbers favours lucky ones, so the gap of the winner grows on test; the column
# `shrinkage` says by how much. A gain counts only if its limits exclude 0 and if it beats the placebos and the thresholds by
# group.

# %%
display(results.decisions.round(3))
Markdown(words.markdown(rf.two_stages.sentences(results)))

# %% [markdown]
# ## How much is the luck of one training?

# %%
again = results.replicates
if again.seeds.max() > 1:
    shown = (
        again[again.metric == "gap"]
        .groupby(["task", "attribute"], sort=False)[["sd_seeds", "sd_patients", "share_seeds"]]
        .median()
    )
    display(shown.round(3))
    text = f"Each cell was trained with {again.seeds.max():.0f} seeds. Of the variance of a gap, {100 * again.share_seeds.median():.0f} % (median) is between trainings."
else:
    text = (
        "Every cell was trained once, so this study cannot tell the luck of a training from an effect; the limits above hold for "
        "these trained networks. Name further seeds in `two_stages: {seeds: [1, 2]}` to find out."
    )
Markdown(text)

# %% [markdown]
# ## What this does not prove
#
# The grid compares the strategies that this study makes, at one noise level and with these patients. A strategy with another
# strength is another row. Thresholds by group need the group of every patient, and the law of a country may forbid them. The
# placebo shows one further training, not the distribution of all trainings.
#
# ## Three things to take away
#
# 1. First ask where the gap comes from: what the reader brings, and what the reconstruction adds.
# 2. Write the rule before you look, look once, and expect the winner to fall back.
# 3. A gain that does not beat a second training of the standard is no gain.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 1.** In the invented system, let the reader's fault be 0 and the reconstruction's 1.2. Which cell does `grid.choose`
# take now? Is the fairer reader ever worth its cost?

# %% [markdown] tags=["exercise"]
# **Exercise 2.** Draw the invented system with 30 seeds. How often is (eodd, oversample) on the front? How often does the rule
# choose it?

# %% [markdown] tags=["exercise"]
# **Exercise 3.** Remove both faults and let `grid.choose` and `grid.verdict` decide on 100 systems. How often is a winner
# claimed?

# %% [markdown] tags=["exercise"]
# **Exercise 4.** Fine-tune against the reader of each cell (`two_stages = {"against": "matched"}`). Which cells change?
# What would a vendor of reconstructions need from the hospital to do so?
