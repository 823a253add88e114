# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A4 Do synthetic patients help where the answer is known?
#
# In the phantom cohort of `benchmarks/synthesis.py`, every woman has a bright spot in the scalp. It has nothing to do with
# disease. But most women with a high grade are hidden from training and validation, so a classifier learns that the spot
# means a low grade. One generator for each seed is trained and then tuned in several ways, each for the same number of steps.
# Five classifiers train with the images of each, and are read on 3,000 fresh patients. All classifiers take the same number
# of steps, also those that train with real images alone. This page shows what the benchmark left.
#
# **After this appendix you can**
#
# - say which part of FairGen closed how much of a known gap;
# - compare it with oversampling and with a generator that was tuned with everybody;
# - tell an effect from the spread between seeds.
#
# *Reading: about 10 minutes.*

# %%
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

import reconfair as rf

path = rf.params.shipped() / "benchmarks" / "results" / "synthesis.csv"
columns = ["scenario", "seed", "arm", "metric", "value"]
# The word null is a scenario here, and no missing value.
kept = pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.exists() else pd.DataFrame(columns=columns)
arms = ["standard", "oversample", "plain", "sqrs", "diversity", "fairgen", "weighted", "seen"]
rare = kept[kept.scenario == "rare"]
state = (
    f'{rare.seed.nunique()} seeds were run. One setting was changed after a look at seed 3: see "The parts of FairGen".'
    if len(rare)
    else "No full run is kept yet."
)
missing = [arm for arm in arms if arm not in set(rare.arm)] + ["null"] * ("null" not in set(kept.scenario))
state += f" Not measured yet: {', '.join(missing)}." * bool(missing)
Markdown(f"{state} Run: `python benchmarks/synthesis.py`")

# %% [markdown]
# ## The gap of the hidden cell
#
# The gap is the sensitivity in men minus that in women, the mean of five classifiers. Each dot is a seed.
#
# **Predict first:** can `oversample`, which only repeats a handful of women, close the gap? And `seen`, whose generator was
# trained without the hidden women, like the others, but then tuned with all of them?

# %%
gaps = rare[rare.metric == "gap"].pivot_table("value", "seed", "arm").reindex(columns=arms)
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
for at, arm in enumerate(arms):
    axis.plot(gaps[arm], [at] * len(gaps), "o", color="#0072B2" if arm != "standard" else "#000000", alpha=0.7)
axis.axvline(0, color="grey", lw=0.8)
axis.set(
    yticks=range(len(arms)), yticklabels=arms, xlabel="TPR of men minus TPR of women", ylim=(len(arms) - 0.5, -0.5)
)
plt.show()


# %%
def by_seed(values, digits=2, sign=""):
    """The mean, and the value of each seed."""
    each = ", ".join(f"{value:{sign}.{digits}f}" for value in values.dropna())
    return f"{values.mean():{sign}.{digits}f} (by seed {each})"


there = [arm for arm in arms[1:] if gaps[arm].notna().any()] if gaps.standard.notna().any() else []
lines = [
    f"With real images alone the gap is {by_seed(gaps.standard)}. Share of it that is left, of the means over seeds:"
]
for arm in there:
    both = gaps[["standard", arm]].dropna()
    aim = {"fairgen": "; aim: at most 0.6"}.get(arm, "")
    lines.append(f"- `{arm}`: {both[arm].mean() / both.standard.mean():.2f}{aim}; the gap is {by_seed(both[arm])}")
Markdown("\n".join(lines) if there else "The gap is not known before the full run.")

# %% [markdown]
# ## The parts of FairGen
#
# `plain` is tuned without any part; each of the next arms adds one: SQRS, the diversity loss, preference learning.
# `weighted` has the images of `fairgen`, and its classifiers give more weight to groups in which they are often wrong: this
# is all of FairGen. The other classifiers have equal weights.
# `lesion_law_error` measures whether lesions in the samples of the hidden cell have the right contrast and size, in standard
# deviations of the truth. Values are means over the seeds that the first column names.
#
# In a first run on seed 3, preference learning pulled more strongly (`beta` 10, and no factor 2 / `beta`). The samples of the
# hidden cell then lost the spot and the lesion: the error was 0.90, and 85 % of the gap was left. The present setting was
# tried on seed 2 before seed 3 was run again. A fault in the gradient factor was mended after seeds 3 and 4 had been seen.

# %%
columns = ["gap", "tpr_female", "tpr_male", "auroc", "lesion_law_error", "fd_variance"]
table = rare.pivot_table("value", "arm", "metric").reindex(index=arms, columns=columns).round(3)
named = rare.groupby("arm").seed.unique().map(lambda some: ", ".join(map(str, some)))
table.insert(0, "seeds", named.reindex(arms, fill_value=""))
table

# %% [markdown]
# Ten samples of women with a high grade, of one seed. The first row has fresh patients of this kind: each has a spot in the
# scalp, and a lesion in the brain. Do the samples have both?

