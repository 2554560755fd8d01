#!/usr/bin/env bash
# 1,000,000 messages and RDMA transfers between two cards on real threads, in each design, while the buffers of both ends move. About a minute.
#   TRANSFERS=n   transfers of each run (1000000)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
DMABUFIO_RNIC_TRANSFERS=${TRANSFERS:-1000000} dotnet test tests/DmaBufIo.Importers.Rnic.Tests -c Release --filter "FullyQualifiedName~StressTests"
