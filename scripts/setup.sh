#!/usr/bin/env bash
# Make .venv ready: locked dependencies and this package. Does nothing when it is ready already.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
stamp=.venv/.lago-setup
want=$(cat requirements.lock pyproject.toml scripts/setup.sh | "$python" -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
want="$want $PWD"
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "setup: found $("$python" --version), expected Python 3.11 or newer; run again with PYTHON=/path/to/python3.11" >&2
  exit 2
}
started=$(date +%s)
echo "setup: installing into .venv (about 600 MB to download, once)" >&2
rm -f "$stamp"
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
.venv/bin/python -m pip install -q 'uv>=0.9'

# torch without gigabytes of CUDA: from a local wheel folder where pip has one, else from PyTorch's CPU index on Linux
# without an NVIDIA driver, else as the registry has it (macOS and Windows builds are CPU builds already).
# uv does not read pip's configuration, so hand the wheel folder on. An explicit UV_TORCH_BACKEND wins.
links=${PIP_FIND_LINKS:-$(.venv/bin/python -m pip config get global.find-links 2>/dev/null || true)}
[ -n "$links" ] && export UV_FIND_LINKS=${UV_FIND_LINKS:-$links}
index=${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}
[ -n "$index" ] && export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
backend=()
if [ -z "${UV_TORCH_BACKEND:-}" ] && [ -z "${UV_FIND_LINKS:-}" ] && [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then
  backend=(--torch-backend=cpu)
fi
install=(.venv/bin/uv pip install -q --python .venv/bin/python --compile-bytecode ${backend[@]+"${backend[@]}"} -r requirements.lock -e '.[dev]')
if ! "${install[@]}"; then
  echo "setup: uv could not finish, trying plain pip" >&2
  .venv/bin/python -m pip install -q -r requirements.lock -e '.[dev]'
fi
# openpi's client asks for NumPy 1 and runs with 2: tests have it ask our service, unchanged.
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps openpi-client==0.1.2 || .venv/bin/python -m pip install -q --no-deps openpi-client==0.1.2
echo "$want" > "$stamp"
echo "setup: ready in $(($(date +%s) - started)) s" >&2
