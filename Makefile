.DEFAULT_GOAL := help
PYTHON ?= python3
PARAMS ?= params/demo.yaml
CORES ?= all
BIN := .venv/bin
READY := .venv/ready

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## the environment in .venv, with all that tests and benchmarks need

# uv installs torch and torchvision from one source; compiled bytecode makes every later import faster.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable '.[test,bench,workflow,weights,dicom,onnx,book]'
	@touch $(READY)

demo: $(READY)  ## run the study of params/demo.yaml through all notebooks
	$(BIN)/reconfair run params/demo.yaml

run: $(READY)  ## run PARAMS=params/<file>.yaml (several in quotes)
	$(BIN)/reconfair run $(PARAMS)

batch: $(READY)  ## run PARAMS="params/phantom_*.yaml" side by side on CORES=8
	$(BIN)/snakemake -s workflow/Snakefile --cores $(CORES) --config params="$(PARAMS)"

test: $(READY)  ## run the tests, but for the slow and rarely touched ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: $(READY)  ## run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# In an environment of its own; `-W default` because old versions warn about each other. It is a large download.
lowest:  ## test with the lowest versions that pyproject.toml allows, in .lowest
	$(PYTHON) -m venv .lowest
	.lowest/bin/python -m pip install --quiet uv
	.lowest/bin/uv pip compile --quiet --resolution lowest-direct pyproject.toml --output-file .lowest/versions.txt
	.lowest/bin/uv pip install --quiet --python .lowest/bin/python --requirement .lowest/versions.txt --editable . fairlearn openpyxl psutil pytest pytest-timeout scikit-learn
	OMP_NUM_THREADS=1 .lowest/bin/python -m pytest -W default -m "not slow" tests/test_params.py tests/test_tables.py tests/test_quality.py tests/test_figures.py tests/test_exercises.py
	RECONFAIR_OUTPUTS=.lowest/outputs .lowest/bin/reconfair run params/class.yaml

lint: $(READY)  ## check style, and that notebooks and scripts agree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python -m reconfair.run pairs

# Asks a public database, so it needs a network connection.
audit: $(READY)  ## list known weaknesses of the pinned libraries
	$(BIN)/uvx pip-audit --requirement constraints.txt --no-deps

sync: $(READY)  ## write each notebook's .ipynb from its .py
	$(BIN)/python -m reconfair.run pairs --write

# The second run only draws the reports anew, each now with all levels.
gallery: $(READY)  ## run the phantom study at three noise levels, and the appendices, into outputs/gallery
	$(BIN)/papermill --log-level ERROR notebooks/A1_calibration.ipynb outputs/gallery/A1_calibration.ipynb
	$(BIN)/papermill --log-level ERROR notebooks/A2_mitigation.ipynb outputs/gallery/A2_mitigation.ipynb
	$(BIN)/papermill --log-level ERROR notebooks/A3_readers.ipynb outputs/gallery/A3_readers.ipynb
	$(BIN)/papermill --log-level ERROR notebooks/A4_synthesis.ipynb outputs/gallery/A4_synthesis.ipynb
	$(BIN)/papermill --log-level ERROR notebooks/A5_two_stages.ipynb outputs/gallery/A5_two_stages.ipynb
	RECONFAIR_OUTPUTS=outputs/gallery $(BIN)/reconfair run params/gallery_1e4.yaml --until 02
	RECONFAIR_OUTPUTS=outputs/gallery $(BIN)/reconfair run params/gallery_x4.yaml params/gallery_x8.yaml params/gallery_x16.yaml
	RECONFAIR_OUTPUTS=outputs/gallery $(BIN)/reconfair run params/gallery_x4.yaml params/gallery_x8.yaml params/gallery_x16.yaml

exercises: $(READY)  ## write the chapters for a class, with and without solutions, into outputs/exercises
	$(BIN)/reconfair exercises outputs/exercises

book: $(READY)  ## build the reading edition as a site that opens from disk: outputs/book/html/index.html
	$(BIN)/python docs/book.py

clean:  ## remove what runs wrote (not the gallery) and the environment
	find outputs -mindepth 1 -maxdepth 1 ! -name gallery -exec rm -rf {} + 2>/dev/null || true
	rm -rf .venv .lowest build dist .pytest_cache .ruff_cache *.egg-info

.PHONY: help setup demo run batch test test-all lowest lint audit sync gallery exercises book clean
