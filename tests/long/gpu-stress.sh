#!/usr/bin/env bash
# 1,000,000 transfers to and from buffers of a GPU on real threads while they are evicted and restored, the GPU works on them, and others press its memory. Under a minute.
#   TRANSFERS=n   transfers (1000000)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
DMABUFIO_STRESS_TRANSFERS=${TRANSFERS:-1000000} dotnet test tests/DmaBufIo.Exporters.Gpu.Tests -c Release --filter "FullyQualifiedName~StressTests"