# %%
strips = path.with_suffix("")
seeds = [seed for seed in sorted(rare.seed.unique()) if (strips / f"{seed}_standard.png").exists()]
rows = [arm for arm in arms if seeds and (strips / f"{seeds[0]}_{arm}.png").exists()]
if rows:
    figure, axes = plt.subplots(len(rows), figsize=(7, 0.75 * len(rows)), layout="constrained", squeeze=False)
    for axis, arm in zip(axes[:, 0], rows, strict=True):
        axis.imshow(plt.imread(strips / f"{seeds[0]}_{arm}.png"), cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel("patients" if arm == "standard" else arm, rotation=0, ha="right", va="center")
    plt.show()

# %%
sentence = "Not known before the full run."
wide = rare.pivot_table("value", "seed", ["metric", "arm"])
if {(metric, arm) for metric in ("gap", "lesion_law_error") for arm in ("diversity", "fairgen")} <= {*wide.columns}:
    change = {name: (wide[name].fairgen - wide[name].diversity).dropna() for name in ("lesion_law_error", "gap")}
    sentence = (
        f"Preference learning changed the error of the lesions by {by_seed(change['lesion_law_error'], 2, '+')} SD, "
    )
    sentence += f"and the gap by {by_seed(change['gap'], 3, '+')}. Where the seeds differ in sign, nothing is shown."
Markdown(sentence)

# %% [markdown]
# ## False alarms
#
# In the null scenario no group differs in anything. For each seed 100 cohorts of 200 are drawn from 2,000 fresh patients, so
# cohorts share patients. How many would call an arm fairer than the standard reader?

# %%
null = kept[(kept.scenario == "null") & (kept.metric == "false_gains")]
Markdown(
    f"In {null.value.mean():.1%} of the cohorts any arm is called fairer (aim: at most 7 %). The generators are small here."
    if len(null)
    else "Not known before the full run."
)

# %% [markdown]
# ## Real scans
#
# On real scans nobody knows the answer. All generators of chapter 08 were trained on one split of each set. A reader trains with
# the images of each and is judged on real test patients. The table shows the change of EODD from the standard reader, with
# its 95 % interval given the trained networks. Below 0, the reader is fairer.

# %%
kept_real = path.with_name("synthesis_real.csv")
columns = ["study", "generator", "classifier", "attribute", "group", "metric", "value", "low", "high", "shift_standard"]
columns += ["shift_standard_low", "shift_standard_high", "verdict_standard"]
real = (
    pd.read_csv(kept_real, keep_default_na=False, na_values=[""])
    if kept_real.exists()
    else pd.DataFrame(columns=columns)
)
judged = real[(real.classifier == "reader") & real.shift_standard_low.notna()]
ends = {name: judged[name].map("{:+.3f}".format) for name in columns[-4:-1]}
shown = ends["shift_standard"] + " (" + ends["shift_standard_low"] + " to " + ends["shift_standard_high"] + ")"
table = judged.assign(shown=shown).pivot(index=["study", "attribute"], columns="generator", values="shown")
table

# %%
fairer, less = ((judged.verdict_standard == word).sum() for word in ("fell", "grew"))
Markdown(
    f"Of {len(judged)} changes, {fairer} are shown to be smaller gaps and {less} larger ones; the others are not shown. No "
    "correction is made for so many questions."
    if len(judged)
    else "No study of real scans is kept yet. Run: `python benchmarks/synthesis.py --params params/nih_originals_synthesis.yaml`"
)

# %% [markdown]
# Each kind of classifier, for the first attribute, and the published values of a ViT (FairGen, table 1). ESSP is computed
# from percent there, and from fractions here; so the two cannot be compared. The published gaps are in percent.

# %%
measures = ["accuracy", "demographic_parity", "equal_opportunity", "essp", "nar"]
ours = real[real.metric.isin(measures) & (real.group == "all") & real.attribute.isin(["sex", "all"])]
ours.pivot_table("value", ["study", "classifier", "generator"], "metric", sort=False).round(3)

# %%
published = rf.tables.published("fairgen_strategies")
published = published[(published.task == "diagnosis by ViT") & published.cited.str.contains("table 1")]
published = published[~published.metric.str.contains("improvement")]
published.pivot_table("value", ["dataset", "strategy"], "metric", sort=False)

# %% [markdown]
# ## What this appendix does not prove
#
# The disease of the hidden women looks like that of men, and their spot is like that of the other women. This is the best case
# for a generator: it can put together what it has seen apart. Where the disease of the hidden group looks different, nobody can know that from training
# images without that group.
#
# ## Three things to take away
#
# 1. Test a method where the answer is known, with several seeds.
# 2. Oversampling is the rival to beat, and it needs no generator.
# 3. A generator that was tuned with everybody tells what there was to gain by seeing the missing patients.
