#!/bin/sh
# Installs Icarus Verilog with apt where that can work without asking: as root, or with sudo that wants no password.
# Says nothing where iverilog is there already; exit status 1 where it is still missing.
command -v iverilog >/dev/null && exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null && timeout 10 $as_root true 2>/dev/null; then
    echo "installing Icarus Verilog with apt"
    export DEBIAN_FRONTEND=noninteractive
    { $as_root timeout 120 apt-get -qq update && $as_root timeout 300 apt-get -qq install -y --no-install-recommends iverilog; } >/dev/null 2>&1
fi
command -v iverilog >/dev/null
