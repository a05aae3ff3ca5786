#!/bin/sh
# start.sh COMMAND, or provision, or alive worker|scheduler: Redash, which takes its secrets from the environment
# only. They are put there here, where `docker inspect` and `docker compose config` do not show them.
set -eu
secret() { cat "/run/secrets/$1"; }

REDASH_DATABASE_URL=$(secret redash_database_url)
REDASH_REDIS_URL=$(secret redash_redis_url)
REDASH_COOKIE_SECRET=$(secret redash_cookie_secret)
REDASH_SECRET_KEY=$(secret redash_secret_key)
export REDASH_DATABASE_URL REDASH_REDIS_URL REDASH_COOKIE_SECRET REDASH_SECRET_KEY

case $1 in
    # Makes the tables of a new database, and brings those of an older Redash to this one's.
    create_db) /app/manage.py database create_tables && set -- /app/manage.py db upgrade ;;
    provision) set -- python /opt/infamous/provision.py ;;
    alive) set -- python /opt/infamous/alive.py "$2" ;;
esac
exec /app/bin/docker-entrypoint "$@"
