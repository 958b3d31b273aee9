#!/usr/bin/env bash
# Runs the steps of README.md with podman, with the stage that builds replaced by binaries that are there.
#
#   LETHED, LETHECTL   the binaries (default: those on the PATH)
#   DEBIAN_IMAGE       another base, for a machine without docker.io
#   PODMAN             podman with options (default: podman)
#
# Needs root and podman. Leaves no image, container, secret or folder behind.
set -euo pipefail
cd "$(dirname "$0")"
lethed=$(command -v "${LETHED:-lethed}") || { echo "no lethed: set LETHED" >&2 && exit 64; }
lethectl=$(command -v "${LETHECTL:-lethectl}") || { echo "no lethectl: set LETHECTL" >&2 && exit 64; }
command -v podman >/dev/null || { echo "no podman" >&2 && exit 64; }
[ "$(id -u)" -eq 0 ] || { echo "needs root" >&2 && exit 64; }

source=$(cd ../.. && pwd)
read -ra podman <<<"${PODMAN:-podman}"
podman() { command "${podman[@]}" "$@"; }
for name in lethe lethe-first; do
    ! podman container exists "$name" || { echo "there is a container $name already" >&2 && exit 64; }
done
! podman secret inspect lethe-kek >/dev/null 2>&1 || { echo "there is a secret lethe-kek already" >&2 && exit 64; }
work=$(mktemp -d "${TMPDIR:-/tmp}/lethe-container.XXXXXX")
clean_up() {
    local status=$?
    [ "$status" -eq 0 ] || podman logs lethe 2>&1 | tail -n 20 >&2 || true
    # One by one: a name that is not there would keep the other from being removed.
    for name in lethe lethe-first; do podman rm --force --time 5 "$name" >/dev/null 2>&1 || true; done
    podman secret rm lethe-kek >/dev/null 2>&1 || true
    podman rmi lethe:0.1.0 >/dev/null 2>&1 || true
    rm -rf -- "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

passed=0
good() {
    passed=$((passed + 1))
    printf 'ok    %s\n' "$*"
}
fail() {
    printf 'FAIL  %s\n' "$*" >&2
    exit 1
}
# The N-th block of commands between the fences ```KIND and ``` of README.md, without a network.
step() { # step KIND N
    awk -v open="\`\`\`$1" -v n="$2" '
        $0 == "```" { inside = 0 }
        inside && at == n
        $0 == open { inside = 1; at++ }' README.md | sed 's/--publish [0-9.:]*/--network none/'
}
export -f podman
run() {
    local commands
    commands=$(step "$@")
    [ -n "$commands" ] || fail "README.md has no block $*"
    (cd "$source" && bash -euc "$(declare -p podman); $commands")
}
inside() { podman exec --interactive lethe "$@"; }
# Until calls are served; a bounded wait.
up() {
    for _ in $(seq 100); do
        inside lethed probe --socket /run/lethe/metrics.sock readyz >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    fail "the daemon does not answer"
}

export CONF=$work/conf DATA=$work/data ANCHOR=$work/anchor PKI=$work/pki
../../keys-example/make-pki.sh init "$PKI" >/dev/null

# The first stage as a folder of binaries; the second stands as it is.
mkdir -p "$work/context/bin"
cp "$lethed" "$work/context/bin/lethed"
cp "$lethectl" "$work/context/bin/lethectl"
awk '/^FROM .* AS build$/ { print "FROM scratch AS build\nCOPY bin /src/target/release"; skip = 1; next }
    /^FROM / { skip = 0 }
    !skip' Containerfile >"$work/context/Containerfile"
timeout 600 "${podman[@]}" build --format docker --network none --layers=false \
    ${DEBIAN_IMAGE:+--build-arg DEBIAN_IMAGE="$DEBIAN_IMAGE"} \
    -t lethe:0.1.0 -f "$work/context/Containerfile" "$work/context" >"$work/build.log" 2>&1 ||
    { tail -n 20 "$work/build.log" >&2 && fail "the final stage is not built"; }
good "the final stage is built"
[ "$(podman image inspect --format '{{.Config.User}}' lethe:0.1.0)" = 65532:65532 ] || fail "it runs as another user"
podman image inspect --format '{{.Config.Healthcheck.Test}}' lethe:0.1.0 | grep -q 'lethed probe' ||
    fail "no health check"
good "it runs as uid 65532 and has a health check"

run sh 1 >/dev/null
run sh 2 >/dev/null
[ "$(stat -c %s "$ANCHOR/anchor")" = 8192 ] || fail "there is no anchor after the first start"
good "the first start makes the vault"
run sh 3 >/dev/null
up
podman logs lethe 2>&1 | grep -q '"level":"E1' || fail "it does not claim E1"
good "it serves on a read-only root without capabilities, and claims E1"
podman healthcheck run lethe || fail "the health check fails"
good "the health check passes"
kill -STOP "$(podman inspect --format '{{.State.Pid}}' lethe)"
! podman healthcheck run lethe >/dev/null 2>&1 || fail "the health check passes while the daemon hangs"
kill -CONT "$(podman inspect --format '{{.State.Pid}}' lethe)"
good "the health check fails while the daemon hangs"
! inside touch /usr/bin/new 2>/dev/null || fail "the root is writable"
[ "$(inside find / -xdev -type f -perm /6000 2>/dev/null | wc -l)" = 0 ] || fail "there are files that raise privileges"
good "the root is read-only and no file raises privileges"

podman stop lethe >/dev/null
[ "$(podman inspect --format '{{.State.ExitCode}}' lethe)" = 0 ] || fail "it did not stop cleanly"
podman start lethe >/dev/null
up
good "it stops with exit code 0 and starts again"
printf '%d passed, 0 failed\n' "$passed"
