#!/usr/bin/env bash
# Make sure that the real LiteLLM proxy is there for the tests of gateways, in .cache/gateways and not beside the product.
set -euo pipefail
cd "$(dirname "$0")/.."
made=.cache/gateways
wanted=$(sha256sum requirements-gateways.txt | cut -c1-16)
mkdir -p .cache
exec 9>"$made.lock"
flock 9
if [ "$(cat "$made/.made" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
echo "Installing the LiteLLM proxy for the tests of gateways ..."
rm -rf "$made"
"${PYTHON:-.venv/bin/python}" -m venv "$made"
"$made/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements-gateways.txt
echo "$wanted" > "$made/.made"
