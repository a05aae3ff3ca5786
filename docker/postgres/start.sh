#!/bin/sh
# start.sh postgres [OPTION...]: the image's own start, unless the first one was cut off in the middle.
#
# The image takes a folder that it began to make for one that it has made, and a server comes up without the
# database, or without its rules for who may connect. A folder that was brought from elsewhere has no mark either,
# so nothing is said here that would remove one.
set -eu
: "${PGDATA:=/var/lib/postgresql/data}"
if [ -e "$PGDATA/PG_VERSION" ] && [ ! -e "$PGDATA/set-up-is-complete" ]; then
    echo "The folder of this server ($(hostname): $PGDATA) is not marked as whole. If its very first start was cut" \
        "off, remove this one service and its one volume, and no other: docker compose rm -sf SERVICE, then" \
        "docker volume rm PROJECT_SERVICE. If it holds a database, mark it: touch $PGDATA/set-up-is-complete." >&2
    exit 1
fi
exec docker-entrypoint.sh "$@"
