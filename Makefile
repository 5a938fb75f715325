# `make demo` and `make test` do all the set-up themselves; the other targets are for developers.
PYTHON := .venv/bin/python

.PHONY: setup demo test check bench peers clean

setup:
	@./dev/setup.sh

demo: setup
	@$(PYTHON) -m edgemesh demo $(ARGS)

test: setup check
	@$(PYTHON) -m bench.peers wireguard etcd kubectl kube-apiserver || echo "tests against what is missing will be skipped"
	@$(PYTHON) -m pytest $(ARGS)

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

peers: setup
	@$(PYTHON) -m bench.peers

bench: setup peers
	@$(PYTHON) -m bench all $(ARGS)

clean:
	rm -rf .venv build *.egg-info .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
