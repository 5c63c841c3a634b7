# The checks, cheapest first. `just` alone lists them; `just ci` is what CI runs.

set shell := ["bash", "-euo", "pipefail", "-c"]

# The Python that has notebooks/requirements.txt installed.
python := env("PYTHON", "python3")

# List the recipes
[private]
default:
    @{{ just_executable() }} --list --unsorted

# Formatting
fmt:
    cargo fmt --all --check

# Spelling, American
typos:
    typos

# Dependencies: bans, licenses, sources, and a lock file that is up to date
deny:
    cargo deny --locked check --hide-inclusion-graph bans licenses sources
    # The service links neither burn nor polars, not even through `models`.
    tree=$(cargo tree --locked -p infer -e normal --prefix none); ! grep -E '^(burn|polars) ' <<< "$tree"

# Lints on every target, warnings denied
clippy:
    cargo clippy --workspace --all-targets -- -D warnings

# Documentation builds without a warning
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# All tests
test:
    cargo test --workspace

# The results notebook, top to bottom, on the smallest quickstart
notebook:
    #!/usr/bin/env bash
    set -euo pipefail
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    # Tell a missing package before the build, not after it.
    {{ python }} -c 'import altair, ipykernel, nbclient, nbconvert, polars' || {
        echo "notebook: run: {{ python }} -m pip install -r notebooks/requirements.txt" >&2
        exit 69
    }
    cargo run --bin trainer -- quickstart --smallest --out "$scratch/quickstart"
    RESULTS_DIR="$scratch/quickstart" {{ python }} -m nbconvert --execute --to notebook \
        --ExecutePreprocessor.timeout=300 --output-dir "$scratch" notebooks/01-results.ipynb

# Benchmarks; their figures stand in the README
bench:
    cargo bench

# The twin beside SimGrid, SimPy and a bare kernel, task by task: twin/benches/peers/README.md
peers *args:
    {{ python }} twin/benches/peers/run.py {{ args }}

# The twin against theory, other simulators and recordings: docs/results/validation.md
validation *args:
    {{ python }} twin/tests/validation/run.py {{ args }}

# Kill the service in the middle of load N times; no answer may be missing from its log
kill n="100":
    KILLS={{ n }} cargo test -p infer --test it kill -- --nocapture --test-threads 1

# Known vulnerabilities among the dependencies; fetches the advisory database
advisories:
    cargo deny --locked check advisories

# Everything that a change must pass
ci: fmt typos deny clippy doc test notebook
