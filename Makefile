# Every target sets up what it needs and may be run again at any time, by root or an ordinary user.
# Other names: make VENV=/somewhere/else PYTHON=python3.12 test      Some tests only: make test ARGS="-k counters"
# Tests run in JOBS processes; a debugger wants JOBS=0.

VENV ?= .venv
PYTHON ?= python3
PY = $(VENV)/bin/python
ARGS ?=
JOBS ?= 3
export VENV PYTHON
# Some images forbid bytecode: then each of the thousand processes of the tests would compile the program anew, for a second.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test check bench bench-scale generate lock setup setup-run clean

run: setup-run  ## the gateway in demo mode: SMTP 127.0.0.1:2525, web 127.0.0.1:8025
	$(PY) -m relay demo $(ARGS)

test: setup  ## every test, in JOBS processes at once
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup  ## format, lint, types, import layers, house rules
	$(PY) -m ruff format --check relay policies tests bench
	$(PY) -m ruff check relay policies tests bench
	$(PY) -m mypy
	$(PY) -m pytest tests/house $(ARGS)

bench: setup  ## speed beside the peers, and the cost per stage
	$(PY) -m bench.run $(ARGS)

bench-scale: setup  ## what growth costs
	$(PY) -m bench.scale $(ARGS)

generate: setup-run  ## files that are written from the code
	$(PY) -m relay.policy.reference > config/zegel.toml
	$(PY) -m relay.observe.describe metrics > monitoring/metrics.md
	$(PY) -m relay.observe.describe events > monitoring/events.md
	$(PY) -m relay.observe.dashboards monitoring

lock: setup-run  ## new versions of what is depended on
	$(PY) -m pip install --quiet pip-tools
	CUSTOM_COMPILE_COMMAND="make lock" $(PY) -m piptools compile --quiet --upgrade --extra dev --strip-extras \
		--no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
		--output-file requirements.lock pyproject.toml

setup:
	@.ci/setup test

setup-run:
	@.ci/setup run

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
