// Imports files with ipfs-unixfs-importer under a profile and writes them as a CAR file.
// Arguments: profile, output path. Standard input: one JSON object {path: base64 content}.
// Prints the CID of the root that wraps all of them.
import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { text } from 'node:stream/consumers'
import { CarWriter } from '@ipld/car'
import { importer } from 'ipfs-unixfs-importer'

const [, profile, output] = process.argv
const files = JSON.parse(await text(process.stdin))
const blocks = new Map()
const blockstore = {
  async put (cid, bytes) { blocks.set(cid.toString(), { cid, bytes }); return cid },
  async * get (cid) { yield blocks.get(cid.toString()).bytes }
}
const source = Object.entries(files).map(([path, content]) => (
  { path, content: Buffer.from(content, 'base64') }
))
let root
for await (const entry of importer(source, blockstore, { profile, wrapWithDirectory: true })) {
  root = entry.cid
}
const { writer, out } = CarWriter.create([root])
const done = pipeline(Readable.from(out), createWriteStream(output))
for (const block of blocks.values()) await writer.put(block)
await writer.close()
await done
console.log(root.toString())
