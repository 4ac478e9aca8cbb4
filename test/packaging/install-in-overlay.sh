#!/bin/bash
# Installs, uses, upgrades, removes a package in a copy of this machine's file system that is thrown away.
#   unshare --mount bash install-in-overlay.sh PACKAGE NODE
# Answers on stdout: lines `NAME: value`, for the test to look at.
set -euo pipefail
package=$1 node=$2
base=$(mktemp -d)
# In this mount namespace alone, which goes with this process.
mount --make-rprivate /
mount -t tmpfs overlay "$base"
mkdir "$base"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
trap 'cd /; umount -lR "$base" && rmdir "$base"' EXIT
root=$base/root
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
inside() { chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 NO_COLOR=1 "$@"; }
say() { printf '%s: %s\n' "$1" "$2"; }

# What this machine may have of an installation of its own.
rm -rf "$root"/etc/sallyport "$root"/var/lib/sallyport "$root"/usr/lib/sallyport
for name in relay agent gateway; do
  inside userdel "sallyport-$name" 2>/dev/null || true
done
mkdir -p "$root/package"
cp "$package" "$root/package/sallyport.deb"
# A runtime that no package brought is made known to dpkg.
if ! inside dpkg-query -W nodejs >/dev/null 2>&1; then
  mkdir -p "$base/work.nodejs/DEBIAN"
  printf 'Package: nodejs\nVersion: %s\nArchitecture: all\nMaintainer: test <test@localhost>\nDescription: stands for %s\n' \
    "$("$node" -p 'process.versions.node')" "$node" >"$base/work.nodejs/DEBIAN/control"
  dpkg-deb --build "$base/work.nodejs" "$root/package/nodejs.deb" >/dev/null
  inside dpkg -i /package/nodejs.deb >/dev/null
  [[ -e $root/usr/bin/node ]] || ln -s "$node" "$root/usr/bin/node"
fi

# The index of all manual pages takes longer than the package.
rm -f "$root/var/lib/man-db/auto-update"

# Files, and folders that this machine has not; what is only deleted is a device in the upper layer. Of the package's own
# names all: a root's `sallyport up` from a home that others cannot enter makes /var/lib/sallyport on this machine too.
snapshot() {
  (
    cd "$base/upper"
    find . ! -type d ! -type c
    find . -mindepth 1 -type d | while read -r folder; do [[ -d /$folder && $folder != *sallyport* ]] || echo "$folder"; done
  ) | sort
}
snapshot >"$base/before"

install_it() { inside dpkg --force-unsafe-io -i /package/sallyport.deb >"$base/dpkg.log" 2>&1 || { cat "$base/dpkg.log" >&2; return 1; }; }
install_it
say version "$(inside sallyport --version)"
say help "$(inside sallyport --help | head -n 1)"
say user "$(inside getent passwd sallyport-agent | cut -d: -f6,7)"
say empty "$(inside runuser -u sallyport-agent -- sallyport agent -c /etc/sallyport/agent.yaml 2>&1 | tail -n 1)"
say policy "$(inside sallyport policy inspect /usr/lib/sallyport/policies/dist/default.tar.gz --json | head -c 1)"
say postgres "$(inside sallyport up --state /package/state 2>&1 | tail -n 1)"
say manual "$(inside man -w sallyport 2>&1 || true)"
say completion "$(inside bash -c 'source /usr/share/bash-completion/completions/sallyport; COMP_WORDS=(sallyport agent inst); COMP_CWORD=2; _sallyport; echo "${COMPREPLY[*]}"')"
say units "$(inside systemd-analyze verify --man=no /usr/lib/systemd/system/sallyport-{relay,agent,gateway}.service 2>&1 | grep sallyport || true)"
say sums "$(inside dpkg --verify sallyport)"

# An administrator's own, which another installation leaves alone.
echo 'name: agent-7' >>"$root/etc/sallyport/agent.yaml"
echo secret >"$root/etc/sallyport/audit.key"
inside install -d -o sallyport-agent -m 0700 /var/lib/sallyport/agent
inside install -o sallyport-agent -m 0600 /dev/null /var/lib/sallyport/agent/evidence
owner=$(inside id -u sallyport-agent)
install_it
say again "$(tail -n 1 "$root/etc/sallyport/agent.yaml")"
[[ $owner == "$(inside id -u sallyport-agent)" ]] && say owner same

# What dpkg, passwd, man and systemd-analyze keep for themselves.
own='^\./(var/lib/dpkg|var/log|var/cache|etc/(passwd|group|shadow|gshadow|subuid|subgid|\.pwd\.lock)|package|run|tmp)'
left() { snapshot | comm -13 "$base/before" - | grep -vE "$own" | tr '\n' ' '; }
inside dpkg -r sallyport >/dev/null 2>&1
say removed "$(left)"
say purging "$(inside dpkg -P sallyport 2>&1 | grep -c '^sallyport: ')"
say purged "$(left)"
say kept "$(inside id -un sallyport-agent)"

rm -r "$root/var/lib/sallyport" "$root/etc/sallyport"
install_it
inside dpkg -P sallyport >/dev/null 2>&1
say nothing "$(left)"
say users "$(inside getent passwd | grep -c '^sallyport-' || true)"
