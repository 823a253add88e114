"""The grid of both stages: its products, its tables, and what is refused."""

import os
import runpy

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from smallest import PARAMS, SMALLEST, one_thread

from reconfair import diagnosis, mitigation, params, report, run, store, synthesis, tables, two_stages
from reconfair.params import ParamsError, Reader, Source
from reconfair.report import stages
from reconfair.run import batch, products
from reconfair.words import number

STAGES = [
    "mitigation.strategies=[reweight, eodd]",
    "mitigation.models=[unet]",
    "mitigation.epochs=1",
    "readers={strategies: [oversample], thresholds: min_gap}",
    "two_stages={}",
    "reconstruction.models=[unet]",
    "fairness.min_cases=2",
    "fairness.attributes=[sex]",
    "dataset.split=[0.4, 0.3, 0.3]",
]
NOT_DEMO = ("reconstruction.pix2pix", "reconstruction.sde")


def small(*more):
    smallest = [line for line in SMALLEST["demo"] if not line.startswith(NOT_DEMO)]
    return params.load(PARAMS / "demo.yaml", [*smallest, *STAGES, *more])


def test_rows_and_columns_hold_the_standard_first_and_the_placebo_last():
    study = small()
    assert [str(row) for row in two_stages.rows(study)][2:] == ["unet", "unet-reweight", "unet-eodd", "unet-replicate"]
    columns = ["standard", "oversample", "standard+thresholds", "oversample+thresholds", "replicate"]
    assert two_stages.columns(study) == columns
    chosen = small("two_stages.strategies=[eodd]", "two_stages.readers=[oversample]")
    assert [row.strategy for row in two_stages.rows(chosen)][2:] == ["standard", "eodd", "replicate"]
    assert two_stages.columns(chosen) == ["standard", "oversample", "standard+thresholds", "replicate"]
    readers = small("two_stages.strategies=[standard]")  # interventions at the reader alone
    assert [row.strategy for row in two_stages.rows(readers)][2:] == ["standard", "replicate"]
    without = small("readers={strategies: [oversample]}")  # thresholds by group are a rival, whoever names them
    assert two_stages.columns(without) == ["standard", "oversample", "standard+thresholds", "replicate"]
    segmenter = small("diagnosis.tasks=[tumour]", "readers={strategies: [oversample]}", "synthesis=none")
    assert two_stages.columns(segmenter) == ["standard", "oversample", "replicate"]


def test_other_chapters_do_not_wait_for_the_grid():
    study = small()
    products = run.every_product(study)
    own = [one for one in products if one.chapter == "09"]
    assert any(one.name == "weights" and one.folder.name != "unet-eodd" for one in own)
    for copy in products:
        if copy.folder.name == "chapters" and copy.name < "09":
            assert not {(one.folder, one.name) for one in copy.needs} & {(one.folder, one.name) for one in own}
    assert not {(one.folder, one.name) for one in own} & {(o.folder, o.name) for o in products if o.chapter < "09"}
    assert "09_two_stages" in run.chapters(study)
    for without in ("two_stages=none", "readers=none", "mitigation=none"):  # nothing meets there
        assert "09_two_stages" not in run.chapters(small(without))


def test_a_matched_reconstructor_sees_the_reader_of_its_cell():
    study = small("two_stages.against=matched")
    reweighted, seeing = (two_stages.cell(study, Source("unet", word), "oversample") for word in ("reweight", "eodd"))
    assert reweighted.folder.parts[-3] == "unet-reweight" and seeing.folder.parts[-3] == "unet-eodd~oversample"
    trained = next(need for need in two_stages._before(seeing) if need.folder.name == "unet-eodd~oversample")
    assert any(need.folder.name == "grade-oversample" for need in trained.needs)


