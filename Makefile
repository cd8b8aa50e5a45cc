# `make demo` shows what the project does, `make lab` opens the tutorials, `make test` runs every test.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo lab test test-all clean

demo: $(READY)
	$(BIN)/paintsr_demo --out demo
	@echo "open demo/index.html in a browser"

lab: $(READY)
	$(BIN)/jupyter lab nbs/tutorials

test: $(READY)
	$(BIN)/python tools/check_sync.py
	OMP_NUM_THREADS=1 $(BIN)/nbdev-test --n-workers 2
	$(BIN)/python -m pytest -q tests

test-all: test
	$(BIN)/python -m pytest -q tests --slow -m slow
	$(MAKE) test-oldest

# The oldest versions that settings.ini allows, in an environment of their own.
.PHONY: test-oldest
test-oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest -q tests -m "not browser"

.venv-oldest/.ready: settings.ini setup.py constraints-oldest.txt
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install -c constraints-oldest.txt -e ".[dev,lab,perceptual,parallel,onnx]"
	touch $@

$(READY): settings.ini setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev,lab,perceptual,parallel,onnx]"
	touch $@

clean:
	rm -rf .venv .venv-oldest demo build dist *.egg-info
