import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import {
  messageOf,
  packageVersion,
  PRIVATE_DIRECTORY_MODE,
  PRIVATE_FILE_MODE,
  syncDirectory,
  writeFileAtomically,
} from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import type { AuditKey } from '../seal/audit-key.ts';
import { leafHash, merkleRoot } from '../seal/merkle.ts';
import { readSeal, type Seal, sealDigest } from '../seal/seal.ts';
import { eventLine, fitsLine, sealLine } from './evidence-line.ts';
import {
  type Manifest,
  MANIFEST_FILE,
  type ManifestChain,
  type ManifestFile,
  signManifest,
} from './manifest.ts';
import type { ExportResult } from './notice.ts';
import type { ExportedBatch, ExportInterval } from './snapshot.ts';

/** A file is closed when it passes this. */
const FILE_BYTES = 64 * 1024 * 1024;

type Open<T> = { -readonly [K in keyof T]: T[K] };

interface OpenFile {
  readonly handle: FileHandle;
  readonly hash: ReturnType<typeof createHash>;
  readonly entry: Open<ManifestFile>;
}

const unsound = (batch: ExportedBatch, what: string): Error =>
  auditError(
    'ERR_AUDIT_EXPORT_UNSOUND',
    `batch ${batch.batch} of chain ${batch.chain} ${what}: \`sallyport audit verify\` says more`,
  );

/** The seal of a batch whose events are the ones that it was made over. @throws AppError ERR_AUDIT_EXPORT_UNSOUND */
const soundSeal = (batch: ExportedBatch): { seal: Seal; leaves: Buffer[] } => {
  const seal = readSeal(batch.seal.toString('utf8'));
  if (seal === undefined || seal.chain !== batch.chain || seal.batch !== batch.batch)
    throw unsound(batch, 'has no seal of its own');
  for (const [index, { seq }] of batch.events.entries()) {
    if (seq !== seal.first + index) throw unsound(batch, `lacks event ${seal.first + index}`);
  }
  const leaves = batch.events.map((event) => leafHash(event.canonical));
  if (leaves.length !== seal.n) throw unsound(batch, `has ${leaves.length} events, not ${seal.n}`);
  if (merkleRoot(leaves).toString('hex') !== seal.root) throw unsound(batch, 'is not what was sealed');
  // What was sealed is RFC 8785, which has no line breaks.
  if (!batch.events.every((event) => fitsLine(event.canonical))) throw unsound(batch, 'holds a line break');
  return { seal, leaves };
};

/** Writes evidence into a directory: files of lines, and at last the signed manifest. Without it, it is no export. */
export class EvidenceWriter {
  readonly #directory: string;
  readonly #files: Open<ManifestFile>[] = [];
  readonly #chains = new Map<string, Open<ManifestChain>>();
  #open: OpenFile | undefined;
  #batches = 0;
  #events = 0;

  /** @throws AppError ERR_AUDIT_EXPORT_WRITE when the directory cannot be made or holds anything already. */
  constructor(directory: string) {
    this.#directory = directory;
    let found: string[];
    try {
      mkdirSync(directory, { recursive: true, mode: PRIVATE_DIRECTORY_MODE });
      found = readdirSync(directory);
    } catch (cause) {
      throw auditError('ERR_AUDIT_EXPORT_WRITE', `${directory} cannot be written: ${messageOf(cause)}`, {
        cause,
      });
    }
    if (found.length > 0) throw auditError('ERR_AUDIT_EXPORT_WRITE', `${directory} is not empty`);
  }

  get events(): number {
    return this.#events;
  }