def test_a_matched_penalty_sees_the_reader_of_its_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    few = ["dataset.patients=60", "diagnosis.tasks=[grade]", "mitigation.strategies=[eodd]", "mitigation.lr_factor=1"]
    study, source = small(*few, "two_stages.against=matched"), Source("unet", "eodd")

    def tuned(against: str, folder: str) -> torch.Tensor:
        """Weights of the last layer after fine-tuning against the readers of a strategy."""
        product = mitigation.weights(study, source, against)
        for need in product.needs:
            store.make(need)
        (tmp_path / folder).mkdir()
        product.write(tmp_path / folder)
        return torch.load(tmp_path / folder / "best.ckpt", weights_only=True)["state_dict"]["net.last.weight"]

    with one_thread():
        standard, matched = tuned("standard", "a"), tuned("oversample", "b")
        assert (matched - standard).abs().max() > 1e-6
        load, thresholds = diagnosis.load, diagnosis.thresholds  # now the reader of the cell is the standard one
        monkeypatch.setattr(diagnosis, "load", lambda study, network, strategy: load(study, network))
        monkeypatch.setattr(diagnosis, "thresholds", lambda study, strategy: thresholds(study))
        assert torch.equal(tuned("oversample", "c"), standard)


def test_readers_of_generators_are_columns_where_they_are_named():
    made = ["synthesis.baselines=[cbrs, sqrs]", "two_stages.readers=[oversample, fairgen, cbrs]"]
    study = small(*made)
    assert {*two_stages.columns(study)} == {
        "standard",
        "oversample",
        "standard+thresholds",
        "cbrs",
        "fairgen",
        "replicate",
    }
    assert "fairgen" not in two_stages.columns(small())
    cell = two_stages.cell(study, Source("unet", "eodd"), "fairgen")
    (network,) = study.networks_of("fairgen")
    assert synthesis.reader_weights(study, Reader(network, "fairgen")) in cell.needs
    own = {(one.folder, one.name) for one in two_stages.products(study)}
    assert (cell.folder, cell.name) in own
    assert not own & {(one.folder, one.name) for one in synthesis.products(study)}  # chapter 08 makes its readers


SMALL_GRID = ["dataset.patients=120", "mitigation.strategies=[reweight]", "two_stages.readers=[oversample]"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A small study run to the end of chapter 09."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("RECONFAIR_OUTPUTS", str(tmp_path_factory.mktemp("grid")))
        study = small(*SMALL_GRID)
        yield study, two_stages.read(study)


def test_the_chapter_makes_its_own_products_however_long_that_takes(grid, monkeypatch):
    """The placebos of a large study take more than the patience of those who only look at results."""
    study, results = grid
    monkeypatch.setattr(store, "PATIENCE", 0)
    own = two_stages.products(study)
    assert own[-1] == two_stages.product(study) and {made.chapter for made in own} == {"09"}
    for made in own:
        made.stamp.unlink()
    assert two_stages.read(study).grid.equals(results.grid)


def test_every_cell_is_there_on_both_splits(grid):
    _, results = grid
    cells = results.grid[(results.grid.task == "grade") & (results.grid.split == "test")]
    rows = {"original", "noisy", "standard", "reweight", "replicate"}
    assert {*cells["row"]} == rows and {*cells.reader} == {"standard", "oversample", "standard+thresholds", "replicate"}
    assert len(cells) == 20 and {*results.grid.split} == {"val", "test"}
    assert cells.gap_low.le(cells.gap).all() and cells.gap.le(cells.gap_high).all()


def test_the_placebos_are_other_trainings(grid):
    study, _ = grid
    answers = two_stages.predictions(study)
    scores = answers[answers.task == "grade"].pivot_table("score", "unit", ["source", "strategy", "reader"])
    of = scores["unet"]
    assert (of["replicate", "standard"] - of["standard", "standard"]).abs().max() > 1e-6
    assert (of["standard", "replicate"] - of["standard", "standard"]).abs().max() > 1e-6
    again = tables.read("predictions", store.make(two_stages.cell(study, Source("unet"), "standard")))
    first = again[again.task == "grade"].set_index("unit").score
    assert (first - of["standard", "standard"]).abs().max() == 0


def test_a_decision_is_made_on_validation_and_looked_at_on_test(grid):
    _, results = grid
    assert {*results.decisions.verdict} <= {"standard", "better", "not shown"} and len(results.decisions)
    row = results.decisions.iloc[0]
    of = results.grid[(results.grid.task == row.task) & (results.grid.attribute == row.attribute)]
    of = of.set_index(["split", "row", "reader"])
    assert row.gap == of.gap["test", row["row"], row.reader]
    assert row.gap_validation == of.gap["val", row["row"], row.reader]
    assert "replicate" not in (row["row"], row.reader)


@pytest.mark.slow
def test_seeds_tell_the_variance_of_trainings_from_that_of_patients(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    study = small(*SMALL_GRID, "two_stages.seeds=[1]")
    results = two_stages.read(study)
    cells = results.replicates[results.replicates.task == "grade"]
    assert (
        (cells.seeds == 2).all() and cells.share_seeds.dropna().between(0, 1).all() and (cells.sd_patients >= 0).all()
    )
    assert (cells.sd_seeds > 0).any() and {*cells.metric} == {"gap", "performance", "gap_change", "added"}
    for table in (results.grid, results.effects):  # every table says it
        shares = table[table.split == "test"].set_index("task")
        assert (shares.seeds == 2).all() and shares.share_seeds["grade"].between(0, 1).any()
    assert (results.decisions.seeds == 2).all()
    runs = report.gather(study)
    both = report.summary(runs)
    assert "between 2 trainings" in both["both stages"] and "between 2 trainings" in both["how sure"]
    assert all("2 trainings" in line for line in two_stages.sentences(results))
    assert stages.grid_decisions(runs).trainings.str.startswith("2 trainings").all()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["two_stages.strategies=[adv]"], ["two_stages.strategies", "adv", "eodd"]),
        (["two_stages.strategies=[rewieght]"], ["two_stages.strategies", "rewieght", "'reweight'"]),
        (["mitigation.strategies=[thresholds]"], ["two_stages", "mitigation.strategies", "reweight"]),
        (["two_stages.seeds=1"], ["two_stages.seeds", "[1]"]),
        (["two_stages.readers=[dro]"], ["two_stages.readers", "dro", "oversample"]),
        (["two_stages.readers=[fairgin]"], ["two_stages.readers", "fairgin", "fairgen"]),
        (["two_stages.readers=[fairgen]", "synthesis=none"], ["two_stages.readers", "fairgen", "oversample"]),
        (["two_stages.model=unett"], ["two_stages.model", "unett", "unet"]),
        (["two_stages.against=match"], ["two_stages.against", "match"]),
        (["two_stages.rule=upper"], ["two_stages.rule", "upper", "upper_limit"]),
        (["two_stages.margin=-0.1"], ["two_stages.margin", "-0.1"]),
    ],
)
def test_what_the_study_does_not_make_is_refused(lines, words):
    with pytest.raises(ParamsError) as caught:
        small(*lines)
    assert all(word in str(caught.value) for word in words)


