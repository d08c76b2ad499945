# The programs we are compared with, each at the version the tests and benchmarks were written for.
# Read by tools/peers.sh. The npm judges have their versions in tests/interop/package.json.
KUBO_VERSION=v0.43.0
CSI_SANITY_VERSION=v5.5.0
GO_VERSION=1.26.0

# The datastores of benchmarks/rivals/go, as Kubo's go.mod names them; Badger 4 is in none of Kubo's.
GO_DATASTORE_VERSION=v0.9.2
GO_DS_FLATFS_VERSION=v0.6.1
GO_DS_LEVELDB_VERSION=v0.5.3
GO_DS_BADGER4_VERSION=v0.1.8
GO_DS_PEBBLE_VERSION=v0.5.12
PEBBLE_VERSION=v2.1.6
GOLEVELDB_VERSION=v1.0.1-0.20220721030215-126854af5e6d
