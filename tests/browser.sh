#!/usr/bin/env bash
# Make sure that a Chromium is there for the browser journeys; Debian's package where none is found.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "The browser journeys need Chromium; install it with this system's package manager." >&2
  exit 1
fi
echo "Installing Chromium for the browser journeys ..."
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null
