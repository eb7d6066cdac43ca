# bittern: make run | build | test | check | proof | bench | bench-many | fuzz | soak | install | uninstall | clean
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DESTDIR ?=
PREFIX  := /opt/bittern
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
# Tests mostly wait for real processes: on two processors three at a time still keep out of each other's way. The proof,
# which keeps the machine busier, has two.
TEST_WORKERS ?= 3
proof: TEST_WORKERS := 2
PYTEST  = $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

.PHONY: run build dev test check proof bench bench-quick bench-many fuzz soak format install uninstall clean

run: build
	@$(BIN)/bittern run $(ARGS)

build: $(VENV)/.built

dev: $(VENV)/.dev

define new_enough
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "bittern needs Python 3.11 or newer; $(PYTHON) is older (make PYTHON=python3.12 ... names another)"; exit 1; }
endef

$(BIN)/python:
	$(new_enough)
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		if [ "$$(id -u)" = 0 ]; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; \
		else \
			echo "Python's venv module is missing. Run this once, then make again:"; echo "    sudo apt-get install python3-venv"; exit 1; \
		fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/.built: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.built

test: dev
	$(PYTEST) -m 'not proof'

proof: dev
	$(PYTEST) -m proof

check: dev
	$(BIN)/ruff format --check src tests etc
	$(BIN)/ruff check src tests etc
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev
	$(BIN)/ruff format src tests etc
	$(BIN)/ruff check --fix src tests etc

bench: dev
	$(BIN)/python -m tests.bench $(ARGS)

bench-quick: dev
	$(BIN)/python -m tests.bench --quick $(ARGS)

bench-many: dev
	$(BIN)/python -m tests.bench.many $(ARGS)

# Parsers under random input for as long as you like: make fuzz FUZZ_SECONDS=3600
fuzz: dev
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# Three hundred torrents come and go while everything fails; as root with a disk that fills up.
soak: dev
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS) $(ARGS)

# The service may look into nobody's home, where a python3 that root finds first may well lie.
ifneq ($(filter file default undefined,$(origin PYTHON)),)
install: PYTHON := $(or $(wildcard /usr/bin/python3),python3)
endif

install:
	@[ "$$(id -u)" = 0 ] || { echo "make install writes to $(PREFIX), /usr/local/bin and /etc: run it as root"; exit 1; }
	$(new_enough)
	@[ -n "$(DESTDIR)" ] || command -v systemd-sysusers >/dev/null || \
		{ echo "make install makes a systemd service, and this machine has no systemd: make run runs it anywhere"; exit 1; }
	@case $$($(PYTHON) -c 'import os, sys; print(os.path.realpath(sys.executable))') in /home/*|/root/*) \
		echo "$(PYTHON) lies in a home, where the service may not look: make install PYTHON=... names another"; exit 1;; \
	esac
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; }
	$(PYTHON) -m venv $(DESTDIR)$(PREFIX)
	$(DESTDIR)$(PREFIX)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .
	$(DESTDIR)$(PREFIX)/bin/python -m pip install --quiet --disable-pip-version-check .
	@# Whatever root's umask is, the service's user has to read it; and no path may lead to where it was only staged.
	chmod -R go+rX $(DESTDIR)$(PREFIX)
	$(if $(DESTDIR),sed -i '1s|$(DESTDIR)||' $(DESTDIR)$(PREFIX)/bin/bittern)
	install -d $(DESTDIR)/usr/local/bin $(DESTDIR)/etc/bittern/hooks $(DESTDIR)/etc/systemd/system \
		$(DESTDIR)/usr/lib/sysusers.d $(DESTDIR)/usr/lib/tmpfiles.d
	ln -sfn $(PREFIX)/bin/bittern $(DESTDIR)/usr/local/bin/bittern
	[ -e $(DESTDIR)/etc/bittern/bittern.toml ] || install -m 644 etc/bittern.toml $(DESTDIR)/etc/bittern/bittern.toml
	install -m 644 systemd/bittern.service $(DESTDIR)/etc/systemd/system/bittern.service
	@# The same for further instances, each with a configuration and a state of its own.
	sed -e 's|^Description=.*| &, instance %i|; s|^ ||' -e 's|/etc/bittern/bittern.toml|/etc/bittern/%i.toml|' \
		-e 's|^StateDirectory=bittern$$|StateDirectory=bittern-%i|' \
		-e 's|^RuntimeDirectory=bittern$$|RuntimeDirectory=bittern-%i|' systemd/bittern.service \
		>$(DESTDIR)/etc/systemd/system/bittern@.service
	chmod 644 $(DESTDIR)/etc/systemd/system/bittern@.service
	install -m 644 systemd/bittern.sysusers $(DESTDIR)/usr/lib/sysusers.d/bittern.conf
	install -m 644 systemd/bittern.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/bittern.conf
	@if [ -z "$(DESTDIR)" ]; then \
		systemd-sysusers bittern.conf && systemd-tmpfiles --create bittern.conf || exit 1; \
		if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi; \
		echo; echo "Installed. Start it now and at every boot:  systemctl enable --now bittern"; \
		echo "Drop .torrent files into /srv/bittern/drop; files appear in /srv/bittern/downloads."; \
	fi

uninstall:
	@[ "$$(id -u)" = 0 ] || { echo "make uninstall removes system files: run it as root"; exit 1; }
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl disable --now bittern 'bittern@*' 2>/dev/null || true; fi
	rm -rf $(DESTDIR)$(PREFIX)
	rm -f $(DESTDIR)/usr/local/bin/bittern $(DESTDIR)/etc/systemd/system/bittern.service \
		$(DESTDIR)/etc/systemd/system/bittern@.service \
		$(DESTDIR)/usr/lib/sysusers.d/bittern.conf $(DESTDIR)/usr/lib/tmpfiles.d/bittern.conf
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	@echo "Kept: /etc/bittern, /var/lib/bittern, /srv/bittern and the user bittern."

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
