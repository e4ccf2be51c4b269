# make demo   installs into .venv, then runs the main job on a shipped network and real photos
# make test   installs into a fresh environment, then runs the whole test suite and the checks
# make bench  measures every table in benchmarks/ again (long)
PYTHON ?= python3
PIP = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test bench check clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) --editable ".[plot]"
	touch $@

demo: .venv/installed
	.venv/bin/python examples/demo.py

.venv-test/installed: FORCE
	$(PYTHON) -m venv --clear .venv-test
	.venv-test/bin/python $(PIP) ".[dev,plot,rtx]"
	touch $@

test: .venv-test/installed check
	# From another folder: in this one, Python would find the rooms half installed.
	cd .venv-test && bin/pytest -c ../pyproject.toml --rootdir .. ../tests -n 2 --dist worksteal

check: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	cd .venv-test && bin/mypy --config-file ../pyproject.toml -p waveedge

bench: .venv/installed
	.venv/bin/python -m benchmarks

clean:
	rm -rf .venv .venv-test build dist *.egg-info demo-out

FORCE:
