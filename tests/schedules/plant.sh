#!/usr/bin/env bash
# Plants faults in a copy of the library, and has the exploration of schedules find each of them.
#
# A change of the code around a fault makes the patch fail. Then mend `faults.patch`: in a copy of the tree, apply what
# still applies (`git apply --reject`), add the rest by hand, and write `git diff` here.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD copy=target/planted
rm -rf "$copy"
mkdir -p "$copy"
tar --exclude=target --exclude=.git -cf - . | tar -xmf - -C "$copy"
cd "$copy"
git init -q # or `git apply` would look at the repository around it
git apply tests/schedules/faults.patch
RUSTFLAGS="--cfg keyward_shuttle" cargo test -p keyward_tests --test schedules --target-dir "$root/target/schedules" -- planted::
