# The programs we are compared with, each at the version the tests and benchmarks were written for.
# Read by tools/peers.sh. The npm judges have their versions in tests/interop/package.json.
KUBO_VERSION=v0.43.0
CSI_SANITY_VERSION=v5.5.0
GO_VERSION=1.26.0
