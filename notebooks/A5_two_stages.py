# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A5 Does the decision rule choose the right stage?
#
# Chapter 09 chooses a cell of the grid on validation patients and looks at it once on test patients. On real scans nobody
# knows whether that was the best cell. Here we know it, because the patients are phantoms and we can draw as many as we
# like. The phantoms are chest radiographs with one task, consolidation, and one attribute, sex. Five scenarios differ in
# what each stage has seen:
#
# - `null`: the attributes mean nothing. Every cell that is called better is a false alarm.
# - `rare`: 95 % of the women are hidden from the diagnosis. The reader takes breasts for consolidations. The reader's
#   strategies can repair that.
# - `scarce`: women's consolidations are mottled, men's are dense. 85 % of the women are hidden from the reconstruction,
#   which therefore smooths mottled consolidations away. The reconstruction's strategies can repair that.
# - `both`: as `scarce`, and 75 % of the women are hidden from the diagnosis as well.
# - `erased`: women's consolidations are invisible. No cell can bring them back. Thresholds by group can make the gap
#   smaller, but only by calling more or fewer people ill.
#
# **After this appendix you can**
#
# - say how often a rule that was written before the test finds the best cell;
# - tell an error of the rule from the luck of one training;
# - check whether simultaneous limits hold the true interactions;
# - explain why the best cell can still have a gap.
#
# *Reading: about 15 minutes.* This appendix only reads results. To make them anew, run `python benchmarks/two_stages.py`.
# Each scenario is trained once per seed. The frozen networks read 10,000 fresh patients. Cohorts are drawn from these: 600
# patients for validation, and 600 others for the test.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown

import reconfair as rf
from reconfair import figures, words

SCENARIOS = ["null", "rare", "scarce", "both", "erased"]
path = rf.params.shipped() / "benchmarks" / "results" / "two_stages.csv"
columns = ["scenario", "seed", "reader", "metric", "value"]
# The word null is a scenario here, and no missing value.
kept = pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.exists() else pd.DataFrame(columns=columns)
seeds = kept.groupby("scenario").seed.nunique().reindex(SCENARIOS, fill_value=0)
there = [name for name in SCENARIOS if seeds[name]]
missing = [name for name in SCENARIOS if not seeds[name]]
text = f"Seeds that were run: {', '.join(f'{name} {number}' for name, number in seeds.items())}."
text += f" Not measured yet: {', '.join(missing)}." if missing else ""
text += " A scenario with one seed was trained once; another training may give another answer." * (1 in set(seeds))
Markdown(text)

# %% [markdown]
# ## The true grid
#
# Each panel shows the true EODD of every cell: half the sum of the gaps in TPR and FPR between women and men, over all
# fresh patients, mean over seeds. Columns are what was read, rows are the readers. The column *original* shows what
# the reader brings; the difference to the column *standard* is what the reconstruction adds.
#
# **Predict first:** in which scenario should the columns differ, and in which the rows?

# %%
cells = kept[kept.reader != "rule"].copy()
cells["row"], cells["by"] = (cells.reader.str.split(", ").str[at] for at in (0, 1))
rows, readers = (list(dict.fromkeys(cells[key])) for key in ("row", "by"))
true = cells.pivot_table("value", ["scenario", "row", "by"], "metric", sort=False)


def matrix(metric: str, scenario: str) -> pd.DataFrame:
    """One measure of every cell of a scenario, mean over seeds."""
    return true.loc[scenario][metric].unstack("by").reindex(index=rows, columns=readers)


def draw(metric: str, form: str, scale: float, **style) -> None:
    """Draw one measure of every scenario: readers down, what was read across."""
    _, axes = figures.panels(there or ["nothing is measured yet"], 2.3, 3.6, 5, 2.6, sharey=True)
    for axis, scenario in zip(axes, there, strict=False):
        values = scale * matrix(metric, scenario).T.rename(index=words.name, columns=words.name)
        sns.heatmap(values, ax=axis, annot=True, fmt=form, cbar=False, annot_kws={"size": 8}, **style)
        axis.set(xlabel="what was read", ylabel="reader" if axis is axes[0] else "")
        axis.tick_params(axis="x", rotation=90)
    plt.show()


