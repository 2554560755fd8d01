#!/usr/bin/env bash
# 1,000,000 transfers through sets on real threads while buffers move, members fail, come back and are reset, and tokens are released. Under a minute.
#   TRANSFERS=n   transfers (1000000)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
DMABUFIO_STRESS_TRANSFERS=${TRANSFERS:-1000000} dotnet test tests/DmaBufIo.Importers.StackedRaid.Tests -c Release --filter "FullyQualifiedName~StressTests"
