.PHONY: run test verify demo

# Build the release and serve on loopback with the SQLite journal under withheld-data/.
run:
	cargo run --release --locked -- serve

# The whole test suite; first installs what the tests need and the machine lacks.
test:
	scripts/install-test-deps
	cargo test --locked

# Formatting, lints, docs. Changes nothing.
verify:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# Play the events of February 2021 against a running service.
demo:
	scripts/demo
