#!/bin/sh
# Installs a browser that tests can drive (100 MB) with apt where that can work without asking; exit status 1 where its
# driver is still missing.
exec "$(dirname "$0")/install_by_apt.sh" chromedriver chromium chromium-driver
