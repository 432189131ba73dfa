#!/bin/sh
# Starts a gateway for peers.py, which gives its orders in the environment:
# PORT BACKEND BACKUP WORKERS TLS_CERT TLS_KEY CLIENT_CA.
#
# SUIYUE_BIN   the binary (default: target/dist/suiyue)
# REGIONS      how many regions have static nodes (default 1; 340: every city)
# HEALTH       how nodes are checked: tcp, grpc or none. Default: grpc where a BACKUP says that the
#              part is about failing over (its backends are tonic's), else tcp: the fast backend
#              answers every stream alike, and a check over gRPC would read nonsense
# The region: calls without one go to Guangzhou; peers_with_region.py sends the header instead.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
suiyue=${SUIYUE_BIN:-$here/../../target/dist/suiyue}
health=${HEALTH:-${BACKUP:+grpc}}
dir=$(mktemp -d "${TMPDIR:-/tmp}/suiyue-candidate.XXXXXX")
config=$dir/gateway.toml

node() { # name region port role scopes
    cat <<EOF
[[node]]
name = "$1"
region = $2
role = "$4"
scopes = [$5]
addresses = ["127.0.0.1:$3"]
health = "${health:-tcp}"
EOF
}

{
    cat <<EOF
id = "candidate"
listen = "127.0.0.1:$PORT"
control = "127.0.0.1:0"
admin = "127.0.0.1:0"
workers = $WORKERS
default_region = 440100
[registry]
kind = "none"
[[method]]
path = "/echo.Echo/Unary"
class = "scan"
idempotency = "idempotent"
access = "public"
shape = "unary"
EOF
    node suikang 440100 "$BACKEND" city 440100
    if [ -n "$BACKUP" ]; then node yuekang 440000 "$BACKUP" province "440000, 440100"; fi
    # Other cities, then provinces, from the table of regions: same backend, never called, always checked.
    awk -F'\t' -v want="$((${REGIONS:-1} - 1))" '
        $1 != $3 || $1 == 440100 || $1 == 440000 { next }
        $2 == "prefecture" { city[++cities] = $1 }
        $2 == "province" { province[++provinces] = $1 }
        END {
            for (i = 1; i <= cities && n < want; i++) { n++; print city[i], "city" }
            for (i = 1; i <= provinces && n < want; i++) { n++; print province[i], "province" }
        }
    ' "$here/../../proto/data/divisions.tsv" | while read -r region role; do
        node "node-$region" "$region" "$BACKEND" "$role" "$region"
    done
    if [ -n "$TLS_CERT" ]; then
        # A key that others may read is refused, and that of peers.py is one.
        install -m 600 "$TLS_KEY" "$dir/key.pem"
        printf '[tls]\ncert = "%s"\nkey = "%s"\n' "$TLS_CERT" "$dir/key.pem"
        if [ -n "$CLIENT_CA" ]; then printf 'client_ca = "%s"\n' "$CLIENT_CA"; fi
    fi
} >"$config"
exec "$suiyue" gateway --config "$config"
