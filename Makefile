# Commands of the project; `make help` lists them. They install what they need into .venv. No parameter of the design is in this file.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
CORES   = $(or $(JOBS),$(shell nproc))

# Values reach the scripts through the environment, so that no shell splits them.
export TEST SIM SEED WAVES IMAGES CONFIG NET FAILURE RUNS N JOBS TESTS BUG BENCH BLOCK WEIGHTS DATA EPOCHS PAGE CAMPAIGN NETWORK SCHEME RATIO FORMAT FRESH BUILD SHAPE SKIP HISTORY IMPORT ASK BIN GOOD KNOBS FARM FARM_OPTIONS RESUME MERGE

# What tools keep between two runs, and the site. With BUILD they too are elsewhere than the checkout.
OUT   := $(or $(BUILD),build)
CACHE := $(OUT)/cache
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
PYTEST := $(PY) -m pytest -o cache_dir=$(abspath $(CACHE))/pytest

# The names that were given to this make. A command refuses a name that it does not read.
export MAKE_GIVEN := $(if $(filter 1,$(words $(MAKECMDGOALS))),$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))

.PHONY: help sim inspect replay bisect shrink list check test regress worker bugs testplan coverage rank close history pages bench ppa compress results docs lint train clean

help:
	@echo 'make sim     run one test on the RTL; ends with RESULT {json}'
	@echo '             TEST=digits  SIM=verilator|icarus  SEED=1  CONFIG=16x8  IMAGES=n  WAVES=1 (keeps a wave file)'
	@echo '             TEST=random  KNOBS=layer=add,packing=tight,reused=1,streamed=1 (what its program has more of);  TEST=resnet20  WEIGHTS=network.npz|state_dict  DATA=cifar-10-batches-py (random without);  TEST=network  WEIGHTS=network.npz;  FORMAT=xor (of the rows of slots);  TEST=systems|zoo  JOBS=n (at a time; default: the number of cores)'
	@echo '             TEST=network  WEIGHTS=model.tflite|model.onnx|model.pt2  DATA=images.npy|images.npz|cifar-10-batches-py (random without)  SCHEME=tight_pass RATIO=4  SHAPE=3,224,224 (of an open input)  SKIP=LRN (an operator of .onnx to do without)'
	@echo 'make inspect  a .tflite, .onnx, .pt2 or network.npz file layer by layer: shapes, scales, lanes and cycles, and what is not supported; runs nothing; ends with INSPECT {json}'
	@echo '             WEIGHTS=file  CONFIG=16x16  SCHEME=tight_pass RATIO=4 (default: each weight in a slot of its own)  SHAPE=3,224,224  SKIP=LRN'
	@echo 'make replay  run a failure again with probes, to find the first wrong value inside, and keep waves; FAILURE=folder below build/failures/'
	@echo 'make bisect  find the commit that made a failure: its run, repeated at one commit after the other; FAILURE=folder  GOOD=commit at which it passes (default: goes back until one is found); ends with BISECT {json}'
	@echo 'make shrink  make a failure of a network small: fewer layers, filters, pixels and weights, as long as it fails in the same way; FAILURE=folder  N=150 (the most simulations); ends with SHRINK {json}'
	@echo 'make list    list the tests, the configurations and the compression schemes'
	@echo 'make check   lint, the quick tests of the model, one small simulation; use it while you work'
	@echo 'make test    run all tests, on both simulators; JOBS=n in parallel (default: the number of cores)'
	@echo 'make regress run many seeds of many tests in parallel; ends with REGRESS {json}'
	@echo '             N=20 (seeds)  TESTS=glob,glob  SIM=verilator|icarus  CONFIG=name (default: all in turn)  SEED=1 (the first)  JOBS=n'
	@echo '             FARM=local|slurm|lsf|pbs|sge|tcp://host:port (a Dask scheduler) does the runs, with JOBS=n workers; for make coverage, bugs and results, too  FARM_OPTIONS="queue=short cores=4 memory=8GB"  RESUME=build/regress/folder (does the runs that one that was stopped lacks)'
	@echo '             HISTORY=url of the database that keeps the runs (default: SQLite in build/history.db), as for make coverage'
	@echo 'make worker  workers for FARM=tcp://host:port on this machine, JOBS=n of them (default: the number of cores); they end with their scheduler'
	@echo 'make history all runs so far; ends with HISTORY {json}'
	@echo '             ASK=failures (since when; new, known or fixed)|flaky|slow|coverage  IMPORT=folder (takes the records of other machines in first)  HISTORY=url  N=20 (rows)'
	@echo 'make pages   pages about all runs so far, to be read without a server: failures with their waves, coverage, testplan; and a summary.md for a comment; ends with PAGES {json}'
	@echo '             N=50 (the last regressions that have a page)  HISTORY=url'
	@echo 'make bugs    plant the bugs of tb/bugs.yaml in copies of the RTL; the tests must catch all of them; BUG=glob  JOBS=n; ends with BUGS {json}'
	@echo 'make testplan  check tb/testplan.yaml against tests and coverage, read the last results, write docs/testplan.md'
	@echo 'make coverage  measure functional and code coverage with the runs of tb/coverage/runs.yaml; JOBS=n, RUNS="random 4x2 *" (globs with commas, or a file of them)  MERGE=/other/build (its runs count, too, and are not done again; folders with commas); ends with COVERAGE {json}'
	@echo 'make rank    the smallest set of runs that hits what the last make coverage has hit, as a file for its RUNS; bins that one run alone hits; BIN=glob shows who hits a bin, a line or a toggle; N=20 (bins); ends with RANK {json}'
	@echo 'make close   draw programs of the test random until one hits a hole of the functional coverage; BIN=glob  CONFIG=16x8  N=2000 (the most programs)  JOBS=n; ends with CLOSE {json}'
	@echo 'make compress  train a network under a compression scheme, into an image for the machine; ends with COMPRESS {json}'
	@echo '             NETWORK=digits|resnet20|resnet56|model.tflite|model.onnx|model.pt2|file.py:function  SCHEME=tight_joint  RATIO=8  WEIGHTS=state_dict  DATA=cifar-10-batches-py  EPOCHS=6  SEED=1  SHAPE=3,224,224 (of a file that leaves it open)  SKIP=LRN'
	@echo '             CONFIG=16x16  FORMAT=plain|xor  FRESH=1 (starts anew if a checkpoint belongs to another run)'
	@echo 'make results do the missing runs of scripts/results.yaml (CAMPAIGN=long: results-long.yaml), and render docs/results.md from all reports; takes hours; ends with RESULTS {json}'
	@echo '             WEIGHTS=resnet20=state_dict,...  DATA=cifar-10-batches-py  EPOCHS=n (instead of the number in the file)  JOBS=1 (in parallel)  FARM=slurm|tcp://host:port (as for make regress)  PAGE=1 (no runs, only the page)'
	@echo 'make bench   measure something; ends with BENCH {json}'
	@echo '             BENCH=packing|joint|half_passes|speed (the compiler; WEIGHTS=state_dict, made-up weights without it)  xor (storage)  large (VGG-16 at 224 x 224 without the RTL)  windows (depthwise, pools)  runtime (WEIGHTS=model.tflite|model.onnx DATA=images IMAGES=200: layer by layer against its own runtime)  operators (the operator tests of the package onnx; writes docs/operators.md)  onnx_zoo (the architectures of the package onnx on the RTL, 224 x 224)  pe (transistors)  clock (blocks placed on an ECP5, CONFIG=name BLOCK=glob)  history|pages (a million records)  farm (a regression on this machine, a Slurm and a Dask scheduler; N=60 seeds  TESTS=random)  shrink (how small the failures of planted bugs become)  env (the pyuvm environment)  sim (a bare C++ loop, the harness, the environment)'
	@echo 'make ppa     area of the machine in gate equivalents, block by block, and its clock on an ECP5; renders docs/ppa.md; ends with PPA {json}'
	@echo '             ALL=1 (every size, GROUP, slot and decoder: hours)  JOBS=n (in parallel)'
	@echo 'make docs    build the site of README.md and docs/ in build/site; a broken link is an error'
	@echo 'make lint    check the Python with ruff and mypy, the RTL with Verilator, Icarus and yosys, the workflows with actionlint'
	@echo 'make train   train, prune and quantise a network again; NET=digits'
	@echo 'BUILD=folder with any command: write there instead of below build/'
	@echo 'make clean   remove what was built; the installed packages in .venv stay'

