#!/usr/bin/env bash
# Runs the steps of README.md as they stand there, and then what must be refused.
#
#   LETHED, LETHECTL   the binaries (default: those on the PATH)
#   TMPDIR             where the temporary folder is made; where that is not ext4, XFS or tmpfs, E1 is not required
#
# Listens on loopback only, leaves nothing behind, and exits 0 only if every expectation held.
set -euo pipefail
cd "$(dirname "$0")"

lethed=$(command -v "${LETHED:-lethed}") || { echo "no lethed: set LETHED" >&2 && exit 64; }
lethectl=$(command -v "${LETHECTL:-lethectl}") || { echo "no lethectl: set LETHECTL" >&2 && exit 64; }
readonly secs_max=30

work=$(mktemp -d "${TMPDIR:-/tmp}/lethe-keys.XXXXXX")
daemon=
stop_daemon() { # leaves the daemon's exit code in `code`
    code=0
    [ -n "$daemon" ] || return 0
    kill -TERM "$daemon" 2>/dev/null || true
    for _ in $(seq 250); do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$daemon" 2>/dev/null || true
    wait "$daemon" || code=$?
    daemon=
}
# serve NAME COMMAND...: starts it with $work/NAME.log, and waits until it listens.
serve() {
    local log=$work/$1.log
    shift
    : >"$log"
    "$@" >"$log" 2>&1 &
    daemon=$!
    for _ in $(seq 200); do
        grep -q listening "$log" && return 0
        kill -0 "$daemon" 2>/dev/null || fail "the daemon ended"
        sleep 0.1
    done
    fail "the daemon does not listen"
}
clean_up() {
    local status=$?
    [ "$status" -eq 0 ] || tail -n 20 "$work"/*.log "$work/out" >&2 2>/dev/null || true
    stop_daemon
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

# expect WHAT CODE PATTERN COMMAND...: its exit code, and something that it says.
expect() {
    local what=$1 want=$2 pattern=$3 got=0
    shift 3
    timeout "$secs_max" "$@" >"$work/out" 2>&1 </dev/null || got=$?
    [ "$got" -eq "$want" ] || fail "$what: exit code $got instead of $want"
    [ -z "$pattern" ] || grep -qE -- "$pattern" "$work/out" || fail "$what: did not say $pattern"
    good "$what"
}

# The commands between the fences ```KIND and ``` of README.md; the N-th such block.
steps() { # steps KIND N
    awk -v open="\`\`\`$1" -v n="$2" '
        $0 == "```" { inside = 0 }
        inside && at == n
        $0 == open { inside = 1; at++ }' README.md
}

# A copy of the example at a port that is free, with the binaries on the PATH.
mkdir "$work/bin" "$work/example"
ln -s "$lethed" "$work/bin/lethed"
ln -s "$lethectl" "$work/bin/lethectl"
PATH=$work/bin:$PATH
for _ in $(seq 50); do
    port=$((20000 + RANDOM % 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done
for file in *.toml *.cedar make-pki.sh README.md; do
    sed "s/127\.0\.0\.1:7443/127.0.0.1:$port/" "$file" >"$work/example/$file"
done
case $(stat -f -c %T "$work") in
    ext2/ext3 | xfs | tmpfs) ;;
    *) sed -i 's/^require = "e1"/require = "any"/' "$work/example/lethed.toml" ;;
esac
table=$PWD/../docs/OPERATING.md
cd "$work/example"
chmod +x make-pki.sh

# Every key that OPERATING lists stands in the example, in its table.
toml_keys() {
    sed -E 's/^# ([a-z_]+ = ("|[0-9]))/\1/' lethed.toml | awk '
        /^\[/ { gsub(/[][]/, ""); table = $0 == "" ? "" : $0 "."; next }
        /^[a-z_]+ = / { print table $1 }'
}
listed=$(awk '/^## Configuration/ { on = 1; next } /^## / { on = 0 } on && /^\| `[a-z]/' "$table" |
    cut -d '|' -f 2 | grep -oE '[a-z_.]+')
[ -n "$listed" ] || fail "OPERATING lists no key"
missing=$(comm -23 <(sort -u <<<"$listed") <(toml_keys | sort -u))
[ -z "$missing" ] || fail "lethed.toml lacks $missing"
good "lethed.toml has every key that docs/OPERATING.md lists"

expect "step 1 makes identities and the KEK" 0 "made vault" bash -euc "$(steps sh 1)"
expect "step 2 lays the configuration beside them" 0 "" bash -euc "$(steps sh 2)"
expect "the policy and the identities are sound" 0 "8 policies" lethed policy check --config vault/lethed.toml
expect "who may do what is told" 0 "RotateKey" lethed policy table --config vault/lethed.toml
serve first bash -c "exec $(steps 'sh server' 1)"
good "step 3 serves a new vault"
expect "step 4 makes a tenant, a type and the first record" 0 "tenants/shop/records/" bash -euc "$(steps sh 3)"

modes=$(stat -c '%a %n' vault/kek vault/pki/*.key vault/ca/ca.key vault/ca | sort -u)
! grep -vE '^(600 .*|700 vault/ca)$' <<<"$modes" || fail "a secret that others may read: $modes"
[[ $(<vault/kek) =~ ^[0-9a-f]{64}$ ]] || fail "the KEK is not 64 hex digits"
good "keys and KEK are readable for their owner alone"
for leaf in server application operator auditor; do
    openssl verify -x509_strict -CAfile vault/pki/ca.pem "vault/pki/$leaf.pem" >/dev/null ||
        fail "$leaf does not verify"
done
good "openssl verifies every certificate strictly"

before=$(find vault -type f ! -path 'vault/data/*' -exec sha256sum {} + | sort)
expect "init over a folder is refused" 1 "exists" ./make-pki.sh init vault
expect "a KEK over another is refused" 1 "never overwritten" ./make-pki.sh kek vault/kek
expect "a caller over another is refused" 1 "already" ./make-pki.sh client vault application
expect "a name that leaves the folder is wrong usage" 64 "plain name" ./make-pki.sh client vault ../application
expect "a life that no caller accepts is wrong usage" 64 "days" ./make-pki.sh client vault new --days 398
[ "$before" = "$(find vault -type f ! -path 'vault/data/*' -exec sha256sum {} + | sort)" ] ||
    fail "a refusal changed something"
good "a refusal changes nothing"

# client NAME: its configuration for `lethectl`, with the certificate of that name.
client() {
    sed "s/application\.\(pem\|key\)/$1.\1/" vault/client-application.toml >"vault/client-$1.toml"
}
# spoilt NAME EXTENSION...: a caller signed by the true authority, with other extensions than it should have.
spoilt() {
    local name=$1 start=${start--1H} end=${end-+1d}
    shift
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "vault/pki/$name.key"
    printf '%s\n' "basicConstraints = critical, CA:FALSE" "$@" >"$work/extensions"
    openssl req -new -config vault/ca/openssl.cnf -key "vault/pki/$name.key" -subj "/CN=$name" -out "$work/request"
    (cd vault/ca && openssl ca -config openssl.cnf -batch -notext -in "$work/request" -extfile "$work/extensions" \
        -startdate "$(date -u -d "${start/H/ hour}" +%Y%m%d%H%M%SZ)" \
        -enddate "$(date -u -d "${end/d/ day}" +%Y%m%d%H%M%SZ)" -out "../pki/$name.pem") >"$work/ca.log" 2>&1 ||
        fail "$name could not be made"
    chmod 0600 "vault/pki/$name.key"
    client "$name"
}
# A caller that the door does not let in: `lethectl` fails, and says that it was TLS.
shut_out() { # shut_out WHAT NAME
    expect "$1 is refused" 1 "certificate|alert|handshake|TLS" \
        lethectl --config "vault/client-$2.toml" record list --tenant shop
    ! grep -q 'ada@' "$work/out" || fail "$1: a value was shown"
}
uri=URI:spiffe://example.internal/application
spoilt control "subjectAltName = $uri" "extendedKeyUsage = clientAuth"
expect "the control, a good certificate made the same way, is let in" 0 "tenants/shop/records/" \
    lethectl --config vault/client-control.toml record list --tenant shop
spoilt two-uris "subjectAltName = $uri, URI:spiffe://example.internal/operator" "extendedKeyUsage = clientAuth"
shut_out "a certificate of two URIs" two-uris
spoilt dns-too "subjectAltName = $uri, DNS:application.example.internal" "extendedKeyUsage = clientAuth"
shut_out "a certificate of a URI and a DNS name" dns-too
spoilt no-name "extendedKeyUsage = clientAuth"
shut_out "a certificate without a name" no-name
spoilt elsewhere "subjectAltName = URI:spiffe://example.org/application" "extendedKeyUsage = clientAuth"
shut_out "a certificate of another trust domain" elsewhere
spoilt for-servers "subjectAltName = $uri" "extendedKeyUsage = serverAuth"
shut_out "a certificate for servers" for-servers
start=-48H end=-1d spoilt expired "subjectAltName = $uri" "extendedKeyUsage = clientAuth"
shut_out "an expired certificate" expired
start=+24H end=+2d spoilt early "subjectAltName = $uri" "extendedKeyUsage = clientAuth"
shut_out "a certificate that is not valid yet" early

expect "another authority of the same name is made" 0 "made" ./make-pki.sh init other
cp other/pki/application.pem vault/pki/stranger.pem
cp other/pki/application.key vault/pki/stranger.key
client stranger
shut_out "a certificate of another authority" stranger
sed 's/ca\.pem/other-ca.pem/' vault/client-application.toml >vault/client-wary.toml
cp other/pki/ca.pem vault/pki/other-ca.pem
expect "a caller refuses a server of another authority" 1 "certificate|UnknownIssuer" \
    lethectl --config vault/client-wary.toml record list --tenant shop
cat vault/client-application.toml - >vault/client-elsewhere.toml <<<'server_name = "elsewhere"'
expect "a server name that the certificate lacks is refused" 1 "certificate|name" \
    lethectl --config vault/client-elsewhere.toml record list --tenant shop
expect "TLS 1.2 is refused" 1 "alert protocol version" openssl s_client -tls1_2 -connect "127.0.0.1:$port" \
    -CAfile vault/pki/ca.pem -cert vault/pki/application.pem -key vault/pki/application.key

./make-pki.sh client vault billing
client billing
expect "a good certificate that no [[identity]] lists may read nothing" 1 "permission|PERMISSION|denied" \
    lethectl --config vault/client-billing.toml record list --tenant shop
expect "but ask for the vault's health" 0 "" lethectl --config vault/client-billing.toml health
cat >>vault/lethed.toml <<'TOML'

[[identity]]
uri = "spiffe://example.internal/billing"
role = "support"
tenants = ["shop"]
TOML
for _ in $(seq 100); do
    lethectl --config vault/client-billing.toml record list --tenant shop >"$work/out" 2>&1 && break
    sleep 0.1
done
expect "once it is listed it may read, without a restart" 0 "tenants/shop/records/" \
    lethectl --config vault/client-billing.toml record list --tenant shop
! grep -q 'ada@' "$work/out" || fail "support sees what is SENSITIVE"
good "and sees what is SENSITIVE masked"
expect "the operator reads no record" 1 "permission|PERMISSION|denied" \
    lethectl --config vault/client-operator.toml record list --tenant shop
expect "the socket says that calls are served" 0 "ok" lethed probe --socket vault/data/metrics.sock readyz
./make-pki.sh client vault modern --algorithm ed25519
client modern
expect "an Ed25519 key passes the door" 1 "permission|PERMISSION|denied" \
    lethectl --config vault/client-modern.toml record list --tenant shop
./make-pki.sh revoke vault billing
expect "the CRL names what was revoked" 2 "certificate revoked" openssl verify -crl_check \
    -CAfile vault/pki/ca.pem -CRLfile vault/pki/ca.crl vault/pki/billing.pem
expect "the CRL leaves the others alone" 0 "OK" openssl verify -crl_check \
    -CAfile vault/pki/ca.pem -CRLfile vault/pki/ca.crl vault/pki/application.pem

stop_daemon
[ "$code" -eq 0 ] || fail "the daemon ended with $code"
good "the daemon stops when asked to, with exit code 0"
expect "a second --init is refused" 1 "leave out --init" lethed serve --config vault/lethed.toml --init
chmod 0640 vault/kek
expect "a KEK that others may read is refused" 1 "mode 0640" lethed serve --config vault/lethed.toml
chmod 0600 vault/kek
mv vault/kek vault/kek.true && ./make-pki.sh kek vault/kek
expect "another KEK opens nothing" 1 "sealed under KEK" lethed serve --config vault/lethed.toml
mv vault/kek.true vault/kek
chmod 0604 vault/pki/server.key
expect "a server key that everybody may read is refused" 1 "everybody may read" lethed serve --config vault/lethed.toml
chmod 0600 vault/pki/server.key
cat vault/lethed.toml - >vault/typo.toml <<<'plaintext_port = 80'
expect "an unknown key is refused" 1 "plaintext_port.*unknown key" lethed serve --config vault/typo.toml

serve again lethed serve --config vault/lethed.toml
expect "after a restart the record is there" 0 "tenants/shop/records/" \
    lethectl --config vault/client-application.toml record list --tenant shop
! grep -h 'ada@\|Ada Example' "$work/first.log" "$work/again.log" || fail "a value of the record is in a log"
good "no value is in the logs"
stop_daemon
printf '%d passed, 0 failed\n' "$passed"
