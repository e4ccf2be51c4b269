# make demo   installs into .venv, then runs the main job on a shipped network and real photos
# make test   installs into a fresh environment, then runs the whole test suite and the checks
# make docs   builds the documentation into site/; a warning is an error
# make pythons  runs the parts that need no torch on every Python that is here
# make bindings  runs bundles by the names of TensorRT's bindings in every JetPack, not two alone
# make aarch64  runs a device's installation on aarch64, under qemu-user
# make bench  measures every table in benchmarks/ again (long)
# make bench-quality  measures how good compressed networks are (long)
PYTHON ?= python3
# Bytecode is written when a module is first imported: most of what is installed never is.
PIP = -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: demo test bench bench-quality check style types pages docs pythons bindings aarch64 clean

export NO_MKDOCS_2_WARNING = 1 # an advertisement, where warnings are errors

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) --editable ".[desk,plot]"
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
	$(MAKE) --no-print-directory --jobs=2 style types pages

style:
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .

types:
	# By a folder that holds no more: beside the rooms, they would be found half installed.
	mkdir -p .venv-test/typed && ln -sfn ../../benchmarks .venv-test/typed/benchmarks
	cd .venv-test && MYPYPATH=typed bin/mypy --config-file ../pyproject.toml -p waveedge -p benchmarks

pages:
	.venv-test/bin/mkdocs build --strict --quiet --site-dir .venv-test/site

docs:
	$(PYTHON) -m venv .venv-docs
	# Not editable: the reference is made from one folder that holds all rooms.
	.venv-docs/bin/python $(PIP) ".[docs]"
	.venv-docs/bin/mkdocs build --strict

# Long, as numpy and onnxruntime are installed for each.
pythons: .venv-test/installed
	cd .venv-test && WAVEEDGE_PYTHONS="3.10 3.11 3.12 3.13" bin/pytest -c ../pyproject.toml --rootdir .. ../tests/packaging

bindings: .venv-test/installed
	cd .venv-test && WAVEEDGE_BINDINGS=all bin/pytest -c ../pyproject.toml --rootdir .. ../tests/runtime/test_real_bindings.py

aarch64: .venv-test/installed
	cd .venv-test && WAVEEDGE_AARCH64=1 bin/pytest -c ../pyproject.toml --rootdir .. ../tests/packaging/test_aarch64.py

bench: .venv/installed
	.venv/bin/python $(PIP) --editable ".[desk,openvino,plot]"
	.venv/bin/python -m benchmarks

bench-quality: .venv/installed
	.venv/bin/python -m benchmarks.quality_tables

clean:
	rm -rf .venv .venv-* site build dist *.egg-info demo-out

FORCE:
