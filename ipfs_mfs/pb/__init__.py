"""Generated from proto/ipfs_mfs/node/v1/node.proto by `make proto`; never edited by hand."""