draw("eodd", ".2f", 1, cmap="cividis_r", vmin=0, vmax=0.35)

# %%
lines = []
for scenario in there:
    gaps = matrix("eodd", scenario)
    text = f"- `{scenario}`: the standard reader brings {gaps.standard['original']:.3f} on originals, and the standard "
    text += f"reconstruction makes that {gaps.standard['standard']:.3f}. "
    eligible = gaps.drop(index=["original", "replicate"]).drop(columns="replicate")
    row, reader = eligible.stack().idxmin()
    text += f"The smallest true gap is {eligible.stack().min():.3f} ({words.name(row)}, read by {words.name(reader)}). "
    luck = gaps.standard["replicate"] - gaps.standard["standard"]
    lines.append(text + f"A second training of the reconstruction alone moves the gap by {luck:+.3f}.")
Markdown("\n".join(lines) or "Not known before the full run.")

# %% [markdown]
# ## What does the rule choose?
#
# The rule takes, among the cells whose AUROC on validation is within 0.02 of the best, the one with the least upper limit of
# EODD. The figure shows the percentage of cohorts in which it takes each cell. It is right if the true gap of its cell is within
# 0.01 of the least true gap among the cells with nearly the best true AUROC.

# %%
draw("chosen", ".0f", 100, cmap="Greys", vmin=0, vmax=100)

# %%
rule = kept[kept.reader == "rule"].pivot_table("value", ["scenario", "seed"], "metric", sort=False)
asked = {"right": "near the best", "winner": "called better", "covered": "limits hold", "shrinkage": "mean shrinkage"}
rule.reindex(columns=[*asked, "cohorts"]).rename(columns=asked).round(3)


# %%
def share(metric: str, *names: str) -> str:
    """A share over the cohorts of some scenarios, with its Monte-Carlo error."""
    some = rule[rule.index.get_level_values(0).isin(names)]
    if some.empty:
        return "not measured yet"
    value, n = np.average(some[metric], weights=some.cohorts), some.cohorts.sum()
    return f"{100 * value:.0f} % of {n:.0f} cohorts (Monte-Carlo error {100 * np.sqrt(value * (1 - value) / n):.1f} points)"


Markdown(
    "\n".join(
        [
            *(f"- The rule is right, `{name}`: {share('right', name)}; aim: at least 80 %." for name in SCENARIOS[1:4]),
            f"- A winner is claimed although nothing differs, `null`: {share('winner', 'null')}; aim: at most 7 %.",
            f"- A cell is called better where the lesions are lost, `erased`: {share('winner', 'erased')}. Thresholds move errors there.",
            f"- Limits hold all true interactions at once: {share('covered', *SCENARIOS)}; aim: at least 93 %.",
        ]
    )
)

# %% [markdown]
# The Monte-Carlo errors hold for these trained networks. Compare the seeds in the table: where they differ by more than
# the error, the training decides and not the rule.
#
# ## What this appendix does not prove
#
# The phantoms differ in one attribute, and the cause of each gap is one that we chose. The networks are small, and the
# cohorts have 600 patients each. The rule may do better with more patients, or worse with more cells to choose from.
#
# ## Three things to take away
#
# 1. Where the gap arises decides which stage can repair it. The column of originals shows that before any strategy is tried.
# 2. A rule can choose well and still not prove a gain: choosing needs an order of cells, a claim needs limits without 0.
# 3. Retraining moves the gap as well. A gain that is smaller than the move of the placebo is no gain.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 1.** In `rare`, why can thresholds by group repair so much? Compare the AUROC of the cells: was information
# missing, or only the right threshold?

# %% [markdown] tags=["exercise"]
# **Exercise 2.** Let the rule use the gap itself in place of its upper limit. Which cells would it prefer, and why is that
# dangerous in small groups?

# %% [markdown] tags=["exercise"]
# **Exercise 3.** In `erased` the gap is large, and no cell brings the lost lesions back. Which sentence would you write
# to the hospital?
