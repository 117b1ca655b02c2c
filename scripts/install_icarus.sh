#!/bin/sh
# Installs Icarus Verilog with apt where that can work without asking; exit status 1 where iverilog is still missing.
exec "$(dirname "$0")/install_by_apt.sh" iverilog iverilog
