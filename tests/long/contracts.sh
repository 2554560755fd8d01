#!/usr/bin/env bash
# Every plugin of this repository, in every configuration, against every contract; every faulty plugin against the fact that is meant for it; the packages, templates and samples as outsiders use them.
# Arguments go to 'dotnet test' of the contracts, for example: --filter FullyQualifiedName~Mutants
set -euo pipefail
cd "$(dirname "$0")/../.."
dotnet test tests/DmaBufIo.ContractTests.Tests -c Release -p:RunsContracts=true "$@"
dotnet build Framework.sln -c Release
dotnet test tests/DmaBufIo.Packages.Tests -c Release -p:RunsPackages=true