def test_a_grid_without_one_stage_names_the_section_that_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    for lines, section in (
        (["mitigation=none"], "mitigation"),
        (["readers=none"], "readers"),
        (["two_stages=none"], "two_stages"),
        (["noise=none"], "noise"),
    ):
        study = small(*lines)
        with pytest.raises(ParamsError, match=f"--only 09.* needs {section};"):
            run.chosen(study, "09")
        remarks = [line for line in products.remarks(study) if "09" in line]
        assert len(remarks) == (section != "two_stages") and all(section in line for line in remarks)
    assert products.remarks(small()) == []
    assert run.main(["check", str(PARAMS / "demo.yaml"), "--set", "mitigation=none"]) == 0
    assert "two_stages needs mitigation" in capsys.readouterr().out


def test_a_large_grid_says_its_cost_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    (mistake,) = two_stages.check(small("two_stages.max_cells=10"))
    assert "4 x 5 = 20" in mistake and "two_stages.max_cells" in mistake and "trainings" in mistake
    assert two_stages.check(small()) == [] == two_stages.check(small("two_stages=none"))
    (mistake,) = two_stages.check(small("two_stages.seeds=[0, 1]"))  # 0 is the study's own
    assert "two_stages.seeds" in mistake and "0" in mistake
    (mistake,) = two_stages.check(small("two_stages.seeds=[7]", "readers.seed=7"))
    assert "two_stages.seeds" in mistake and "readers.seed" in mistake and "7" in mistake
    assert two_stages.check(small("two_stages.seeds=[0]", *(f"{name}.seed=7" for name in TRAINED))) == []


TRAINED = ("reconstruction", "diagnosis", "mitigation", "readers", "synthesis")


