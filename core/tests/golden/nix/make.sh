#!/bin/bash
# Makes this folder's files anew with real Nix; README.md says what each is. Keys are made only where there are none.
set -euo pipefail
cd "$(dirname "$0")"
golden=$PWD
export NIX_CONFIG='experimental-features = nix-command' LC_ALL=C
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
umask 022

# NARs.
cd "$work"
mkdir tree
cd tree
printf 'hello, world' > a
mkdir a.b a-b empty-directory
printf '' > a-b/empty
printf '#!/bin/sh\nexit 0\n' > a.b/run
chmod 755 a.b/run
printf '' > a.b/empty-executable
chmod 755 a.b/empty-executable
printf '12345678' > ab
printf 'upper' > Z
printf 'name in UTF-8' > 'é'
printf 'name not in UTF-8' > $'\xff\xfe'
printf 'names may hold this' > $'new\nline and space'
printf 'dot' > .hidden
printf 'three' > ...
printf 'longest' > "$(printf 'n%.0s' {1..255})"
ln -s ../outside/dangling link
ln -s a.b 'link to a directory'
ln -s $'\xff' $'link\xff'
deep=deep
for level in {1..40}; do deep=$deep/$level; done
mkdir -p "$deep"
printf 'bottom' > "$deep/file"
cd ..
printf 'seven b' > regular
printf 'eight by' > executable
chmod 755 executable
: > empty
mkdir empty-directory
ln -s target symlink
for name in tree regular executable empty empty-directory symlink; do
    nix-store --dump "$name" > "$golden/$name.nar"
    for base in base16 base32 base64 sri; do
        echo "$name $base $(nix hash path --type sha256 --$base "$name")"
    done
done > "$golden/nar-hashes.txt"

# Keys.
cd "$golden"
for name in golden.example.org-1 golden.example.org-2; do
    test -e "$name.secret" || nix key generate-secret --key-name "$name" > "$name.secret"
    nix key convert-secret-to-public < "$name.secret" > "$name.public"
done

# narinfos, of a store in a folder of its own.
cd "$work"
export NIX_REMOTE="local?root=$work/root"
path=$(nix-instantiate --eval --json --read-write-mode -E '
  let
    plain = builtins.toFile "plain.txt" "no references\n";
    other = builtins.toFile "other+name_1.0?x=y" "other\n";
  in builtins.toFile "with-references" "${plain} ${other}\n"' | tr -d '"')
tree=$(nix store add-path --name golden-tree tree)
flat=$(nix store add-file --name golden-file regular)
# A path as a build leaves it: no content address, a deriver, references to itself and to others.
built=/nix/store/0123456789abcdfghijklmnpqrsvwxyz-golden-built-1.0
deriver=/nix/store/zyxwvsrqpnmlkjihgfdcba9876543210-golden-built-1.0.drv
printf '%s %s\n' "$built" "$path" > "root$built"
{
    echo "$built"
    nix hash path --type sha256 --base16 "root$built"
    nix-store --dump "root$built" | wc -c
    echo "$deriver"
    echo 2
    echo "$built"
    echo "$path"
} | nix-store --load-db
nix store sign --key-file "$golden/golden.example.org-1.secret" "$built" "$path" "$tree" "$flat"
nix store sign --key-file "$golden/golden.example.org-2.secret" "$built"
for compression in none xz zstd; do
    nix copy --to "file://$work/cache-$compression?compression=$compression" "$built" "$tree" "$flat"
done
cp "cache-none/${built:11:32}.narinfo" "$golden/built.none.narinfo"
cp "cache-xz/${built:11:32}.narinfo" "$golden/built.xz.narinfo"
cp "cache-zstd/${path:11:32}.narinfo" "$golden/text-with-references.zstd.narinfo"
cp "cache-zstd/${tree:11:32}.narinfo" "$golden/recursive.zstd.narinfo"
cp "cache-none/${flat:11:32}.narinfo" "$golden/flat.none.narinfo"
