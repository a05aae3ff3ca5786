#!/bin/sh
# start.sh [OPTION...]: a Redis whose only users are those of the secrets, each with its rules from USER_name.
#
# A secret whose name holds redis_url is the URL of one user; the server is told a hash of its password.
set -eu
umask 077
secrets=${SECRETS_FOLDER:-/run/secrets}
users=${RUN_FOLDER:-/tmp}/users.acl

{
    # Nobody logs in as it. But a server that starts runs its append-only file as this user, and transactions
    # that it may not run are lost: so it is off, and may do everything.
    echo "user default off resetpass ~* &* +@all"
    # Whoever can reach the port may ask whether it lives, and nothing else: for health checks.
    echo "user health on nopass resetkeys resetchannels -@all +ping"
    for secret in "$secrets"/*redis_url*; do
        grep -q '^redis://[^:]*:[^@]*@' "$secret" || {
            echo "$secret is no URL with a user and a password: remove that file of secrets/ and run make secrets." >&2
            exit 1
        }
        login=$(sed -e 's,^redis://,,' -e 's,@.*,,' "$secret")
        name=${login%%:*}
        hash=$(printf '%s' "${login#*:}" | sha256sum | cut -d ' ' -f 1)
        allowed=$(printenv "USER_$name") || {
            echo "The user $name of $secret has no rules: set USER_$name in compose.yaml." >&2
            exit 1
        }
        echo "user $name on #$hash resetkeys resetchannels -@all $allowed"
    done
} > "$users"

exec redis-server --aclfile "$users" --protected-mode no --databases 1 --dir "${DATA_FOLDER:-/data}" \
    --maxmemory-policy noeviction --appendonly yes --appendfsync everysec --save "" "$@"
