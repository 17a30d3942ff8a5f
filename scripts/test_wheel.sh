#!/usr/bin/env bash
# Builds the wheel, installs it into an environment of its own, and uses it outside the checkout.
#   scripts/test_wheel.sh PYTHON     PYTHON builds the wheel and makes the environment
set -euo pipefail
python="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
cd "$(dirname "$0")/.."
photo="$PWD/examples/cat.jpg"
outside="$(mktemp -d)"
trap 'rm -rf "$outside"' EXIT

"$python" -m pip wheel --quiet --no-deps --wheel-dir "$outside" .
"$python" -m venv "$outside/venv"
"$outside/venv/bin/python" -m pip install --quiet "$outside"/*.whl
cd "$outside"
venv/bin/zoo classify "$photo"
venv/bin/zoo classify "$photo" --top 3 --json | grep -q '"tiger cat"'
venv/bin/python - <<'EOF'
import zoo, zoo_kernels, zoo_pretrained

for package in (zoo, zoo_kernels, zoo_pretrained):
    assert "site-packages" in package.__file__, package.__file__
EOF
