// Command datastores runs the datastores of Kubo as contestants of our benchmarks.
//
// It reads one request a line on standard input, as JSON, and answers each with one line:
//
//	{"do":"open","kind":"flatfs","folder":"/mnt/x","sync":true}
//	{"do":"prepare","seed":"7","size":4096,"batch":128,"batches":16}
//	{"do":"put"}                                batch by batch, durable after each
//	{"do":"get","order":[4,0,4],"each":true}    values of prepared blocks, by their numbers
//	{"do":"has","order":[4,0,4],"absent":true}  absent: keys that nobody puts
//	{"do":"delete"}                             what was prepared, in the same batches
//	{"do":"keys"}                               of what is prepared, in hexadecimal
//	{"do":"close"}
//
// Only the store's own work is timed; answers carry it in seconds, with "each" of every read. Block N of a seed is
// SHAKE128("SEED/N"), so that a program in any language has the same blocks without a transfer.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	datastore "github.com/ipfs/go-datastore"
)

type request struct {
	Do      string `json:"do"`
	Kind    string `json:"kind"`
	Folder  string `json:"folder"`
	Sync    bool   `json:"sync"`
	Seed    string `json:"seed"`
	Size    int    `json:"size"`
	Batch   int    `json:"batch"`
	Batches int    `json:"batches"`
	Order   []int  `json:"order"`
	Absent  bool   `json:"absent"`
	Each    bool   `json:"each"`
}

// answer is what a request did: how many blocks or hits, and the seconds of each batch, or of all.
type answer struct {
	Count   int       `json:"count"`
	Seconds []float64 `json:"seconds"`
	Keys    []string  `json:"keys,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// contestant is the one open store and the blocks that are put into it next.
type contestant struct {
	store  datastore.Batching
	blocks []block
	batch  int
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), 1<<26)
	answers := json.NewEncoder(os.Stdout)
	running := &contestant{}
	for lines.Scan() {
		var wanted request
		given := answer{}
		err := json.Unmarshal(lines.Bytes(), &wanted)
		if err == nil {
			given, err = running.do(context.Background(), wanted)
		}
		if err != nil {
			given = answer{Error: err.Error()}
		}
		if err := answers.Encode(given); err != nil {
			os.Exit(1)
		}
	}
	// Whoever started it has gone: nothing that is measured is needed any more.
	if running.store != nil {
		running.store.Close()
	}
}

func (c *contestant) do(ctx context.Context, wanted request) (answer, error) {
	if c.store == nil && wanted.Do != "open" && wanted.Do != "prepare" && wanted.Do != "keys" {
		return answer{}, fmt.Errorf("%s: no store is open", wanted.Do)
	}
	switch wanted.Do {
	case "open":
		if c.store != nil {
			return answer{}, fmt.Errorf("a store is open already")
		}
		store, err := open(wanted.Kind, wanted.Folder, wanted.Sync)
		c.store = store
		return answer{}, err
	case "prepare":
		if wanted.Size < 1 || wanted.Batch < 1 || wanted.Batches < 1 {
			return answer{}, fmt.Errorf("size, batch and batches are at least 1")
		}
		c.batch = wanted.Batch
		c.blocks = makeBlocks(wanted.Seed, wanted.Size, wanted.Batch*wanted.Batches)
		return answer{Count: len(c.blocks)}, nil
	case "keys":
		return c.keys(), nil
	case "put":
		return c.inBatches(ctx, putter)
	case "delete":
		return c.inBatches(ctx, deleter)
	case "get":
		return c.get(ctx, wanted.Order, wanted.Each)
	case "has":
		return c.has(ctx, wanted.Order, wanted.Absent)
	case "close":
		err := c.store.Close()
		c.store = nil
		return answer{}, err
	}
	return answer{}, fmt.Errorf("%q is not known", wanted.Do)
}

// change puts or deletes one block, in a batch or by itself.
type change func(ctx context.Context, to datastore.Write, of block) error

func putter(ctx context.Context, to datastore.Write, of block) error {
	return to.Put(ctx, of.key, of.data)
}

func deleter(ctx context.Context, to datastore.Write, of block) error {
	return to.Delete(ctx, of.key)
}

// inBatches changes all prepared blocks; after each batch, what it changed is durable.
func (c *contestant) inBatches(ctx context.Context, apply change) (answer, error) {
	done := answer{}
	for at := 0; at < len(c.blocks); at += c.batch {
		started := time.Now()
		if err := c.one(ctx, c.blocks[at:at+c.batch], apply); err != nil {
			return answer{}, err
		}
		done.Seconds = append(done.Seconds, time.Since(started).Seconds())
		done.Count += c.batch
	}
	return done, nil
}

func (c *contestant) one(ctx context.Context, blocks []block, apply change) error {
	if len(blocks) == 1 {
		if err := apply(ctx, c.store, blocks[0]); err != nil {
			return err
		}
		return c.store.Sync(ctx, everything)
	}
	batch, err := c.store.Batch(ctx)
	if err != nil {
		return err
	}
	for _, of := range blocks {
		if err := apply(ctx, batch, of); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return err
	}
	return c.store.Sync(ctx, everything)
}

func (c *contestant) get(ctx context.Context, order []int, each bool) (answer, error) {
	if err := c.inRange(order); err != nil {
		return answer{}, err
	}
	done := answer{Count: len(order)}
	started := time.Now()
	for _, number := range order {
		value, err := c.store.Get(ctx, c.blocks[number].key)
		if err != nil {
			return answer{}, err
		}
		if len(value) != len(c.blocks[number].data) {
			return answer{}, fmt.Errorf("block %d came back with %d bytes", number, len(value))
		}
		if each {
			done.Seconds = append(done.Seconds, time.Since(started).Seconds())
			started = time.Now()
		}
	}
	if !each {
		done.Seconds = []float64{time.Since(started).Seconds()}
	}
	return done, nil
}

func (c *contestant) has(ctx context.Context, order []int, absent bool) (answer, error) {
	if err := c.inRange(order); err != nil {
		return answer{}, err
	}
	keys := make([]datastore.Key, len(order))
	for at, number := range order {
		keys[at] = c.blocks[number].key
		if absent {
			keys[at] = absentKey(number)
		}
	}
	found := 0
	started := time.Now()
	for _, key := range keys {
		is, err := c.store.Has(ctx, key)
		if err != nil {
			return answer{}, err
		}
		if is {
			found++
		}
	}
	return answer{Count: found, Seconds: []float64{time.Since(started).Seconds()}}, nil
}

func (c *contestant) keys() answer {
	given := answer{Count: len(c.blocks)}
	for _, of := range c.blocks {
		given.Keys = append(given.Keys, fmt.Sprintf("%x", of.multihash))
	}
	return given
}

func (c *contestant) inRange(order []int) error {
	for _, number := range order {
		if number < 0 || number >= len(c.blocks) {
			return fmt.Errorf("there is no block %d: %d are prepared", number, len(c.blocks))
		}
	}
	return nil
}
