#!/usr/bin/env bash
# Makes and keeps a private certificate authority for one vault, its server and its callers, and a KEK file.
#
# Guarantees: nothing that exists is overwritten, except the CRL by `revoke` and `crl`; private keys and the KEK are
# created with mode 0600 and never appear in an argument; `init` leaves a whole folder or none.
#
# Needs bash, openssl 3.0 or later and GNU date. Run it where the authority's key may lie: not on the vault's machine.
set -euo pipefail
umask 077

readonly usage='usage: make-pki.sh COMMAND [OPTION...]
  init DIR              new authority, server, application, operator, auditor, CRL and KEK in DIR
  server DIR NAME       one more server identity (its names: --dns, --ip)
  client DIR NAME       one more caller, spiffe://TRUST_DOMAIN/NAME
  revoke DIR NAME       revoke what DIR/pki/NAME.pem is and write the CRL anew
  crl DIR               write the CRL anew, before it is too old
  kek FILE              a new KEK file of 64 hex digits

options
  --trust-domain NAME   of init (default example.internal); later commands remember it
  --dns NAME            DNS name of a server, may be repeated (default localhost)
  --ip ADDRESS          IP address of a server, may be repeated (default 127.0.0.1 and ::1)
  --days N              life of leaf certificates, 1 to 397 (default 90)
  --ca-days N           life of the authority, 398 to 7300 (default 3650)
  --algorithm NAME      p256 (default) or ed25519'

# A CRL that is older than this is stale; write it anew at half the time.
readonly crl_days=30
# For peers whose clocks are slow.
readonly clock_skew_secs=300

die() {
    printf 'make-pki.sh: %s\n' "$*" >&2
    exit 1
}

wrong_usage() {
    printf 'make-pki.sh: %s\n%s\n' "$*" "$usage" >&2
    exit 64
}

between() { # between NAME VALUE MIN MAX
    if ! [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || (($2 < $3 || $2 > $4)); then
        wrong_usage "$1 must be $3 to $4"
    fi
}

# As X.509 wants a time, N seconds from now.
utc() { date -u -d "@$(($(date +%s) + $1))" +%Y%m%d%H%M%SZ; }

new_key() { # new_key FILE
    case $algorithm in
        p256) openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" ;;
        ed25519) openssl genpkey -quiet -algorithm ED25519 -out "$1" ;;
    esac
}

# The configuration of `openssl ca`. Every path is relative, so that the folder can be moved to a safe place.
authority_config() {
    cat <<'CONF'
[ca]
default_ca = vault
[vault]
database = index.txt
new_certs_dir = issued
certificate = ca.pem
private_key = ca.key
crlnumber = crlnumber
rand_serial = yes
unique_subject = no
copy_extensions = none
default_md = default
policy = any
[any]
commonName = supplied
[req]
distinguished_name = nothing
[nothing]
CONF
}

openssl_ca() { # openssl_ca DIR ARGUMENT...
    local dir=$1
    shift
    (cd "$dir/ca" && openssl ca -config openssl.cnf -batch -notext "$@")
}

# sign DIR NAME SECONDS EXTENSIONS FILE.KEY FILE.PEM [OPTION...]
sign() {
    local dir=$1 name=$2 life=$3 extensions=$4 key=$5 cert=$6 log
    shift 6
    log=$(mktemp "$dir/ca/log.XXXXXX")
    printf '%s\n' "$extensions" >"$dir/ca/extensions"
    if ! {
        openssl req -new -config "$dir/ca/openssl.cnf" -key "$key" -subj "/CN=$name" -out "$dir/ca/request" &&
            openssl_ca "$dir" "$@" -in request -extfile extensions -out fresh.pem \
                -startdate "$(utc "-$clock_skew_secs")" -enddate "$(utc "$life")"
    } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f -- "$log"
        die "the certificate of $name was not made"
    fi
    install -m 0644 "$dir/ca/fresh.pem" "$cert"
    rm -f -- "$log" "$dir/ca/extensions" "$dir/ca/request" "$dir/ca/fresh.pem"
}

# What the daemon accepts of a caller: one URI and no other name, and the usage of a client.
client_extensions() { # client_extensions URI
    cat <<EXT
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = URI:$1
EXT
}

# Callers look for a DNS name or an address; the URI says which vault it is.
server_extensions() { # server_extensions URI
    local names="URI:$1" name
    for name in "${dns[@]}"; do names+=",DNS:$name"; done
    for name in "${ips[@]}"; do names+=",IP:$name"; done
    cat <<EXT
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $names
EXT
}

# It signs leaves and CRLs, and no further authority.
authority_extensions() {
    cat <<'EXT'
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
EXT
}

leaf() { # leaf DIR NAME client|server
    local dir=$1 name=$2 role=$3 uri
    uri=spiffe://$(<"$dir/ca/trust-domain")/$name
    if [ -e "$dir/pki/$name.key" ] || [ -e "$dir/pki/$name.pem" ]; then
        die "$dir/pki has $name already; move the old files away first"
    fi
    # The key takes its place when there is a certificate for it.
    new_key "$dir/ca/leaf.key"
    sign "$dir" "$name" "$((days * 86400))" "$("${role}_extensions" "$uri")" "$dir/ca/leaf.key" \
        "$dir/pki/$name.pem"
    mv -n -- "$dir/ca/leaf.key" "$dir/pki/$name.key"
}

