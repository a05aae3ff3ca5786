# Last of what is run once, when the server's folder is made: from here on the folder is whole.
touch "$PGDATA/set-up-is-complete"
