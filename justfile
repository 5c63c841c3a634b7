# The checks, cheapest first. `just` alone lists them; `just ci` is what CI runs.

set shell := ["bash", "-euo", "pipefail", "-c"]

# The Python that has notebooks/requirements.txt installed.
python := env("PYTHON", "python3")

# The Python that has infer/tests/schemathesis/requirements.txt and infer/deploy/requirements.txt.
service_python := env("SERVICE_PYTHON", python)

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

# The running service against its OpenAPI document, with every check of schemathesis
schemathesis *args:
    cargo build -p infer --bin infer
    {{ service_python }} infer/tests/schemathesis/run.py "$({{ just_executable() }} target-dir)/debug/infer" {{ args }}

# The dashboard in headless Chromium; `--out DIR` keeps screenshots
dashboard *args:
    {{ python }} -c 'import playwright' || { echo "dashboard: run: {{ python }} -m pip install -r infer/tests/dashboard/requirements.txt" >&2; exit 69; }
    cargo build -p infer --bin infer
    {{ python }} infer/tests/dashboard/run.py "$({{ just_executable() }} target-dir)/debug/infer" {{ args }}

# The files of infer/deploy: manifests, unit, alerts and their tests; `--all` wants every tool
deploy-files *args:
    {{ service_python }} infer/deploy/check.py {{ args }}

# The alerts and their unit tests alone
promtool:
    promtool check rules infer/deploy/prometheus/alerts.yml
    cd infer/deploy/prometheus && promtool test rules alerts_test.yml

# Size, start-up time and memory of the service, built for release
footprint *args:
    cargo build --locked --release -p infer --bin infer
    {{ python }} infer/benches/footprint.py "$({{ just_executable() }} target-dir)/release/infer" {{ args }}

# Where cargo builds
[private]
target-dir:
    @cargo metadata --no-deps --format-version 1 | {{ python }} -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'

# The virtual Azure with the official clients for Python
azure-python:
    #!/usr/bin/env bash
    set -euo pipefail
    {{ python }} -c 'import azure.identity, azure.mgmt.compute, azure.mgmt.monitor' || {
        echo "azure-python: run: {{ python }} -m pip install -r infer/tests/azure/requirements.txt" >&2
        exit 69
    }
    cargo build -p infer --bin virtual-azure
    target=${CARGO_TARGET_DIR:-target}
    {{ python }} infer/tests/azure/sdk.py "$target/debug/virtual-azure"

# The virtual Azure with azure-cli, a large package: `pip install azure-cli`
azure-cli:
    #!/usr/bin/env bash
    set -euo pipefail
    {{ python }} -c 'import azure.cli' || {
        echo "azure-cli: run: {{ python }} -m pip install -r infer/tests/azure/requirements-cli.txt" >&2
        exit 69
    }
    cargo build -p infer --bin virtual-azure
    target=${CARGO_TARGET_DIR:-target}
    {{ python }} infer/tests/azure/cli.py "$target/debug/virtual-azure"

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

# The control loop on a virtual Azure with faults at a tenth of the calls, 1,000 intervals
control-faults intervals="1000":
    CONTROL_FAULTS_INTERVALS={{ intervals }} cargo test -p infer --test it -- control::faults --nocapture

# The control loop on a virtual Azure beside the loop in process: docs/results/control; 20 minutes
control-loop *args:
    cargo build --locked --release -p infer -p trainer --bins
    {{ python }} infer/tests/control/closed_loop.py --programs "$({{ just_executable() }} target-dir)/release" {{ args }}

# Known vulnerabilities among the dependencies; fetches the advisory database
advisories:
    cargo deny --locked check advisories

# Everything that a change must pass
ci: fmt typos deny deploy-files clippy doc test schemathesis azure-python notebook
