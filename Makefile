# Two commands for a newcomer: `make serve` and `make test`. PYTHON=python3.12 chooses the interpreter of .venv.

.PHONY: serve observe venv test check train rules demo-rules dashboards bench lock format clean

serve:  ## start the service on the committed models
	@scripts/venv serve
	@PLUMBLINE_LOG_FORMAT=$${PLUMBLINE_LOG_FORMAT:-console} .venv/bin/python -m service serve

observe:  ## the service under traffic that drifts, watched by this machine's Prometheus
	@scripts/venv serve
	@.venv/bin/python -m k8s.monitoring.observe

venv:  ## install everything for development, start nothing
	@scripts/venv dev

# The tests of a file stay together, for what they share. Files keep their order: xdist would begin with those of many
# tests, and end with one process waiting for the few tests that take minutes.
test: venv  ## every test, in two processes, with coverage
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report

check: venv  ## style, types, and which module may import which
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: venv
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

train: venv  ## rebuild the committed model packages
	.venv/bin/python -m models train diagnosis
	.venv/bin/python -m models train progression
	.venv/bin/python -m models train transaction

rules: venv demo-rules  ## render the committed Prometheus rules
	.venv/bin/python -m k8s.monitoring.render_rules --window 1d --interval 1m > k8s/monitoring/rules/fairness-1d.yaml
	.venv/bin/python -m k8s.monitoring.render_rules --window 7d --interval 3m --no-windowless > k8s/monitoring/rules/fairness-7d.yaml
	.venv/bin/python -m k8s.monitoring.render_rules --kind drift --window 1d --interval 1m > k8s/monitoring/rules/drift-1d.yaml
	.venv/bin/python -m k8s.monitoring.render_rules --kind drift --window 7d --interval 3m --no-windowless > k8s/monitoring/rules/drift-7d.yaml

dashboards: venv  ## write the committed Grafana dashboards
	.venv/bin/python -m k8s.monitoring.dashboards

demo-rules: venv  ## render those of docker/compose.yaml, with a window that one can wait for
	.venv/bin/python -m k8s.monitoring.render_rules --window 5m --interval 15s --for 1m --keep-firing-for 2m --no-windowless > docker/prometheus/rules/fairness-5m.yaml
	.venv/bin/python -m k8s.monitoring.render_rules --kind drift --window 5m --interval 15s --for 1m --keep-firing-for 2m --no-windowless > docker/prometheus/rules/drift-5m.yaml

bench: venv  ## requests per second beside the tutorial's way; needs wrk
	.venv/bin/python -m bench http

lock:  ## resolve pyproject.toml anew; needs uv
	scripts/lock

clean:
	rm -rf .venv .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
