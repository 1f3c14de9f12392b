# kvip: every command a contributor needs. `make demo` and `make test` set up all they need.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := unshare -n -m $(BIN)/python
READY  := $(VENV)/.ready

.PHONY: help demo test check unit properties netns scenario soak soak-short upgrade test-real faults-real faults docs mutants page transcripts assets bench bench-all wheels helm image image-lab test-deploy manifests site clean preflight

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

preflight:
	@$(PYTHON) -m lab.preflight

$(READY): pyproject.toml setup.py constraints.txt kvip/_arp.pyx kvip/_rtnl.pyx kvip/_text.pxd kvip/_datagrams.pxd | preflight
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel Cython
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(READY) ## two nodes, a client and an API server in namespaces: the main job, narrated
	@$(BIN)/python -m lab.demo

check: $(READY) ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint kvip/*.pyx kvip/*.pxd
	$(BIN)/lint-imports --no-cache

docs: $(READY) ## everything under docs/ that is generated, but for measurements
	$(BIN)/python -c 'from kvip.reference import *; print(reference_markdown(), end="")' > docs/configuration.md
	$(BIN)/python -c 'from kvip.core.annotations import *; print(reference_markdown(), end="")' > docs/annotations.md
	$(BIN)/python -c 'from kvip.metric_reference import *; print(metrics_markdown(), end="")' > docs/metrics.md
	$(RUN) -m lab.doctor > docs/doctor.md

unit properties: export PYTHONDONTWRITEBYTECODE =
unit properties: export PYTHONPYCACHEPREFIX = $(abspath $(VENV))/pycache
unit: $(READY) ## the pure parts, no root; what is compiled is kept for the next run, whatever the shell says
	$(BIN)/python -m pytest tests/unit -n logical -p no:benchmark

properties: $(READY) ## what holds for any input and any order of events, with four times the examples of the unit ring
	$(BIN)/python -m pytest tests/unit -n logical -p no:benchmark -m hypothesis --hypothesis-profile=all

netns: $(READY) ## the kernel and the wire, in a namespace of their own
	$(RUN) -m pytest tests/netns -n 2 --dist loadfile -p no:benchmark

scenario: $(READY) ## daemons as processes on a LAN, embedded API server
	$(RUN) -m pytest tests/scenario $(FLAGS)

soak-short: $(READY) ## a minute of random operations and faults, fixed seed
	$(RUN) -m pytest tests/soak -rP

test: check unit netns scenario soak-short ## everything that needs no further download

assets: ## build etcd, kube-apiserver, kubectl, helm and the client-go peer into ~/.cache/kvip (once, about 10 minutes)
	@lab/assets/build.sh

test-real: $(READY) ## the scenario tests against the real API server (FLAGS= the default ring only)
	$(RUN) -m pytest tests/scenario --api=real -rP $(or $(FLAGS),--slow)

upgrade: $(READY) ## the version before this one to this one and back, rolling updates, what changes meanwhile (API=real)
	$(RUN) -m pytest $(patsubst %,tests/scenario/test_%.py,upgrade upgrade_changes rolling_update) --api=$(or $(API),embedded) --slow -rP $(FLAGS)

faults-real: $(READY) ## every row of the fault table on the real API server, as tests
	$(RUN) -m pytest tests/scenario/test_fault_table.py --api=real --slow -rP -k 'not per-service'

soak: $(READY) ## random operations and faults on three nodes: SECONDS=n SEED=n [API=real] [ELECTION=global] [REPORT=file]
	$(BIN)/python -m lab.soak --seconds $(or $(SECONDS),300) --seed $(or $(SEED),1) --api $(or $(API),embedded) \
		$(if $(ELECTION),--env KVIP_ELECTION=$(ELECTION)) $(if $(REPORT),--report $(REPORT))

mutants: $(READY) ## break kvip on purpose, one rule at a time: each must be noticed (REPORT=file)
	$(BIN)/python -m lab.mutants $(if $(REPORT),--report $(REPORT))

faults: $(READY) ## the fault table on the real API server, as Markdown (FLAGS="--api embedded --only SIG")
	@$(RUN) -m lab.faulttable $(FLAGS)

page: $(READY) ## the page in a headless browser, and its pictures in docs/page; apt installs Chromium where there is none
	@$(BIN)/python -m lab.browser >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium-headless-shell fonts-dejavu-core; }
	$(RUN) -m pytest tests/page -rPs

wheels: $(READY) ## sdist and wheel, each in a fresh environment, the sdist without a compiler
	$(BIN)/python -m pytest tests/packaging -p no:benchmark

transcripts: $(READY) ## docs/transcripts.md: what kvip status and kvip explain print
	$(BIN)/python -m lab.transcripts

bench: $(READY) ## the short benchmarks, each figure beside a reference of the same run; writes nothing
	@$(BIN)/python -m benchmarks.programs
	$(RUN) -m pytest benchmarks --benchmark-disable-gc $(FLAGS)

bench-all: $(READY) ## every benchmark, kept in docs/performance.md with machine and date (long; SUITES="frames cost": these only)
	@$(BIN)/python -m benchmarks.programs
	$(RUN) -m pytest $(or $(SUITES:%=benchmarks/test_%.py),benchmarks) --benchmark-disable-gc --all --record $(FLAGS)

image: ## build the image with docker, podman or buildah; its size and start time (IMAGE=name:tag BASE=image BUILDER=program)
	@IMAGE="$(IMAGE)" BASE="$(BASE)" BUILDER="$(BUILDER)" deploy/image.sh

image-lab: ## the same on a base that debootstrap makes, with buildah, for the scenario tests of the image (root)
	@lab/image/build.sh

helm: ## build helm into ~/.cache/kvip, for the chart's tests (once, about 4 minutes)
	@lab/assets/build.sh helm

test-deploy: image-lab helm $(READY) ## the quick start as it is typed, the image as a node, the chart and the kustomize base, on the real API server
	$(RUN) -m pytest $(patsubst %,tests/scenario/test_%.py,quick_start image deploy missing_rights manifests) --api=real --slow -rP

manifests: $(READY) ## write what kvip determines of deploy/
	@$(BIN)/python -m lab.manifests

# Apart from the environment that the tests run in.
$(VENV)/site/.ready: pyproject.toml constraints.txt | preflight
	@$(PYTHON) -m venv $(VENV)/site
	@$(VENV)/site/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		$$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	@touch $@

site: $(VENV)/site/.ready ## the documents as a site, in build/site
	rm -rf build/site
	$(VENV)/site/bin/zensical build --config-file mkdocs.yml --clean --strict
	cp -r deploy build/site/
	@echo '<!doctype html><meta charset="utf-8"><title>kvip</title><meta http-equiv="refresh" content="0; url=docs/index.html">' > build/site/index.html

clean: ## remove what was built here
	rm -rf $(VENV) build dist *.egg-info kvip/_arp.c kvip/_rtnl.c kvip/*.so
