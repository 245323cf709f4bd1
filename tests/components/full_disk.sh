#!/bin/sh
# full_disk.sh FOLDER SIZE COMMAND…: runs the command where FOLDER is a disk of its own of that size.
# Started by `unshare --user --map-root-user --mount`, so it needs no rights and leaves nothing.
set -eu
folder=$1 size=$2
shift 2
mount -t tmpfs -o "size=$size" headrace-full-disk "$folder"
exec "$@"
