# The two words of the README, and the few a developer needs. Each is a tiny shell in scripts/.
VENV ?= .venv
PYTHON ?= python3

.PHONY: demo test check bench parity parity-full clean

demo: $(VENV)/installed            ## train on the embedded digits, predict, write a report
	VENV=$(VENV) scripts/demo

test: $(VENV)/installed-test       ## run every test
	VENV=$(VENV) scripts/test

check: $(VENV)/installed-dev       ## lint, format, types
	VENV=$(VENV) scripts/check

bench: $(VENV)/installed-test      ## side-by-side measurements against peers (tens of minutes)
	VENV=$(VENV) scripts/bench

parity: $(VENV)/installed-test     ## the same numbers as timm, torchvision and transformers, from their weights
	VENV=$(VENV) scripts/parity

parity-full: $(VENV)/installed-test ## the same with the largest models whole (tens of minutes, 16 GB)
	VENV=$(VENV) scripts/parity --full

clean:
	rm -rf $(VENV) .venv-peers build dist demo

$(VENV)/installed: pyproject.toml constraints.txt
	PYTHON=$(PYTHON) VENV=$(VENV) scripts/install
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	PYTHON=$(PYTHON) VENV=$(VENV) scripts/install test
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	PYTHON=$(PYTHON) VENV=$(VENV) scripts/install dev
	touch $@