write_crl() { # write_crl DIR
    local log
    log=$(openssl_ca "$1" -gencrl -crldays "$crl_days" -out fresh.crl 2>&1) || die "no CRL was made: $log"
    # In one step, for a daemon that reads it at this moment.
    chmod 0644 "$1/ca/fresh.crl"
    mv -f -- "$1/ca/fresh.crl" "$1/pki/ca.crl"
}

kek() { # kek FILE
    local digits
    digits=$(openssl rand -hex 32)
    [[ $digits =~ ^[0-9a-f]{64}$ ]] || die "openssl gave no random bytes"
    # noclobber creates the file or fails; printf is the shell's own, so the digits are in no argument list.
    (set -o noclobber && printf '%s\n' "$digits" >"$1") 2>/dev/null ||
        die "$1 exists or cannot be made; a KEK is never overwritten"
}

init() { # init DIR
    local final=$1 dir
    [ ! -e "$final" ] || die "$final exists; name a folder that does not"
    dir=$(mktemp -d "$final.XXXXXX")
    # Half an authority must not stay behind. The path is fixed now: `dir` is gone when the trap runs.
    # shellcheck disable=SC2064
    trap "rm -rf -- $(printf %q "$dir")" EXIT
    mkdir "$dir/ca" "$dir/ca/issued" "$dir/pki"
    printf '%s\n' "$trust_domain" >"$dir/ca/trust-domain"
    authority_config >"$dir/ca/openssl.cnf"
    : >"$dir/ca/index.txt"
    echo 01 >"$dir/ca/crlnumber"
    new_key "$dir/ca/ca.key"
    sign "$dir" "$trust_domain vault authority" "$((ca_days * 86400))" "$(authority_extensions)" \
        "$dir/ca/ca.key" "$dir/ca/ca.pem" -selfsign -keyfile ca.key
    install -m 0644 "$dir/ca/ca.pem" "$dir/pki/ca.pem"
    leaf "$dir" server server
    local name
    for name in application operator auditor; do leaf "$dir" "$name" client; done
    write_crl "$dir"
    kek "$dir/kek"
    mv -nT -- "$dir" "$final"
    [ ! -e "$dir" ] || die "$final appeared meanwhile"
    trap - EXIT
    printf 'made %s for the trust domain %s; %s/ca belongs in a safe place, not beside the vault\n' \
        "$final" "$trust_domain" "$final"
}

trust_domain=example.internal algorithm=p256 days=90 ca_days=3650
dns=() ips=() words=()
while (($#)); do
    case $1 in
        --trust-domain | --dns | --ip | --days | --ca-days | --algorithm)
            (($# > 1)) || wrong_usage "$1 needs a value"
            case $1 in
                --trust-domain) trust_domain=$2 ;;
                --dns) dns+=("$2") ;;
                --ip) ips+=("$2") ;;
                --days) days=$2 ;;
                --ca-days) ca_days=$2 ;;
                --algorithm) algorithm=$2 ;;
            esac
            shift 2
            ;;
        -h | --help)
            printf '%s\n' "$usage"
            exit 0
            ;;
        -*) wrong_usage "unknown option $1" ;;
        *)
            words+=("$1")
            shift
            ;;
    esac
done
# Everything below goes into a configuration of openssl: only what a name may hold is let through.
between --days "$days" 1 397
between --ca-days "$ca_days" 398 7300
[[ $algorithm =~ ^(p256|ed25519)$ ]] || wrong_usage "--algorithm is p256 or ed25519"
[[ $trust_domain =~ ^[a-z0-9._-]{1,255}$ ]] || wrong_usage "--trust-domain has letters a-z, digits, dots, dashes"
if ((${#dns[@]} + ${#ips[@]} == 0)); then
    dns=(localhost) ips=(127.0.0.1 ::1)
fi
for name in "${dns[@]}"; do
    [[ $name =~ ^[A-Za-z0-9._*-]{1,253}$ ]] || wrong_usage "--dns $name is no DNS name"
done
for name in "${ips[@]}"; do
    [[ $name =~ ^[0-9A-Fa-f.:]{2,45}$ ]] || wrong_usage "--ip $name is no address"
done

command=${words[0]-} target=${words[1]-} name=${words[2]-}
case $command in
    init | crl | kek) ((${#words[@]} == 2)) || wrong_usage "$command takes one name" ;;
    server | client | revoke)
        ((${#words[@]} == 3)) || wrong_usage "$command takes a folder and a name"
        [[ $name =~ ^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$ && $name != ca ]] || wrong_usage "NAME is no plain name"
        ;;
    *) wrong_usage "no such command: ${command:-(none)}" ;;
esac
case $command in
    server | client | revoke | crl)
        [ -f "$target/ca/ca.key" ] || die "$target/ca holds no authority's key"
        target=$(cd "$target" && pwd)
        ;;
esac
case $command in
    init) init "$target" ;;
    kek) kek "$target" ;;
    crl) write_crl "$target" ;;
    server | client) leaf "$target" "$name" "$command" ;;
    revoke)
        log=$(openssl_ca "$target" -revoke "../pki/$name.pem" 2>&1) || die "$name was not revoked: $log"
        write_crl "$target"
        ;;
esac
