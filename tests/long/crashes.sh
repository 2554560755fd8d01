#!/usr/bin/env bash
# 1,000 seeded crash points while writing to a mirror and to a file in extents on a mirror: after restart both copies agree, and all that was acknowledged and
# flushed is there. About six minutes.
#   POINTS=n   crash points (1000)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
DMABUFIO_CRASH_POINTS=${POINTS:-1000} dotnet test tests/DmaBufIo.Importers.StackedRaid.Tests -c Release --filter "FullyQualifiedName~CrashTests"
