# geomadv: `make` prints what there is to make.

PYTHON  ?= python3
VENV    ?= .venv
NETWORK ?= digits-cnn
RESULTS ?= results
# of `make paper`: a number, or auto (two where there are two cores and no GPU)
PROCESSES ?= auto

BIN   := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup paper figures test coverage faults kills search mutants lint types format bench bench-gpu lock lowest dist docs gallery clean

help:  ## print these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(READY)  ## create the virtual environment with pinned packages

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

paper: $(READY)  ## run all experiments and figures: make paper [NETWORK=lenet-mnist FLAGS="--curvature.preset default"]
	$(BIN)/geomadv paper --network $(NETWORK) --results $(RESULTS) --processes $(PROCESSES) $(FLAGS)

figures: $(READY)  ## redraw all figures of NETWORK from its result files
	$(BIN)/geomadv figures $(RESULTS)/$(NETWORK)

test: $(READY)  ## run the tests, a file per core (real data: GEOMADV_DATA)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

coverage: $(READY)  ## run the tests and say which lines and branches of geomadv none of them takes
	$(BIN)/python -m pip install --quiet "coverage>=7.10"
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest --numprocesses auto --dist loadfile $(FLAGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

faults: $(READY)  ## damage everything that is read, 10,000 times: make faults [FLAGS="--seed 1"]
	cd tests && PYTHONPATH=.. $(abspath $(BIN))/python -m faults $(FLAGS)

kills: $(READY)  ## kill every command at random moments, and run on small disks: make kills [FLAGS="--only paper"]
	cd tests && OMP_NUM_THREADS=1 PYTHONPATH=.. $(abspath $(BIN))/python -m faults.kills $(FLAGS)

search: $(READY)  ## run the property tests (hypothesis) with draws that no run has seen
	$(BIN)/python -m pytest -q --hypothesis-profile=search $$(grep -rl "^from hypothesis.*given" tests)

mutants: $(READY)  ## put faults into a copy, one by one, and count those that tests catch: make mutants [FLAGS="--only linalg"]
	cd tests && OMP_NUM_THREADS=1 PYTHONPATH=.. $(abspath $(BIN))/python -m planted $(FLAGS)

lint: $(READY)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## check types
	$(BIN)/mypy
	$(BIN)/mypy figures

format: $(READY)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## run the benchmarks that need no peers; see benchmarks/README.md for the others
	$(BIN)/python benchmarks/svd.py

bench-gpu: $(READY)  ## throughput on a GPU beside the limit of the card
	$(BIN)/python benchmarks/gpu.py $(FLAGS)

docs: $(VENV)/.docs  ## build the documentation, site/index.html; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.docs: $(READY) docs/requirements.lock
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --requirement docs/requirements.lock
	touch $(VENV)/.docs

gallery: $(READY)  ## make the pictures of the documentation anew (MNIST: GEOMADV_DATA, else downloaded)
	$(BIN)/geomadv paper --results $(RESULTS) --processes $(PROCESSES)
	$(BIN)/geomadv paper --network lenet-mnist --quick --results $(RESULTS)/quick
	$(BIN)/geomadv paper --network mnist-convsmall-robust-eps0.1 --quick --results $(RESULTS)/quick
	$(BIN)/python docs/gallery.py $(RESULTS)/digits-cnn $(RESULTS)/quick/lenet-mnist \
		$(RESULTS)/quick/mnist-convsmall-robust-eps0.1

# Tests that touch every dependency, in some minutes.
FAST := $(addprefix tests/,results test_cli.py test_doors.py $(addsuffix .py,plotting/test_plotting \
	perturbations/test_deepfool boundary/test_boundary classifier/test_classifier linalg/test_linalg_svd \
	linalg/test_linalg_eigen images/test_images images/test_images_formats claims/test_claims \
	experiments/test_schemas curvature/test_curvature_principal))

lowest:  ## run fast tests with the lowest versions that pyproject.toml admits
	$(PYTHON) -m venv $(VENV)-lowest
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], \
		sep='\n')" | sed 's/>=/==/' > $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint $(VENV)-lowest/lowest.txt \
		. pytest pytest-timeout hypothesis
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest $(FAST)

dist: $(READY)  ## build wheel and sdist twice in dist/, compare them, check what they say of themselves
	rm -rf dist
	$(BIN)/python -m pip install --quiet twine
	set -e; for folder in dist dist/again; do $(BIN)/python -m hatchling build --directory $$folder; done
	set -e; for file in dist/geomadv-*; do cmp $$file dist/again/$$(basename $$file); done
	rm -r dist/again
	$(BIN)/python -m twine check --strict dist/*

lock: $(READY)  ## pin what the environment holds now
	( sed -n '/^#/p' requirements.lock; \
	  $(BIN)/python -m pip freeze --exclude geomadv --exclude-editable | sed 's/+cpu//' \
	  | grep -vxFf docs/requirements.lock ) > lock.tmp
	mv lock.tmp requirements.lock

clean:  ## remove the virtual environment and caches, not the results
	rm -rf $(VENV) $(VENV)-lowest site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
