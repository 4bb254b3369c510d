# Everything is set up in .venv on first use: Python 3.11 or newer, make and a network are all it takes.

PYTHON ?= $(or $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done),python3)
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools

PAGE := transport/threadwire/endpoints/static/index.html
PACKAGES := web/node_modules/.package-lock.json
WEB_SOURCES = $(shell find web -name node_modules -prune -o -name dist -prune -o -name tests -prune -o -type f -print)
NPM := $(shell command -v npm 2>/dev/null)
NOT_INSTALLED := { echo 'Packages could not be installed: the setup needs a network, or an index that pip is told of.' >&2; exit 1; }

.PHONY: help serve page test test-web check bench soak clean

help:
	@echo 'make serve   serve the demo agents; ARGS="my_agent.py:my_agent --port 8080" serves yours, --help tells more'
	@echo 'make page    build the playground, which needs Node 20 or newer and npm; make serve does it where they are'
	@echo 'make test    run the tests; ARGS="-k name" runs some; those of stock clients need Node 20 or newer'
	@echo 'make test-web  check and test the TypeScript packages'
	@echo 'make check   lint, format and type checks'
	@echo 'make bench   run the benchmarks'
	@echo 'make soak    run the fault tests at full length'
	@echo 'make clean   remove what was built, .venv too'

serve: $(READY)
ifneq ($(NPM),)
	@$(MAKE) --no-print-directory page || echo 'The playground could not be built; the server goes without it.' >&2
endif
	@$(RUN) server.py $(ARGS)

page: $(PAGE)
	@:

$(PAGE): $(PACKAGES) $(WEB_SOURCES)
	@echo 'Building the playground.'
	@cd web && THREADWIRE_WEB_OUT="$(CURDIR)/$(dir $(PAGE))" npm run --silent build -w playground -- --logLevel warn

$(PACKAGES): web/package-lock.json
	@echo 'Fetching what the TypeScript packages need.'
	@cd web && npm ci --silent --no-audit --no-fund || \
		{ echo 'npm could not install the packages; cd web && npm ci tells why.' >&2; exit 1; }
	@touch $@

test-web: $(READY) $(PACKAGES)
	@cd web && npm run --silent check && npm test --silent

test: $(TOOLS)
	$(RUN) -m pytest -m "not soak" $(ARGS)

check: $(TOOLS)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(TOOLS)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[bench]' || $(NOT_INSTALLED)
	$(RUN) -m benchmarks $(ARGS)

soak: $(TOOLS)
	THREADWIRE_TEST_KILLS=300 THREADWIRE_TEST_PAUSE_S=90 THREADWIRE_TEST_NODES_S=300 $(RUN) -m pytest tests/system tests/stores $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis benchmarks/results tests/stock/node_modules \
		web/node_modules web/packages/*/LICENSE $(dir $(PAGE)) tests/web/screenshots
	find web -name dist -prune -exec rm -rf {} + -o -name "*.tsbuildinfo" -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'Python 3.11 or newer is needed; where it has another name: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'Python cannot make virtual environments here; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'Setting up $(VENV): once, and again when pyproject.toml changes.'
	@$(PYTHON) -m venv --clear $(VENV)
	@THREADWIRE_PLAYGROUND=skip $(RUN) -m pip install --quiet --disable-pip-version-check -e '.[demos]' || $(NOT_INSTALLED)
	@touch $@

$(TOOLS): $(READY)
	@echo 'Adding what tests and checks need.'
	@$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]' || $(NOT_INSTALLED)
	@touch $@
