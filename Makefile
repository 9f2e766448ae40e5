# Everything from one command: each target first builds the environment in .venv if it is missing or out of date.
ROOT := $(dir $(realpath $(lastword $(MAKEFILE_LIST))))
VENV ?= $(ROOT).venv
TASK ?= embedded
MODEL ?=
FB ?=
RB ?=
BENCH ?= model=embedded shape=t5-small
ARGS ?=
OUT ?= $(ROOT)report
override OUT := $(abspath $(OUT))
EXAMPLES ?= 240
TIMED ?= 40

PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# The newest Python from 3.11 on that this machine has; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
# Another build of torch: CUDA=cu126 for older drivers and GPUs, CUDA=cpu, or any TORCH_INDEX=https://...
CUDA ?=
TORCH_INDEX ?= $(if $(CUDA),https://download.pytorch.org/whl/$(CUDA))
# An environment with torch from elsewhere is built anew.
OTHER := $(if $(TORCH_INDEX),$(shell grep -sqxF '$(TORCH_INDEX)' $(READY) || echo other))
# Datasets and models that were downloaded once are used without asking the hub again: HF_HUB_OFFLINE=1 make ...
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help anew env demo check test sweep paper report bench doctor gpu-check lint format wheel clean embedded-pair notebook example browser

help:  ## show this
	@echo 'make TARGET, where TARGET is'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-10s %s\n", $$1, $$2}'
	@echo 'Any run by hand: $(VENV)/bin/bild --help'

env: $(READY)  ## build the environment (the other targets do it by themselves); for older drivers CUDA=cu126

$(READY): $(ROOT)pyproject.toml $(ROOT)constraints.txt $(if $(OTHER),anew)
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer was found: install one, or name it with make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo 'Building the environment in $(VENV) with $(PYTHON); the first time takes a few minutes.'
	@$(PYTHON) -m venv $(if $(OTHER),--clear) $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c $(ROOT)constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '$(ROOT)[dev]'
	@echo '$(TORCH_INDEX)' > $@

anew:

demo: $(READY)  ## judge a handful of settings on captions that nothing was chosen on: a table, a figure, verdicts
	@cd $(ROOT) && $(PY) -m bild.demo $(ARGS)

# Tests side by side, those of a file in one process: they share its fixtures. One file by hand: pytest tests/a/test_b.py
WORKERS ?= 2
LINT = cd $(ROOT) && $(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy
PYTEST = $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(READY)  ## ruff, mypy and the quick tests: minutes, for every day
	@$(LINT) && $(PYTEST) -m 'not slow' $(ARGS)

test: $(READY)  ## ruff, mypy and all tests (CASES=all: each in every case)
	@$(LINT) && $(PYTEST) $(ARGS)

sweep: $(READY)  ## a whole grid of thresholds, its front measured live: make sweep TASK=xsum ARGS=sweep=fine (resumes; plan=only)
	@cd $(ROOT) && $(PY) -m bild.sweep 'task=$(TASK)' $(if $(MODEL),'model=$(MODEL)') $(if $(FB),'sweep.fb=[$(FB)]') $(if $(RB),'sweep.rb=[$(RB)]') $(ARGS)
	@$(if $(findstring plan=only,$(ARGS))$(findstring sweep.find,$(ARGS)),true,cd $(ROOT) && $(PY) -m bild.report 'results/$(TASK)' --out '$(OUT)/$(TASK)')

paper: $(READY)  ## all that the paper shows, as far as this machine can, and an atlas: make paper ARGS=plan=only
	@cd $(ROOT) && $(PY) -m bild.paper out=$(OUT)/paper $(ARGS)

# One's own results; else those of make demo; else the example that is committed.
PLACES = results/$(TASK) results/demo/$(TASK) results/example/$(TASK)
SHOWN = $(firstword $(foreach place,$(PLACES),$(if $(wildcard $(ROOT)$(place)),$(place))) results/$(TASK))

report: $(READY)  ## figures, tables and one HTML page from results/: make report TASK=xsum
	@cd $(ROOT) && $(PY) -m bild.report '$(SHOWN)' --out '$(OUT)/$(TASK)'

notebook: $(READY)  ## execute the notebooks on results/ (or the committed example), into report/notebooks/
	@mkdir -p $(OUT)/notebooks && cp $(ROOT)notebooks/*.ipynb $(OUT)/notebooks/
	@cd $(ROOT) && BILD_RESULTS=$(ROOT) JUPYTER_PLATFORM_DIRS=1 $(PY) -m jupyter execute --inplace $(OUT)/notebooks/*.ipynb
	@echo 'Executed: $(OUT)/notebooks/'

EXAMPLE_GRID = 'sweep.fb=[0.1,0.2,0.3,0.4,0.6,0.8]' 'sweep.rb=[1,2,3,4,6,inf]' 'sweep.max_draft=[10,24]' 'sweep.rules=[paper,authors]' 'sweep.first=[large,small]'

example: $(READY)  ## make results/example anew: a small sweep of the embedded task, for a fresh clone to show
	@rm -rf $(ROOT)results/example
	@cd $(ROOT) && $(PY) -m bild.sweep task=embedded model=embedded-bridge task.samples=$(EXAMPLES) sweep=quick $(EXAMPLE_GRID) sweep.front=6 \
		sweep.least=$(TIMED) sweep.minutes=0 measure.library=16 results=results/example $(ARGS)
	@find $(ROOT)results/example \( -name '*.lock' -o -name stages.jsonl \) -delete
	@du -sh $(ROOT)results/example

browser:  ## install the Chromium that the page's tests drive, where there is none (Debian, as root)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; }

bench: $(READY)  ## engines and peers against the machine's limit: make bench BENCH="shape=t5-large" ARGS="dtype=bf16"
	@cd $(ROOT) && for what in $(BENCH); do $(PY) -m bild.bench $$what $(ARGS) || exit $$?; done

# The corpus is fetched from the hub, or is a folder of files: see conf/task/multi30k-files.yaml.
CORPUS ?=
EMBEDDED_TASK = $(if $(CORPUS),task=multi30k-files task.path=$(abspath $(CORPUS)),task=multi30k) splits.test=test
TRAINED ?= trained/embedded

embedded-pair: $(READY)  ## train the pairs that ship: make embedded-pair CORPUS=folder (hours on a CPU; goes on where it was stopped)
	@cd $(ROOT) && $(PY) -m bild.train $(EMBEDDED_TASK) shape=embedded-large train=embedded-large out=$(TRAINED)/large-start $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.train $(EMBEDDED_TASK) model=folders model.large=$(TRAINED)/large-start train=embedded-large-on out=$(TRAINED)/large-shallow $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.train $(EMBEDDED_TASK) model=folders model.large=$(TRAINED)/large-shallow train=embedded-large-deep out=$(TRAINED)/large $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.train $(EMBEDDED_TASK) shape=embedded-small train=embedded-small tokenizer.path=$(TRAINED)/large-start out=$(TRAINED)/small $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.train $(EMBEDDED_TASK) shape=embedded-exit train=embedded-exit tokenizer.path=$(TRAINED)/large-start out=$(TRAINED)/exit-start $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.train $(EMBEDDED_TASK) model=folders model.large=$(TRAINED)/exit-start train=embedded-exit-on out=$(TRAINED)/exit $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.align $(EMBEDDED_TASK) model=folders model.large=$(TRAINED)/large-shallow model.small=$(TRAINED)/small \
		align.start=finetuned align.batch=64 align.loss=kl train=embedded-aligned out=$(TRAINED)/small-aligned-shallow $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.align $(EMBEDDED_TASK) model=folders model.large=$(TRAINED)/large-shallow model.small=$(TRAINED)/small-aligned-shallow \
		align.start=finetuned align.batch=64 align.loss=kl align.bridge=true train=embedded-bridge out=$(TRAINED)/small-bridge-start $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.align $(EMBEDDED_TASK) model=folders model.large=$(TRAINED)/large-shallow model.small=$(TRAINED)/small-bridge-start \
		align.start=finetuned align.batch=64 align.loss=kl align.bridge=true align.augment=1 train=embedded-bridge-on out=$(TRAINED)/small-bridge-shallow $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.align $(EMBEDDED_TASK) model=folders model.large=$(TRAINED)/large model.small=$(TRAINED)/small-aligned-shallow \
		align.start=finetuned align.batch=64 align.loss=kl train=embedded-aligned-deep out=$(TRAINED)/small-aligned $(ARGS)
	@cd $(ROOT) && $(PY) -m bild.align $(EMBEDDED_TASK) model=folders model.large=$(TRAINED)/large model.small=$(TRAINED)/small-bridge-shallow \
		align.start=finetuned align.batch=64 align.loss=kl align.bridge=true train=embedded-bridge-deep out=$(TRAINED)/small-bridge $(ARGS)
	@cd $(ROOT) && $(PY) scripts/ship_embedded.py $(TRAINED)

gpu-check: $(READY)  ## ten minutes on a GPU: right, and as fast as it should be? a table, and one file to send
	@cd $(ROOT) && $(PY) -m bild.gpu_check $(ARGS)

doctor: $(READY)  ## what this machine has, what is missing for which task, and how to fix it
	@cd $(ROOT) && $(PY) -m bild.doctor

lint: $(READY)  ## ruff and mypy alone
	@$(LINT)

format: $(READY)  ## let ruff rewrite what it can
	@cd $(ROOT) && $(PY) -m ruff check --fix . && $(PY) -m ruff format .

wheel: $(READY)  ## build dist/*.whl
	@cd $(ROOT) && $(PY) -m pip wheel --quiet --no-deps -w dist .

clean:  ## remove the environment and what was built (results/ stays)
	rm -rf $(VENV) $(ROOT)build $(ROOT)dist $(ROOT).pytest_cache $(ROOT).mypy_cache $(ROOT).ruff_cache $(ROOT).hypothesis
