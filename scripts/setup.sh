# Sourced by the other scripts: installs what is missing on a Debian 12 with
# Rust, and says so. Puts the project's own Python tools first in PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -E env "PATH=$PATH" "$@"; fi; }

# Reads lines "PROBE PACKAGE"; a probe is a command or a path.
need_packages() {
  local missing=() probe package
  while read -r probe package; do
    [ -e "$probe" ] || command -v "$probe" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
}

# The stock AWS CLI and boto3, and a deploy script that people use, in a virtual
# environment below target/.
need_aws() {
  local venv=target/venv
  if [ ! -x "$venv/bin/aws" ] || [ ! -x "$venv/bin/ecs" ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages <<<"/nonexistent python3-venv"
    say "installing the AWS CLI, boto3 and ecs-deploy into $venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
      awscli==1.45.11 boto3==1.43.11 botocore==1.43.11 ecs-deploy==1.17.0
  fi
  PATH="$PWD/$venv/bin:$PATH"
  export PATH
}

need_base() {
  need_packages <<'LIST'
cc gcc
make make
python3 python3
pip3 python3-pip
curl curl
ip iproute2
/bin/busybox busybox-static
LIST
  if ! command -v cargo >/dev/null; then
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    command -v cargo >/dev/null || { echo "Rust is missing: install its stable toolchain with rustup first"; exit 1; }
  fi
}