def test_a_replicate_is_trained_with_the_seed_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    study = small("two_stages.seeds=[3]", *(f"{name}.seed=7" for name in TRAINED))
    (other,) = two_stages.replicates(study)
    assert {getattr(other, name).seed for name in TRAINED} == {3} and other.dataset.seed == study.dataset.seed
    placebo = two_stages.cell(study, Source("unet", "replicate"), "standard")
    assert placebo.run.endswith("-seed-8")


def test_a_batch_has_a_job_for_each_part_of_the_grid_that_makes_that_part_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    study = small("two_stages={seeds: [1], readers: [oversample, fairgen]}")
    jobs = batch.jobs({PARAMS / "demo.yaml": study})
    commands = [job.command(1) for job in jobs.values()]
    assert len(set(commands)) == len(commands)
    chapter = [product for product in run.every_product(study) if product.chapter == "09"]
    grid = {name: job for name, job in jobs.items() if job.notebook[:2] == "09" and job.part}
    assert {"phantom_mri/x8/09.unet", "phantom_mri/x8-seed-1/09.unet", "phantom_mri/x8/09.unet-eodd"} <= grid.keys()
    assert all(job.gpu for job in grid.values())  # they train, or read with a network
    made = []
    monkeypatch.setattr(store, "make", lambda product: made.append(product.key))
    for job in grid.values():
        made.clear()
        assert run.make_part(chapter, job.part, lambda line: None) == "ran" and made == list(job.products)
    waits = batch.waits(jobs)
    assert not {"phantom_mri/x8/09.unet-reweight", "phantom_mri/x8/09.unet-eodd"} & {
        other for name in grid for other in waits[name] if name.startswith("phantom_mri/x8/")
    }  # side by side
    with pytest.raises(ParamsError, match=r"x8-seed-1/unett.*x8-seed-1/unet"):
        run.make_part(chapter, "phantom_mri/x8-seed-1/unett")