# What reads WEIGHTS, by the end of its name: only a state_dict needs torch, and a network.npz needs nothing more.
KIND  := $(suffix $(lastword $(WEIGHTS)))
READS := $(if $(WEIGHTS),$(if $(filter .npz,$(KIND)),,$(if $(filter .tflite .onnx,$(KIND)),$(VENV)/$(KIND),$(VENV)/.train)))

# What a farm needs, if it is not this machine.
FARMED := $(if $(filter-out local,$(FARM)),$(VENV)/.farm)

sim: $(VENV)/.base $(READS)
	@$(PY) -m scripts.sim

inspect: $(VENV)/.base $(READS)
	@$(PY) -m scripts.inspect_file

replay: $(VENV)/.base
	@$(PY) -m scripts.replay

bisect: $(VENV)/.base
	@$(PY) -m scripts.bisect

shrink: $(VENV)/.base
	@$(PY) -m scripts.shrink

list: $(VENV)/.base
	@$(PY) -m scripts.sim --list

test: $(VENV)/.test
	@scripts/install_icarus.sh || echo 'iverilog not found and not installable: the tests on Icarus will be SKIPPED'
	@scripts/install_chromium.sh || echo 'chromedriver not found and not installable: the tests of the pages in a browser will be SKIPPED'
	@$(PYTEST) -n $(CORES)

