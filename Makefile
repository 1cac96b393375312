.PHONY: run test soak try-upgrade model simulate fuzz verify verify-deploy try-deploy try-image load load-faults demo bench instructions

# Build the release and serve on loopback with the SQLite journal under withheld-data/.
run:
	cargo run --release --locked -- serve

# The whole test suite; first installs what the tests need and the machine lacks.
test:
	scripts/install-test-deps
	cargo test --locked

# The fault suite at length: 50 failovers under Sentinel, 20 of a cluster, long partitions, kills. A table at the end.
# Takes about a quarter of an hour. WITHHELD_TEST_SERVER=redis-7.4 or valkey-9 for these servers instead of Debian's Redis.
soak:
	scripts/soak scripts/build-client

# The program as it was before journals had formats, built from this repository's history, beside that of today on one
# journal: through an upgrade and back. Builds the old one first, which takes as long as a first build does.
try-upgrade:
	scripts/install-test-deps
	WITHHELD_OLD_PROGRAM=$$(scripts/build-old-program) cargo test --locked --test it -- --ignored old_program::

# Every state of the journal's protocol on Redis within the full bounds of tests/model/bounds.rs, with what the checker finds
# where a rule is missing. Takes about half an hour, and up to 2 GiB.
model:
	cargo test --locked --test model -- --include-ignored --nocapture --test-threads 1
# A million simulated histories of desks and replicas on a journal with every fault (tests/simulation), on all cores, from a
# seed that is another one each time and printed; FIRST=0 to choose it, HISTORIES=1000 for fewer.
HISTORIES ?= 1000000
FIRST ?= $(shell date +%s)000000
simulate:
	WITHHELD_SIMULATIONS=$(HISTORIES) WITHHELD_SIMULATION_FIRST=$(FIRST) \
	  cargo test --locked --test simulation histories -- --nocapture

# The fuzz targets, led by coverage, each for so many MINUTES; TARGETS="certificates jwts" for some of them: fuzz/README.md.
MINUTES ?= 1
fuzz:
	scripts/fuzz $(MINUTES) $(TARGETS)

# Formatting, lints, docs, proto files, scripts, licences, unused dependencies. Changes nothing outside target/, where it
# first installs its tools.
tools = target/tools/python/bin
verify:
	scripts/install-verify-tools
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	$(tools)/buf format --diff --exit-code proto
	$(tools)/buf lint proto
	$(tools)/shellcheck .ci/run $(wildcard scripts/install-*-deps scripts/install-*-tools) scripts/python-env scripts/apt-install scripts/go-tool scripts/soak scripts/fuzz scripts/build-client scripts/build-old-program scripts/engine-namespace
	$(tools)/ruff check --no-cache --quiet
	$(tools)/ruff format --no-cache --quiet --diff
	target/tools/cargo/bin/cargo-deny --locked check bans licenses sources
	target/tools/cargo/bin/cargo-machete --skip-target-dir

# Lint all of deploy/ with real tools, and run the alerts' unit tests. Installs the tools under target/tools first.
verify-deploy:
	scripts/install-deploy-tools
	scripts/verify-deploy

# Run what deploy/ describes on this machine, without containers, and break some of it.
try-deploy:
	scripts/install-deploy-tools
	scripts/install-test-deps
	cargo build --locked
	target/test-venv/bin/python scripts/try-deploy

# Build the image, run deploy/compose with it in a Docker Engine of its own, and break some of it. Takes root, a Debian-like
# machine and a quarter of an hour; ROUNDS=quick to put in target/debug/withheld instead of compiling it in the image.
try-image:
	scripts/install-image-tools
	scripts/try-image $(if $(filter quick,$(ROUNDS)),--quick)

# Load tests by ghz, on both journals: deploy/ghz. Takes about six minutes; ROUNDS=quick, one, to see that it works.
load:
	scripts/install-load-tools
	scripts/install-test-deps
	cargo build --release --locked
	target/tools/load-python/bin/python scripts/load $(if $(filter quick,$(ROUNDS)),--quick)

# A rolling restart, a failover and a Redis outage under ghz's load, counted, with the dashboard drawn from a Prometheus.
load-faults:
	scripts/install-load-tools prometheus
	scripts/install-test-deps
	cargo build --release --locked
	target/tools/load-python/bin/python scripts/load-faults

# Play the events of February 2021 against the service that runs, or one of its own.
demo:
	scripts/demo

# Measure the figures of the README on this machine, into benches/FIGURES.md: the service against a stock tonic server and
# against Redis, in turn, on a core of its own. Takes about half an hour; ROWS="check batch" for some of them, which are
# only printed.
bench:
	scripts/install-test-deps
	cargo bench --locked --bench figures -- $(ROWS)

# Count the instructions of the hot paths, and fail where one takes more than it may: benches/instructions.
instructions:
	scripts/install-instruction-tools
	cargo bench --locked --profile dev --bench instructions -- $(PATHS)
