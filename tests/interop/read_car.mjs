// Reads a CAR file with @ipld/car, checks every block's hash, and exports each root's tree with
// ipfs-unixfs-exporter. Prints one JSON object: {roots, blocks, bad, files: {path: sha256}}.
import { createReadStream } from 'node:fs'
import { createHash } from 'node:crypto'
import { CarBlockIterator } from '@ipld/car/iterator'
import { exporter } from 'ipfs-unixfs-exporter'
import { sha256 } from 'multiformats/hashes/sha2'
import { equals } from 'multiformats/bytes'

const blocks = new Map()
const car = await CarBlockIterator.fromIterable(createReadStream(process.argv[1]))
let bad = 0
for await (const { cid, bytes } of car) {
  const { digest } = await sha256.digest(bytes)
  if (!equals(digest, cid.multihash.digest)) bad++
  blocks.set(cid.toString(), bytes)
}

const blockstore = {
  async * get (cid) {
    const bytes = blocks.get(cid.toString())
    if (bytes === undefined) throw new Error(`missing ${cid}`)
    yield bytes
  }
}

const files = {}
const visit = async (cid, path) => {
  const entry = await exporter(cid, blockstore)
  if (entry.type === 'directory') {
    for await (const child of entry.entries()) await visit(child.cid, `${path}/${child.name}`)
    return
  }
  const hash = createHash('sha256')
  for await (const part of entry.content()) hash.update(part)
  files[path] = hash.digest('hex')
}

const roots = await car.getRoots()
for (const root of roots) await visit(root, root.toString())
console.log(JSON.stringify({ roots: roots.map(String), blocks: blocks.size, bad, files }))
