#!/bin/sh
# SPDX-License-Identifier: MIT
# Fetches the distribution's packages of another architecture and unpacks them into a folder: what the
# test programs are linked and run with there, and a kernel. Nothing is installed, apt and dpkg of this
# machine are left as they are, and no root is needed.
#
#	packages.sh ARCHITECTURE FOLDER     arm64 or amd64
#
# FOLDER/root is what is unpacked, FOLDER/vmlinuz the kernel, FOLDER/kernel the name of its package,
# FOLDER/cross.ini, of arm64, tells Meson where to link.
# Does nothing where all is there. Exit status 3: `apt-get update` was never run. Repositories are those of this machine, with the keys that apt
# has; Ubuntu has other architectures on a server of its own, which is asked for where the name of
# this machine's is the usual one, else SHUNT_PORTS_MIRROR names it.
set -eu
arch=$1 folder=$2
packages="libc6-dev libgcc-s1 libstdc++6 libcmocka-dev libzydis-dev libjansson-dev libiberty-dev
	libprotobuf-c-dev liburcu-dev zlib1g-dev busybox-static python3"
[ "$arch" != amd64 ] || packages="$packages libdw-dev" # for shunt attach

wanted=$(cksum <"$0")
[ "$(cat "$folder/done" 2>/dev/null)" != "$wanted" ] || exit 0
rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/apt/state" "$folder/root"
folder=$(cd "$folder" && pwd)

# shellcheck source=/dev/null
. /etc/os-release
case ${ID-} in
ubuntu) kernel=linux-image-generic origin=Ubuntu ;;
*) kernel=linux-image-$arch origin=Debian ;;
esac

# repositories: those of this machine that are the distribution's, and have this architecture
repositories() {
	apt-get indextargets --format "deb [arch=$arch] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
		'Created-By: Packages' "Origin: $origin" | sort -u |
		if [ "$origin" != Ubuntu ] || [ "$arch" = "$(dpkg --print-architecture)" ]; then
			cat
		else
			sed "s,] [a-z]*://[^/]*\.\(ubuntu\.[a-z]*\)/ubuntu/* ,] ${SHUNT_PORTS_MIRROR-http://ports.\1/ubuntu-ports} ,"
		fi
}
: >"$folder/apt/status"
repositories >"$folder/apt/sources.list"
[ -s "$folder/apt/sources.list" ] ||
	{ echo "packages.sh: apt has no list of a repository of $origin" >&2; exit 3; }

cat >"$folder/apt/conf" <<EOF
APT::Architecture "$arch";
#clear APT::Architectures;
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::Cache "$folder/apt/cache";
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$folder/apt/state";
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
EOF
export APT_CONFIG="$folder/apt/conf"
fetch() { # fetch APT-GET-WORDS...
	apt-get -q "$@" >&2 && return
	echo "packages.sh: what the $arch machine runs cannot be fetched from:" >&2
	sed 's/^deb \[[^]]*\]/	/' "$folder/apt/sources.list" >&2
	echo "packages.sh: without it no test runs there; is there a network?" >&2
	exit 1
}
fetch update
# shellcheck disable=SC2086 # a list of words
fetch -y install --download-only $packages
# Of the kernel without what would install it.
image=$(apt-cache show --no-all-versions "$kernel" | sed -n 's/^Depends:.*\(linux-image-[0-9][^ ,]*\).*/\1/p' | head -n 1)
(cd "$folder/apt" && fetch download "$image")

# As on a system: /lib and the like are links into /usr.
for name in bin sbin lib lib64; do
	mkdir -p "$folder/root/usr/$name"
	ln -s "usr/$name" "$folder/root/$name"
done
for package in "$folder"/apt/cache/archives/*.deb; do
	dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --no-same-owner -C "$folder/root"
done
# ld reads these links from outside of the root, too.
find "$folder/root/usr/lib" -type l -lname '/*' | while IFS= read -r link; do
	ln -sfnr "$folder/root$(readlink "$link")" "$link"
done
dpkg-deb --fsys-tarfile "$folder/apt/$image"_*.deb | tar -x -O --wildcards './boot/vmlinuz*' >"$folder/vmlinuz"
dpkg-deb --show "$folder/apt/$image"_*.deb >"$folder/kernel"
rm -rf "$folder/apt"

# For Meson, behind packaging/aarch64-linux-gnu.ini: what is there is linked with.
root=$folder/root
[ "$arch" != arm64 ] || cat >"$folder/cross.ini" <<EOF
[binaries]
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-aarch64', '-L', '$root']
[properties]
sys_root = '$root'
pkg_config_libdir = '$root/usr/lib/aarch64-linux-gnu/pkgconfig:$root/usr/share/pkgconfig'
[built-in options]
c_args = ['--sysroot=$root']
cpp_args = ['--sysroot=$root']
c_link_args = ['--sysroot=$root']
cpp_link_args = ['--sysroot=$root']
EOF
echo "$wanted" >"$folder/done"
