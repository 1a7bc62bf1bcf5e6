.PHONY: demo test test-all fast check docs setup lock clean
lago = .venv/bin/lago
site = .venv/bin/sphinx-build -q -n -W --keep-going -d site/.doctrees docs site

setup:
	@bash scripts/setup.sh

demo: setup
	@$(lago) demo

# With cov=1, the lines that tests reach are counted, which takes a third longer, and have to be 95 %.
test: chosen = and not long
test test-all: setup
	@.venv/bin/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "not clock $(chosen)" $(if $(cov),--cov --cov-report=)
	@.venv/bin/python -m pytest -q -m "clock $(chosen)" $(if $(cov),--cov --cov-append --cov-report=term-missing:skip-covered --cov-fail-under=95)

fast: setup
	@.venv/bin/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not long and not clock"

check: setup
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/basedpyright
	@.venv/bin/lint-imports
	@.venv/bin/codespell
	@.venv/bin/python -m tests.docs
	@.venv/bin/python -m scripts.architecture
	@$(site) -E

# The documents as pages, to be opened from disk: site/index.html. In them a warning is an error.
docs: setup
	@$(site)
	@echo site/index.html

lock: setup
	@{ echo "# Every package that 'make setup' installs, resolved together (pip format; regenerate: make lock)."; \
	   .venv/bin/uv pip compile pyproject.toml --extra dev -c requirements.lock --no-header --no-annotate --python-version 3.11 -q \
	   | sed 's/+cpu$$//'; } > requirements.lock.new && mv requirements.lock.new requirements.lock

clean:
	rm -rf checkpoints data/episodes data/libraries .prefect
