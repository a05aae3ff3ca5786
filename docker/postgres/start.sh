#!/bin/sh
# start.sh postgres [OPTION...]: the image's own start, unless the first one was cut off in the middle.
#
# The image takes a folder that it began to make for one that it has made, and a server comes up without the
# database, or without its rules for who may connect. Nothing was stored in it yet.
set -eu
: "${PGDATA:=/var/lib/postgresql/data}"
if [ -e "$PGDATA/PG_VERSION" ] && [ ! -e "$PGDATA/set-up-is-complete" ]; then
    echo "The first start of this server was cut off, and nothing was stored yet: docker compose down -v, then up." >&2
    exit 1
fi
exec docker-entrypoint.sh "$@"
