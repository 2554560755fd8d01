#!/usr/bin/env bash
# The main job in every combination: --lba, --iommu, --invalidation, --block, awkward sizes, and one file that is large and sparse; then one gigabyte
# whose buffer moves under load. Each copy is compared with cmp(1), besides what the command says itself. Ends with "N passed, N failed".
# Usage: tests/long/copy-matrix.sh [quick]      quick leaves the large files out
set -uo pipefail
cd "$(dirname "$0")/../.."
dotnet build -c Release Hosts/DmaBufIo.Cli -v q -nologo || exit 2
command=(dotnet Hosts/DmaBufIo.Cli/bin/Release/net10.0/dmabufio.dll)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
passed=0; failed=0

check() { # NAME SRC OPTIONS...
  local name=$1 source=$2; shift 2
  if "${command[@]}" copy "$source" "$work/out" --json "$@" > "$work/report" 2> "$work/messages" && cmp -s "$source" "$work/out" \
      && grep -q '"ok": true' "$work/report" && grep -q '"iommuFaults": 0,' "$work/report" && grep -q '"staleAccesses": 0,' "$work/report"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1)); echo "FAILED: $name ($*)"; tail -n 5 "$work/messages"
  fi
  rm -f "$work/out"
}

number() { sed -n "s/^ *\"$1\": \([0-9.]*\),*$/\1/p" "$work/report"; }

for size in 0 1 511 512 4097 3000001; do
  head -c "$size" /dev/urandom > "$work/in"
  for lba in 512 4096; do for iommu in strict lazy passthrough; do for invalidation in draining fenced; do for block in 4K 128K 1M; do
    check "$size bytes" "$work/in" --lba "$lba" --iommu "$iommu" --invalidation "$invalidation" --block "$block"
    [ "$size" -lt 3000001 ] || check "$size bytes, moving" "$work/in" --lba "$lba" --iommu "$iommu" --invalidation "$invalidation" --block "$block" --via moving --buffer 1M --invalidate-every 3
  done; done; done; done
done

if [ "${1:-}" != quick ]; then
  truncate -s 3G "$work/sparse"
  check "3 GiB sparse" "$work/sparse" --block 1M
  rm "$work/sparse"
  head -c 1073743058 /dev/urandom > "$work/in"
  check "1 GiB + 1,234 bytes, moving under load" "$work/in" --via moving --block 64K --invalidate-every 20 --iommu strict
  echo "moved $(number invalidations) times, $(number invalidationsUnderLoad) under load, in $(number seconds) s"
  [ "$(number invalidations)" -gt 1000 ] && [ $(($(number invalidationsUnderLoad) * 10)) -ge $(($(number invalidations) * 9)) ] \
    || { failed=$((failed + 1)); echo "FAILED: more than 1,000 invalidations, nine tenths of them under load"; }
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
