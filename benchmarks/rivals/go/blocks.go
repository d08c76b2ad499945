package main

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base32"
	"fmt"

	datastore "github.com/ipfs/go-datastore"
)

var everything = datastore.NewKey("/")

// names is how Kubo writes a multihash as a key.
var names = base32.StdEncoding.WithPadding(base32.NoPadding)

type block struct {
	key       datastore.Key
	multihash []byte
	data      []byte
}

func makeBlocks(seed string, size int, count int) []block {
	made := make([]block, count)
	for number := range made {
		data := make([]byte, size)
		source := sha3.NewSHAKE128()
		fmt.Fprintf(source, "%s/%d", seed, number)
		source.Read(data)
		multihash := multihashOf(data)
		made[number] = block{keyOf(multihash), multihash, data}
	}
	return made
}

// absentKey is a key of the same form as the others, which no seed makes.
func absentKey(number int) datastore.Key {
	return keyOf(multihashOf(fmt.Appendf(nil, "absent/%d", number)))
}

func multihashOf(data []byte) []byte {
	digest := sha256.Sum256(data)
	return append([]byte{0x12, 0x20}, digest[:]...)
}

func keyOf(multihash []byte) datastore.Key {
	return datastore.RawKey("/" + names.EncodeToString(multihash))
}
