#!/bin/sh
# Finds Python >= 3.11, fills .venv from requirements.lock (every package held by its hash) and installs Wojak there.
# Running it again costs nothing while the lock, pyproject.toml and the Python are the same.
# Without make: sh cli/bootstrap.sh && .venv/bin/wojak up --flow
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf '✘ %s\n' "$1" >&2
    exit 2
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=''
for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    if is_new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    was=$(python3 -c 'import platform; print("python3 is " + platform.python_version())' 2>/dev/null) || was='no python3 found'
    fail "Python expected 3.11 or newer, $was; install one (apt install python3.11-venv, brew install python@3.13, pyenv install 3.13) or name it: make run PYTHON=/path/to/python3"
fi

version=$("$python" -c 'import platform; print(platform.python_version())')
wanted="$version $(cksum <requirements.lock) $(cksum <pyproject.toml) $(pwd)"
stamp=.venv/wojak.stamp
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x .venv/bin/wojak ]; then
    printf '✔ Python %s   ✔ environment (locked, ready)\n' "$version"
    exit 0
fi

started=$(date +%s)
printf '… Python %s   setting up .venv from requirements.lock (once, about a minute)\n' "$version"
"$python" -m venv --clear .venv >.venv.log 2>&1 ||
    fail "the environment .venv can't be made: $(tail -n 1 .venv.log); on Debian and Ubuntu: apt install python3-venv (all of it: .venv.log)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock >.venv.log 2>&1 ||
    fail "packages can't be installed: $(grep -m 1 ERROR .venv.log || tail -n 1 .venv.log); is the package registry reachable from here, proxy included? (all of it: .venv.log)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >.venv.log 2>&1 ||
    fail "Wojak can't be installed into .venv: $(tail -n 1 .venv.log) (all of it: .venv.log)"
rm -f .venv.log
printf '%s\n' "$wanted" >"$stamp"
printf '✔ Python %s   ✔ environment (locked, %s s)\n' "$version" "$(($(date +%s) - started))"
