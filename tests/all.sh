#!/usr/bin/env bash
# Everything the continuous integration runs, in one command. On Debian as root it installs the tools that the kernel
# tests need; without root those tests print KNET-SKIP and the rest runs.
#
#   KNET_ALLOW_SKIP  tests that may be skipped: names separated by blanks, or `all` (default outside CI)
#   KNET_FUZZ        broken snapshots to try (default 600); KNET_FUZZ_ITERS: broken artifacts (default 20000)
#   KNET_FUZZ_SECONDS  how long libFuzzer looks for an artifact that a parser cannot stand (default 40)
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

# What the kernel tests run, and a compiler for libFuzzer. procps has sysctl, util-linux has unshare. The second line is
# for the virtual machine; its kernel is a package that the test downloads and unpacks, and does not install.
packages=(g++ iproute2 iptables nftables ipset conntrack ethtool procps util-linux
  qemu-system-x86 busybox-static cpio ipvsadm wireguard-tools bird2 frr)
programs=(c++ ip iptables-nft-save nft ipset conntrack ethtool sysctl unshare
  qemu-system-x86_64 busybox cpio ipvsadm wg bird vtysh)
export PATH="$PATH:/usr/sbin:/sbin"
missing=()
for program in "${programs[@]}"; do command -v "$program" >/dev/null || missing+=("$program"); done
# The machine has no libraries for it: Debian's `busybox` is another one than its `busybox-static`.
if ldd "$(command -v busybox)" >/dev/null 2>&1; then missing+=("busybox without libraries"); fi
if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "installing ${packages[*]} (missing: ${missing[*]})"
    apt-get update -q
    # The tests start routing daemons in namespaces of their own; this machine is no router.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod +x "$policy"
    else
      policy=
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
    if [[ -n $policy ]]; then rm -f "$policy"; fi
  else
    say "not installed: ${missing[*]} (kernel tests that need them will be skipped)"
  fi
fi

# kubectl is a package of Debian and not of everybody; a newer one that is there is taken.
if ! command -v kubectl >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  say "installing kubectl"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends kubernetes-client || true
fi

# The toolchain may come without these two.
if command -v rustup >/dev/null; then rustup component add rustfmt clippy >/dev/null 2>&1 || true; fi

say "format"
cargo fmt --all --check
say "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
say "build"
cargo build --workspace --locked

log=$(mktemp)
trap 'rm -f "$log"' EXIT
say "tests"
failed=0
# Lines that tests print are read below, so their output is shown; each test binary runs its tests in parallel.
KNET_FUZZ="${KNET_FUZZ:-600}" KNET_FUZZ_ITERS="${KNET_FUZZ_ITERS:-20000}" \
  cargo test --workspace --locked --no-fail-fast -- --nocapture 2>&1 | tee "$log" || failed=1

# The client runs where there is no Linux, and the agent on other machines. A check links nothing, so the C of ring is
# not compiled: no cross toolchain is needed.
say "other platforms"
stub=$(mktemp -d)
trap 'rm -rf "$log" "$stub"' EXIT
printf '#!/bin/sh\n' >"$stub/cc"
printf '#!/bin/sh\n: >"$2"\n' >"$stub/ar"
chmod +x "$stub/cc" "$stub/ar"
check() { # name, target, arguments
  local name=$1 target=$2
  shift 2
  if ! { command -v rustup && rustup target add "$target"; } >/dev/null 2>&1; then
    echo "KNET-SKIP $name: no standard library for $target" | tee -a "$log"
    return
  fi
  if env "CC_${target//-/_}=$stub/cc" "AR_${target//-/_}=$stub/ar" cargo check --locked --target "$target" --target-dir target/other "$@"; then
    echo "KNET-RAN $name $target" | tee -a "$log"
  else
    failed=1
  fi
}
check platform_windows x86_64-pc-windows-gnu
check platform_macos aarch64-apple-darwin
check platform_agent aarch64-unknown-linux-musl --no-default-features

say "fuzzing"
if command -v c++ >/dev/null; then
  (
    cd explain/snapshot/fuzz
    mkdir -p target/corpus
    cargo run --release --locked -- -max_total_time="${KNET_FUZZ_SECONDS:-40}" -print_final_stats=1 -verbosity=0 \
      -artifact_prefix=target/ target/corpus ../tests/samples ../tests/samples/cluster
  ) 2>&1 | tee -a "$log" || failed=1
  inputs=$(grep -aoE 'number_of_executed_units: [0-9]+' "$log" | grep -oE '[0-9]+$' || true)
  if [[ -n $inputs ]]; then echo "KNET-RAN fuzz_artifact $inputs inputs" >>"$log"; else failed=1; fi
else
  echo "KNET-SKIP fuzz_artifact: no C++ compiler" | tee -a "$log"
fi

say "what ran"
grep -ahoE 'KNET-(RAN|TRUTH) .*' "$log" | sort | awk '{ printf "%-6s %-58s %s\n", tolower(substr($1, 6)), $2, $3 }' || true
skipped=$(grep -ahoE 'KNET-SKIP [^ :]+:? ?.*' "$log" | sort -u || true)
unexpected=0
while read -r _ name reason; do
  [[ -n ${name:-} ]] || continue
  name=${name%:}
  allowed=" ${KNET_ALLOW_SKIP-all} "
  if [[ $allowed == *" all "* || $allowed == *" $name "* ]]; then
    printf 'skip   %-58s %s\n' "$name" "$reason"
  else
    printf 'SKIP   %-58s %s (not in KNET_ALLOW_SKIP)\n' "$name" "$reason"
    unexpected=1
  fi
done <<<"$skipped"
if ((unexpected)); then say "a test was skipped that should have run"; fi
if ((failed)); then say "a test failed"; fi
((!unexpected && !failed)) || exit 1
say "all passed"
