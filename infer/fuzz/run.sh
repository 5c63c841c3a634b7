#!/usr/bin/env bash
# Fuzzes one target for some seconds: ./run.sh TARGET SECONDS [FLAG OF LIBFUZZER ...]
#
# Inputs that reach new code are kept in corpus/TARGET, and what fails in artifacts/TARGET.
set -euo pipefail
cd "$(dirname "$0")"
target=$1 seconds=$2
shift 2

case $target in
    service) words=service ;;
    azure_answers | virtual_azure) words=azure ;;
    config | control_config | recordings | tokens | world) words=toml ;;
    *) words=json ;;
esac

# One input may take 10 s, one allocation 256 MiB and all of them 2 GiB. The code is safe Rust, so
# sanitizers would slow it down and find nothing; checks of overflow and assertions are on.
mkdir -p "corpus/$target"
cargo +nightly fuzz run --fuzz-dir . --sanitizer none "$target" "corpus/$target" "seeds/$target" -- \
    "-max_total_time=$seconds" "-dict=dictionaries/$words.dict" -max_len=16384 \
    -timeout=10 -malloc_limit_mb=256 -rss_limit_mb=2048 -print_final_stats=1 "$@"