  /** Appends batches, chain by chain. @throws AppError ERR_AUDIT_EXPORT_UNSOUND, or what the disk throws */
  async write(batches: readonly ExportedBatch[]): Promise<void> {
    for (const batch of batches) {
      const { seal, leaves } = soundSeal(batch);
      const head = {
        chain: batch.chain,
        batch: batch.batch,
        signature: batch.signature.toString('hex'),
        leaves: Buffer.concat(leaves).toString('hex'),
      };
      const lines = [
        sealLine(head, batch.seal),
        ...batch.events.map((event) => eventLine(event.chain, event.seq, event.canonical)),
      ];
      this.#note(batch, seal);
      await this.#append(Buffer.concat(lines), seal.n);
    }
  }

  /** Signs what was written and ends. `tellEnd` is called before the manifest is there, which makes it an export. */
  async finish(o: {
    key: AuditKey;
    interval: ExportInterval;
    login: string;
    nowMs: number;
    tellEnd: (result: ExportResult) => Promise<void>;
  }): Promise<Manifest> {
    await this.#close();
    const manifest = signManifest(
      {
        v: 1,
        format: 'jsonl',
        exported_at: new Date(o.nowMs).toISOString(),
        from: o.interval.from ?? null,
        to: o.interval.to ?? null,
        exporter: {
          signer: o.key.signer,
          public_key: o.key.publicKey,
          login: o.login,
          version: packageVersion,
        },
        files: this.#files,
        batches: this.#batches,
        events: this.#events,
        chains: [...this.#chains.values()],
      },
      o.key,
    );
    syncDirectory(this.#directory);
    const text = `${JSON.stringify(manifest, null, 2)}\n`;
    await o.tellEnd({
      rows: this.#events,
      bytes: this.#files.reduce((sum, file) => sum + file.bytes, 0),
      sha256: createHash('sha256').update(text).digest('hex'),
    });
    writeFileAtomically(join(this.#directory, MANIFEST_FILE), text);
    return manifest;
  }

  /** Ends without a manifest: what was written is no export. */
  async abandon(): Promise<void> {
    await this.#open?.handle.close().catch(() => undefined);
    this.#open = undefined;
  }

  async #append(bytes: Buffer, events: number): Promise<void> {
    const { handle, hash, entry } = this.#open ?? (await this.#next());
    await handle.appendFile(bytes);
    hash.update(bytes);
    entry.bytes += bytes.length;
    entry.batches += 1;
    entry.events += events;
    this.#batches += 1;
    this.#events += events;
    if (entry.bytes >= FILE_BYTES) await this.#close();
  }

  async #next(): Promise<OpenFile> {
    const name = `evidence-${String(this.#files.length + 1).padStart(6, '0')}.jsonl`;
    const handle = await open(join(this.#directory, name), 'wx', PRIVATE_FILE_MODE);
    const entry = { name, bytes: 0, sha256: '', batches: 0, events: 0 };
    this.#files.push(entry);
    this.#open = { handle, hash: createHash('sha256'), entry };
    return this.#open;
  }

  async #close(): Promise<void> {
    if (this.#open === undefined) return;
    const { handle, hash, entry } = this.#open;
    this.#open = undefined;
    entry.sha256 = hash.digest('hex');
    await handle.sync();
    await handle.close();
  }

  #note(batch: ExportedBatch, seal: Seal): void {
    const known = this.#chains.get(seal.chain);
    const digest = sealDigest(batch.seal.toString('utf8')).toString('hex');
    if (known === undefined) {
      this.#chains.set(seal.chain, {
        chain: seal.chain,
        first_batch: seal.batch,
        last_batch: seal.batch,
        first_seq: seal.first,
        last_seq: seal.last,
        events: seal.n,
        prev: seal.prev,
        prev_chain: seal.prev_chain,
        head: digest,
        final: seal.final,
      });
      return;
    }
    if (seal.batch !== known.last_batch + 1 || seal.prev !== known.head)
      throw unsound(batch, `does not continue batch ${known.last_batch}`);
    known.last_batch = seal.batch;
    known.last_seq = seal.last;
    known.events += seal.n;
    known.head = digest;
    known.final = seal.final;
  }
}
