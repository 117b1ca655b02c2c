#!/bin/sh
# install_by_apt.sh COMMAND PACKAGE...: installs packages with apt where that can work without asking: as root, or with sudo
# that wants no password. Says nothing where the command is there already; exit status 1 where it is still missing.
wanted=$1
shift
command -v "$wanted" >/dev/null && exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null && timeout 10 $as_root true 2>/dev/null; then
    echo "installing $* with apt"
    export DEBIAN_FRONTEND=noninteractive
    { $as_root timeout 120 apt-get -qq update && $as_root timeout 300 apt-get -qq install -y --no-install-recommends "$@"; } >/dev/null 2>&1
fi
command -v "$wanted" >/dev/null
