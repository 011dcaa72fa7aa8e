# One command each, from a fresh clone: `make demo` shows the pipeline, `make test` proves it.

PYTHON ?= python3
BIN := .venv/bin
# What has been set up, as files that are younger than what it was set up from.
DONE := .venv/done

.PHONY: setup demo test format lock clean

setup: $(DONE)/python $(DONE)/system
	viewer/build-assets

$(DONE)/python: requirements.lock pyproject.toml infra/setup/python
	PYTHON='$(PYTHON)' infra/setup/python
	@mkdir -p $(DONE) && touch $@

$(DONE)/system: infra/setup/system $(DONE)/python
	infra/setup/system
	@touch $@

demo: setup
	$(BIN)/python -m corestream.demo $(DEMO_ARGS)

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	infra/setup/run-tests $(TEST_ARGS)

format: $(DONE)/python
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(DONE)/python
	infra/setup/lock

clean:
	rm -rf .venv .local node_modules viewer/static/vendor ingest/static/vendor build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/artifacts
