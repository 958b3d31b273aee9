#!/usr/bin/env bash
# Runs the steps of README.md on this machine and checks what the unit promises. Changes /etc, /usr and /var: for a
# machine that may be thrown away, booted with systemd. Needs root, openssl, and lethed and lethectl in /usr/bin.
#
#   LETHE_TRY=throw-away   says that the machine is one
set -euo pipefail
cd "$(dirname "$0")"
[ "${LETHE_TRY:-}" = throw-away ] || { echo "set LETHE_TRY=throw-away on a machine that is one" >&2 && exit 64; }
[ ! -e /var/lib/lethe ] || { echo "there is a vault on this machine" >&2 && exit 64; }

PKI=$(mktemp -d)/pki
OPERATOR=$PKI/client-operator.toml
export PKI OPERATOR
example=$PWD/../../keys-example

passed=0
good() {
    passed=$((passed + 1))
    printf 'ok    %s\n' "$*"
}
fail() {
    printf 'FAIL  %s\n' "$*" >&2
    journalctl -u lethed -o cat --no-pager | tail -n 20 >&2
    exit 1
}
# The commands between the fences ```KIND and ``` of README.md, all or the N-th block.
steps() { # steps KIND [N]
    awk -v open="\`\`\`$1" -v n="${2:-0}" '
        $0 == "```" { inside = 0 }
        inside && (n == 0 || at == n)
        $0 == open { inside = 1; at++ }' README.md
}
app() { lethectl --config "$PKI/client-application.toml" --output json "$@"; }
# Until it listens; a bounded wait.
up() {
    for _ in $(seq 100); do
        bash -euc "$(steps 'sh watch')" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    fail "the daemon does not answer"
}
property() { systemctl show lethed.service --property "$1" --value; }

"$example/make-pki.sh" init "$PKI"
cp "$example"/client-*.toml "$PKI"
bash -euxc "$(steps sh)" >/dev/null
up
good "installed and started for the first time"

lethectl --config "$OPERATOR" schema apply "$example/customer.schema.toml" --tenant shop --create-tenant >/dev/null
app record create --tenant shop --type customer >"$PKI/record" <<<'{"name": "Ada Example", "email": "ada@example.com"}'
record=$(grep -o 'tenants/shop/records/[0-9a-f-]*' "$PKI/record")
app record create --tenant shop --type customer >"$PKI/gone" <<<'{"name": "Bo Example", "email": "bo@example.com"}'
app record erase "$(grep -o 'tenants/shop/records/[0-9a-f-]*' "$PKI/gone")" --yes >/dev/null 2>"$PKI/err" ||
    fail "erase: $(<"$PKI/err")"
app record get "$record" | grep -q ada@example.com || fail "the record is not read"
good "a record was stored and read, another erased, under the filters"

main=$(property MainPID)
status() { sed -n "s/^$1:\t*//p" "/proc/$main/status"; }
[ "$(status CapBnd)" = 0000000000000000 ] || fail "it has capabilities"
[ "$(status NoNewPrivs)" = 1 ] || fail "it may gain privileges"
[ "$(status Seccomp)" = 2 ] || fail "its calls are not filtered"
[ "$(status VmLck | tr -dc 0-9)" -ge 64 ] || fail "its keys are not locked"
grep -qE '^Max core file size +0 +0 ' "/proc/$main/limits" || fail "it may leave a core file"
[ "$(stat -c %U "/proc/$main/environ")" = root ] || fail "others of its user may read its memory"
[ "$(property MemorySwapMax)" = 0 ] || fail "it may swap"
good "no capabilities, filtered calls, locked keys, no core, no swap"
[ "$(stat -c '%U %a %F' /run/lethe/metrics.sock)" = "lethe 600 socket" ] || fail "the probes are open to others"
runuser -u lethe -- lethed probe --socket /run/lethe/metrics.sock livez >/dev/null || fail "it is not alive"
! runuser -u nobody -- lethed probe --socket /run/lethe/metrics.sock livez >/dev/null 2>&1 || fail "nobody may ask"
good "the daemon's user may probe it, and no other"
[ "$(stat -c '%U %a' /var/lib/lethe-anchor/anchor)" = "lethe 600" ] || fail "the anchor is open to others"
! runuser -u lethe -- cat /etc/lethe/kek 2>/dev/null || fail "the daemon's user reads the KEK's source"
! runuser -u lethe -- touch /etc/lethe/lethed.toml 2>/dev/null || fail "the daemon's user may change its configuration"
good "the daemon's user reads neither the KEK's source nor changes its configuration"

began=$SECONDS
systemctl stop lethed.service
[ "$(property Result)" = success ] || fail "the stop was no success: $(property Result)"
[ $((SECONDS - began)) -lt 20 ] || fail "the stop took $((SECONDS - began)) s"
[ ! -e /run/credentials/lethed.service/kek ] || fail "the copy of the KEK is still there"
[ ! -e /run/lethe ] || fail "the socket is still there"
good "it stops at once, and the copy of the KEK and the socket go with it"
systemctl start lethed.service
up
app record get "$record" | grep -q ada@example.com || fail "the record is gone after a restart"
good "it starts again without --init"

old=$(lethectl --config "$OPERATOR" key status | sha256sum)
bash -euxc "$(steps 'sh rotate')" >/dev/null
[ "$old" != "$(lethectl --config "$OPERATOR" key status | sha256sum)" ] || fail "the KEK is the old one"
systemctl restart lethed.service
up
app record get "$record" | grep -q ada@example.com || fail "the record is gone after a rotation"
good "the KEK is rotated by a second credential"

rm "$PKI/pki/server.key" "$PKI/pki/server.pem"
"$example/make-pki.sh" server "$PKI" server
bash -euxc "$(steps 'sh renew')" >/dev/null
up
serial=$(openssl x509 -in "$PKI/pki/server.pem" -noout -serial)
# What s_client makes of the end of the connection does not matter here.
served=$(openssl s_client -connect 127.0.0.1:7443 -cert "$PKI/pki/auditor.pem" -key "$PKI/pki/auditor.key" \
    </dev/null 2>/dev/null | openssl x509 -noout -serial) || true
[ "$serial" = "$served" ] || fail "the old certificate is served"
good "a new server certificate is served"

kill -KILL "$(property MainPID)"
sleep 6
up
app record get "$record" | grep -q ada@example.com || fail "the record is gone after a kill"
good "after a kill it comes back by itself"
systemctl stop lethed.service
printf '%d passed, 0 failed\n' "$passed"
