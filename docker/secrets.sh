#!/bin/sh
# Makes the passwords of `docker compose up`: random ones, one for each part, in secrets/, once.
#
# What is there already stays. To change passwords, remove their files, run this again, and let everything
# start anew: rm secrets/database_url_[wjbm]* secrets/redis_url_* && make secrets && docker compose up -d --force-recreate
set -eu
cd "$(dirname "$0")/.."
folder=secrets
made=0
next="docker compose up -d"
# Containers keep the files they were started with: where some were there, all must start anew.
[ ! -d "$folder" ] || [ -z "$(ls "$folder")" ] || next="docker compose up -d --force-recreate"

umask 077
mkdir -p "$folder"
# The folder keeps others on this machine out; inside a container each file is read by a user of its own.
chmod 700 "$folder"

# What containers start with is read by their users, however careful the clone's umask was.
chmod -R a+rX docker

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# secret NAME VALUE: a file that appears whole or not at all.
secret() {
    [ -s "$folder/$1" ] && return
    printf '%s\n' "$2" > "$folder/.$1.$$"
    chmod 444 "$folder/.$1.$$"
    mv -f "$folder/.$1.$$" "$folder/$1"
    made=$((made + 1))
}

# A URL that holds the password of another file goes when that one is made anew.
[ -s "$folder/postgres_password" ] || rm -f "$folder/database_url_superuser"
[ -s "$folder/redash_postgres_password" ] || rm -f "$folder/redash_database_url"

secret postgres_password "$(random)"
secret database_url_superuser "postgresql://postgres:$(cat "$folder/postgres_password")@postgres:5432/infamous"
for part in writer jobs bi migrator; do
    secret "database_url_$part" "postgresql://infamous_$part:$(random)@postgres:5432/infamous"
done
for part in producer consumer operator; do
    secret "redis_url_$part" "redis://$part:$(random)@redis:6379/0"
done
secret rq_redis_url "redis://rq:$(random)@redis-jobs:6379/0"
secret jupyter_token "$(random)"

secret redash_postgres_password "$(random)"
secret redash_database_url "postgresql://postgres:$(cat "$folder/redash_postgres_password")@redash-postgres:5432/redash"
secret redash_redis_url "redis://redash:$(random)@redash-redis:6379/0"
secret redash_cookie_secret "$(random)"
secret redash_secret_key "$(random)"
secret redash_admin_password "$(random)"
# Forty characters, as Redash makes them.
secret redash_api_key "$(random | cut -c1-40)"

# Compose refuses to start until this line says where they are.
touch .env
grep -q '^INFAMOUS_SECRETS=' .env || {
    # A last line without an end would swallow this one.
    [ -z "$(tail -c1 .env)" ] || echo >> .env
    echo "INFAMOUS_SECRETS=./$folder" >> .env
}

if [ "$made" -gt 0 ]; then
    echo "Secrets made: $made, in $folder/. Next: $next"
else
    echo "All secrets are in $folder/ already; nothing was changed."
fi
