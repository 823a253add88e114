"""The grid of both stages: its products, its tables, and what is refused."""

import pandas as pd
import pytest
from smallest import PARAMS, SMALLEST, one_thread

from reconfair import params, run, store, tables, two_stages
from reconfair.params import ParamsError, Source

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
    assert two_stages.columns(chosen) == ["standard", "oversample", "replicate"]


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


SMALL_GRID = ["dataset.patients=120", "mitigation.strategies=[reweight]", "two_stages.readers=[oversample]"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A small study run to the end of chapter 09."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("RECONFAIR_OUTPUTS", str(tmp_path_factory.mktemp("grid")))
        study = small(*SMALL_GRID)
        yield study, two_stages.read(study)


def test_every_cell_is_there_on_both_splits(grid):
    _, results = grid
    cells = results.grid[(results.grid.task == "grade") & (results.grid.split == "test")]
    rows = {"original", "noisy", "standard", "reweight", "replicate"}
    assert {*cells["row"]} == rows and {*cells.reader} == {"standard", "oversample", "replicate"}
    assert len(cells) == 15 and {*results.grid.split} == {"val", "test"}
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
    results = two_stages.read(small(*SMALL_GRID, "two_stages.seeds=[1]"))
    cells = results.replicates[results.replicates.task == "grade"]
    assert (
        (cells.seeds == 2).all() and cells.share_seeds.dropna().between(0, 1).all() and (cells.sd_patients >= 0).all()
    )
    assert (cells.sd_seeds > 0).any()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["two_stages.strategies=[adv]"], ["two_stages.strategies", "adv", "eodd"]),
        (["two_stages.readers=[dro]"], ["two_stages.readers", "dro", "oversample"]),
        (["two_stages.model=unett"], ["two_stages.model", "unett", "unet"]),
        (["two_stages.against=match"], ["two_stages.against", "match"]),
    ],
)
def test_what_the_study_does_not_make_is_refused(lines, words):
    with pytest.raises(ParamsError) as caught:
        small(*lines)
    assert all(word in str(caught.value) for word in words)


def test_a_large_grid_says_its_cost_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    (mistake,) = two_stages.check(small("two_stages.max_cells=10"))
    assert "4 x 5 = 20" in mistake and "two_stages.max_cells" in mistake and "trainings" in mistake
    assert two_stages.check(small()) == [] == two_stages.check(small("two_stages=none"))
    looking = two_stages.check(small("two_stages.against=matched", "readers.strategies=[cascade]"))
    assert any("cascade" in mistake for mistake in looking)


def test_tables_of_the_grid_have_their_schema(grid):
    for name, table in zip(two_stages.NAMES, grid[1], strict=True):
        assert list(table) == list(tables.SCHEMAS[name]) and isinstance(table, pd.DataFrame)