def test_a_dry_run_names_the_cost_of_every_cell_and_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    settings = [line for line in SMALLEST["demo"] if not line.startswith(NOT_DEMO)] + STAGES
    changes = [word for line in (*settings, "two_stages.seeds=[1]") for word in ("--set", line)]
    assert run.main(["run", "--dry-run", str(PARAMS / "demo.yaml"), "--only", "09", *changes]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    costs = {(line[0], line[1]) for line in lines if len(line) > 2}
    assert ("phantom_mri/x8", "sources/unet-eodd/readers/oversample/predictions") in costs  # a cell
    assert ("phantom_mri/x8", "readers/grade-replicate/weights") in costs  # placebos
    assert ("phantom_mri/x8-seed-1", "sources/unet/weights") in costs
    assert ("phantom_mri/x8", "judged/two_stages/grid") in costs
    assert ("phantom_mri-seed-1/x8-seed-1", "sources/unet-reweight/weights") in costs  # a replicate


def test_the_rule_and_its_margin_are_those_of_the_params(grid):
    study, results = grid
    cells = results.grid[(results.grid.task == "grade") & (results.grid.attribute == "sex")]
    val, test = (cells[cells.split == split].copy() for split in ("val", "test"))
    own = val["row"].isin(["standard", "reweight"]) & (val.reader != "replicate")
    val["performance"], val["gap"], val["gap_high"] = 0.8, 0.3, 0.5
    first, second = val.index[own & (val["row"] == "reweight")][:2]
    val.loc[first, "gap_high"], val.loc[second, "gap"] = 0.4, 0.1
    for rule, at in (("upper_limit", first), ("estimate", second)):
        ruled = small(*SMALL_GRID, f"two_stages.rule={rule}")
        (decision,) = two_stages.decide(ruled, val, test).itertuples()
        assert (decision.row, decision.reader) == tuple(val.loc[at, ["row", "reader"]])
    test["gap"], test["gap_change_high"] = 0.5, -0.05
    test.loc[(test["row"] == "reweight") & (test.reader == val.reader[first]), "gap"] = 0.2
    for margin, verdict in ((0.0, "better"), (0.1, "not shown")):
        ruled = small(*SMALL_GRID, f"two_stages.margin={margin}")
        assert two_stages.decide(ruled, val, test).verdict.item() == verdict
    before = two_stages.product(study).fingerprint
    assert two_stages.product(small(*SMALL_GRID, "two_stages.margin=0.1")).fingerprint != before
    looking = two_stages.check(small("two_stages.against=matched", "readers.strategies=[cascade]"))
    assert any("cascade" in mistake for mistake in looking)


def test_a_grid_of_groups_that_are_too_small_is_empty_and_no_error(grid):
    with one_thread():
        results = two_stages.read(small(*SMALL_GRID, "fairness.min_cases=1000", "two_stages.margin=0.01"))
    assert all(table.empty for table in results) and two_stages.sentences(results) == []
    assert list(results.grid) == list(tables.SCHEMAS["grid"])
    assert not two_stages.read(small(*SMALL_GRID)).grid.empty  # as the other tests expect it


def test_tables_of_the_grid_have_their_schema(grid):
    for name, table in zip(two_stages.NAMES, grid[1], strict=True):
        assert list(table) == list(tables.SCHEMAS[name]) and isinstance(table, pd.DataFrame)


@pytest.mark.parametrize("verdict", ["standard", "better", "not shown"])
def test_sentences_carry_the_limits_of_the_chosen_cell(grid, verdict):
    _, results = grid
    where = ("standard", "standard") if verdict == "standard" else ("reweight", "oversample")
    first = results.decisions[results.decisions.task == "grade"].head(1).assign(verdict=verdict, best_rival="")
    first[["row", "reader"]] = where
    (text,) = two_stages.sentences(results._replace(decisions=first))
    cells = results.grid[results.grid.split == "test"].set_index(["task", "row", "reader"])
    cell = cells.loc[("grade", *where)]
    wanted = ["gap"] if verdict == "standard" else ["gap_change", "change"]
    for word in wanted:
        assert (
            f"({number(cell[f'{word}_low'], sign=word != 'gap')} to {number(cell[f'{word}_high'], sign=word != 'gap')})"
            in text
        )
    assert text.startswith("grade, Sex: ") and ("intervene" in text) == (verdict == "better")


def test_the_report_shows_the_grid_and_says_that_networks_were_trained_once(grid):
    study, results = grid
    with one_thread():
        runs = report.gather(study)
    answer = report.summary(runs)["both stages"]
    assert "trained once" in answer and two_stages.sentences(results)[0] in answer
    counts = results.decisions.verdict.value_counts()
    assert f"of {len(results.decisions)} choices, {counts.get('better', 0)} better" in answer
    assert isinstance(stages.grid_cells(runs), Figure) and isinstance(stages.grid_front(runs), Figure)
    table = stages.grid_decisions(runs)
    assert (table.trainings == "one training").all() and "trained once" in report.summary(runs)["how sure"]
    assert all("one training" in line for line in two_stages.sentences(results))
    assert (results.grid[results.grid.split == "test"].seeds == 1).all() and results.grid.share_seeds.isna().all()
    assert len(table) == len(results.decisions) and table.verdict.tolist() == results.decisions.verdict.tolist()
    without = report.Runs(runs.studies, runs.performance, runs.fairness)
    assert stages.grid_cells(without) == stages.NO_GRID == stages.grid_decisions(without)
    widest = stages.widest(runs)
    assert widest.groupby(["task", "attribute"]).ngroups == 1 and len(widest) in (
        15,
        20,
    )  # a segmenter has no thresholds


# --- the benchmark ---


@pytest.fixture(scope="module")
def benchmark():
    """Names of benchmarks/two_stages.py."""
    folder = PARAMS.parent / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_PROGRESS", os.devnull)
        patch.syspath_prepend(folder)
        yield runpy.run_path(str(folder / "two_stages.py"))


def pool_of_eight():
    """Four women and four men, half of them ill, read in the four corners of a grid, and by a placebo."""
    people = pd.DataFrame({"sex": ["female"] * 4 + ["male"] * 4, "consolidation": [1.0, 1.0, 0.0, 0.0] * 2})
    called = {
        ("standard", "standard"): [0, 0, 0, 0, 1, 1, 0, 0],
        ("standard", "oversample"): [1, 0, 0, 0, 1, 1, 0, 0],
        ("reweight", "standard"): [1, 0, 1, 0, 1, 1, 0, 0],
        ("reweight", "oversample"): [1, 1, 0, 0, 1, 1, 0, 0],
        ("replicate", "standard"): [1, 1, 0, 0, 1, 1, 0, 0],
    }
    return people, pd.DataFrame(called) * 0.9, {"standard": 0.5, "oversample": 0.8}


def test_the_truth_of_a_cell_is_counted(benchmark):
    people, scores, cuts = pool_of_eight()
    cells = benchmark["true_cells"](people, scores, cuts)
    assert cells.eodd.tolist() == pytest.approx([0.5, 0.25, 0.5, 0.0, 0.0])
    assert cells.auroc["reweight", "oversample"] == 1 and cells.auroc["standard", "standard"] == 0.75
    assert benchmark["best"](cells, 0.02) == 0
    without = cells.drop(index=("reweight", "oversample"))  # the placebo does not count
    assert benchmark["best"](without, 0.02) == pytest.approx(0.25) == benchmark["best"](without, 1.0)
    assert benchmark["best"](without.assign(auroc=[0.9, 0.7, 0.7, 0.9]), 0.02) == pytest.approx(0.5)


def test_limits_must_hold_every_true_interaction(benchmark):
    people, scores, cuts = pool_of_eight()
    rates = benchmark["true_rates"](people, scores, cuts)  # women: TPR 1 - 1/2 - 1/2 + 0, FPR 0 - 0 - 1/2 + 0
    limits = [("tpr", "female", -0.1, 0.1), ("fpr", "female", -0.6, -0.4), ("tpr", "male", -0.1, 0.1)]
    effects = pd.DataFrame(limits, columns=["metric", "group", "low", "high"])
    effects = effects.assign(effect="interaction", row="reweight", reader="oversample")
    assert benchmark["holds"](effects, rates)
    for row in range(3):
        moved = effects.copy()
        moved.loc[row, ["low", "high"]] += 0.3
        assert not benchmark["holds"](moved, rates)
        assert benchmark["holds"](moved.assign(effect=np.where(moved.index == row, "change", "interaction")), rates)


def test_shares_are_over_all_cohorts_with_their_error(benchmark, tmp_path):
    units = [("null", 1, 0.0, 0.1, 1.0, 100), ("null", 2, 0.0, 0.3, 0.9, 300), ("rare", 1, 0.8, 0.5, 0.95, 100)]
    rows = []
    for scenario, seed, *values in units:
        for metric, value in zip(("right", "winner", "covered", "cohorts"), values, strict=True):
            rows.append((scenario, seed, "rule", metric, value))
        rows.append((scenario, seed, "rule", "trainings", 7))
    path = tmp_path / "two_stages.csv"
    pd.DataFrame(rows, columns=["scenario", "seed", "reader", "metric", "value"]).to_csv(path, index=False)
    lines = benchmark["summary"](benchmark["kept"](path))
    assert lines["null_winners"] == pytest.approx((0.25, (0.25 * 0.75 / 400) ** 0.5))
    assert lines["rule_right_rare"] == pytest.approx((0.8, 0.04)) and "rule_right_both" not in lines
    assert lines["interaction_coverage"][0] == pytest.approx(0.93)
    assert lines["trainings"][0] == 21 and lines["cohorts"][0] == 500


def test_every_scenario_is_a_study_with_both_placebos(benchmark):
    for scenario in benchmark["DIALS"]:
        study = benchmark["study"](scenario, 1, benchmark["FULL"])
        names = [row.strategy for row in two_stages.rows(study)[2:]]
        assert names == ["standard", "reweight", "reweight+eodd", "replicate"]
        assert two_stages.columns(study)[-1] == "replicate" and two_stages.check(study) == []
        assert study.dataset.null == (scenario == "null")


@pytest.mark.slow
def test_a_finished_unit_of_the_benchmark_is_not_computed_again(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    path = tmp_path / "two_stages.csv"
    with one_thread():
        benchmark["run"](["null"], benchmark["QUICK"], path)
    first, _ = path.read_text(), capsys.readouterr()
    benchmark["run"](["null"], benchmark["QUICK"], path)
    assert path.read_text() == first and "null_winners=" in capsys.readouterr().out
