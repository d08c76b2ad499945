package main

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	datastore "github.com/ipfs/go-datastore"
	badger4 "github.com/ipfs/go-ds-badger4"
	flatfs "github.com/ipfs/go-ds-flatfs"
	leveldb "github.com/ipfs/go-ds-leveldb"
	pebbleds "github.com/ipfs/go-ds-pebble"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// open makes a new store in an empty folder, with the settings that Kubo's profile of that name
// has. Badger 4 is in no profile of Kubo: it has its own defaults.
//
// sync matters to flatfs alone: leveldb syncs every write, the others at the call of Sync.
func open(kind string, folder string, sync bool) (datastore.Batching, error) {
	switch kind {
	case "flatfs":
		return flatfs.CreateOrOpen(folder+"/flatfs", flatfs.NextToLast(2), sync)
	case "leveldb":
		settings := leveldb.Options{Compression: opt.NoCompression}
		return leveldb.NewDatastore(folder+"/leveldb", &settings)
	case "badger4":
		return badger4.NewDatastore(folder+"/badger4", nil)
	case "pebble":
		settings := &pebble.Options{FormatMajorVersion: pebble.FormatNewest}
		return pebbleds.NewDatastore(folder+"/pebble", pebbleds.WithPebbleOpts(settings))
	}
	return nil, fmt.Errorf("%q is none of flatfs, leveldb, badger4, pebble", kind)
}