# Rooms of the model whose tests take seconds, for `make check`. `make test` runs all tests.
QUICK := tests/machine tests/packing tests/network tests/compiler tests/cost

check: lint $(VENV)/.test
	@$(PYTEST) -q -n $(CORES) -m 'not slow and not icarus' $(QUICK)
	@TEST=random CONFIG=4x2 SIM=verilator $(PY) -m scripts.sim

regress: $(VENV)/.history $(FARMED)
	@$(PY) -m scripts.regress

history: $(VENV)/.history
	@$(PY) -m scripts.history

pages: $(VENV)/.history $(VENV)/.pages
	@$(PY) -m scripts.pages

worker: $(VENV)/.farm
	@$(PY) -m scripts.worker

bugs: $(VENV)/.base $(FARMED)
	@$(PY) -m scripts.bugs

testplan: $(VENV)/.base
	@$(PY) -m scripts.testplan

coverage: $(VENV)/.coverage $(VENV)/.history $(FARMED)
	@$(PY) -m scripts.coverage

rank: $(VENV)/.base
	@$(PY) -m scripts.rank

close: $(VENV)/.base
	@$(PY) -m scripts.close

bench: $(VENV)/.base $(READS) $(if $(filter history pages farm,$(BENCH)),$(VENV)/.history) $(if $(filter farm,$(BENCH)),$(VENV)/.farm) $(if $(filter pages,$(BENCH)),$(VENV)/.pages) $(if $(filter pe clock,$(BENCH)),$(VENV)/.synthesis) $(if $(filter operators onnx_zoo,$(BENCH)),$(VENV)/.onnx)
	@$(PY) -m scripts.bench

ppa: $(VENV)/.synthesis $(VENV)/.pages
	@$(PY) -m scripts.ppa

compress: $(VENV)/.train $(if $(filter .tflite .onnx,$(suffix $(NETWORK))),$(VENV)/$(suffix $(NETWORK)))
	@$(PY) -m scripts.compress

results: $(VENV)/.train $(FARMED)
	@$(PY) -m scripts.results

docs: $(VENV)/.docs
	@$(PY) -m scripts.registers
	@$(PY) -m scripts.parameters
	@$(PY) -m scripts.figures
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --site-dir $(abspath $(OUT))/site
	@echo "site: $(OUT)/site/index.html"

lint: $(VENV)/.lint
	@$(PY) -m ruff check
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo --cache-dir $(CACHE)/imports
	@$(PY) -m scripts.lint_rtl
	@$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@if command -v actionlint >/dev/null; then actionlint; else echo 'actionlint is not on PATH: SKIPPED'; fi

train: $(VENV)/.train
	@$(PY) -m scripts.train

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find pymodel tb tests scripts -name __pycache__ -prune -exec rm -rf {} +

# The virtual environment, and one stamp for each list of packages in pyproject.toml, so that sim does not wait for torch.
# PEP 517: by itself, the pip of Python 3.11 builds packages without wheels (wavedrom) in a way that misses what their builds need.

LIST := import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb")); g = p["dependency-groups"]; \
        flat = lambda xs: [y for x in xs for y in ([x] if isinstance(x, str) else flat(g[x["include-group"]]))]; \
        print(*(p["project"]["dependencies"] if sys.argv[1] == "base" else flat(g[sys.argv[1]])), sep="\n")

$(VENV)/.%: pyproject.toml $(VENV)/.made
	@echo "installing Python packages ($*)"
	@$(PY) -c '$(LIST)' $* > $(VENV)/$*.txt
	@PIP_USE_PEP517=1 $(PY) -m pip install -qq --disable-pip-version-check -r $(VENV)/$*.txt
	@touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.coverage $(VENV)/.history $(VENV)/.pages $(VENV)/.farm $(VENV)/.synthesis $(VENV)/.train $(VENV)/.docs $(VENV)/.tflite $(VENV)/.onnx: $(VENV)/.base

$(VENV)/.made:
	@case '$(CURDIR)' in *' '*) echo 'error: Verilator cannot build below a path with spaces: $(CURDIR)'; exit 1;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: Python 3.11 or later is needed; name one with PYTHON=...'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) cannot make virtual environments; install Debian's package python3-venv"; exit 1; }
	@version=$$(g++ -dumpversion 2>/dev/null) && [ "$${version%%.*}" -ge 11 ] || \
		{ echo "error: g++ 11 or later is needed; install Debian's package g++"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@
