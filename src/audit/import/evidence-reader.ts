import { join } from 'node:path';
import { isAppError, messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { readEvidenceLine, type SealHead } from '../export/evidence-line.ts';
import type { Manifest, ManifestChain } from '../export/manifest.ts';
import { HASH_BYTES, leafHash, merkleRoot, splitHashes } from '../seal/merkle.ts';
import { readSeal, type Seal, sealDigest } from '../seal/seal.ts';
import type { TrustFile } from '../seal/trust.ts';
import { Findings } from '../verify/report.ts';
import { SignerCheck } from '../verify/signer-check.ts';
import { byteLines, type FileSum } from './byte-lines.ts';

/** A batch of an export that has been verified: signature, root, and its place after the batch before. */
export interface VerifiedBatch {
  readonly seal: Seal;
  /** Canonical text of the seal. */
  readonly text: string;
  readonly signature: Buffer;
  readonly events: readonly Buffer[];
}

interface OpenBatch {
  readonly head: SealHead;
  readonly seal: Seal;
  readonly text: string;
  readonly digest: string;
  readonly events: Buffer[];
}

/** Where a chain stands after the batches read so far. */
interface Standing {
  readonly promised: ManifestChain;
  batch: number;
  seq: number;
  digest: string | null;
  events: number;
  final: boolean;
}

const invalid = (what: string): Error => auditError('ERR_AUDIT_EXPORT_INVALID', what);

const placeOf = (seal: Seal): string => `chain ${seal.chain}, batch ${seal.batch}`;

/** Reads the evidence of an export, verifying everything on the way: what it yields is sound. */
export class EvidenceReader {
  readonly #directory: string;
  readonly #manifest: Manifest;
  readonly #signers: SignerCheck;
  readonly #chains: Map<string, Standing>;

  constructor(directory: string, manifest: Manifest, trust: TrustFile) {
    this.#directory = directory;
    this.#manifest = manifest;
    this.#signers = new SignerCheck(trust);
    this.#chains = new Map(
      manifest.chains.map((promised) => [
        promised.chain,
        {
          promised,
          batch: promised.first_batch - 1,
          seq: promised.first_seq - 1,
          digest: promised.prev,
          events: 0,
          final: false,
        },
      ]),
    );
  }

  /**
   * The batches in the order of the files, one in memory at a time. Read to the end, the export is whole: files, counts and
   * heads are those of its manifest.
   * @throws AppError ERR_AUDIT_EXPORT_INVALID naming file, chain, batch and event
   */
  async *batches(): AsyncGenerator<VerifiedBatch, void, undefined> {
    for (const file of this.#manifest.files) yield* this.#fileBatches(file);
    for (const [chain, standing] of this.#chains) {
      const { promised } = standing;
      const whole =
        standing.batch === promised.last_batch &&
        standing.seq === promised.last_seq &&
        standing.digest === promised.head &&
        standing.events === promised.events &&
        standing.final === promised.final;
      if (!whole) throw invalid(`chain ${chain} ends at batch ${standing.batch}, not as the manifest says`);
    }
  }

  async *#fileBatches(file: Manifest['files'][number]): AsyncGenerator<VerifiedBatch, void, undefined> {
    const sum: FileSum = { bytes: 0, sha256: '' };
    let open: OpenBatch | undefined;
    let batches = 0;
    let events = 0;
    let lineNo = 0;
    try {
      for await (const bytes of byteLines(join(this.#directory, file.name), sum)) {
        lineNo += 1;
        const line = readEvidenceLine(bytes);
        if (line?.kind === 'seal' && open === undefined) {
          open = this.#begin(line.head, line.seal);
          batches += 1;
        } else if (line?.kind === 'event' && open !== undefined) {
          const seq = open.seal.first + open.events.length;
          if (line.chain !== open.seal.chain || line.seq !== seq)
            throw invalid(`${placeOf(open.seal)} has event ${line.seq} in the place of event ${seq}`);
          open.events.push(line.canonical);
          events += 1;
        } else {
          throw invalid(
            open === undefined
              ? 'the line is no seal'
              : `the line is not event ${open.seal.first + open.events.length} of ${placeOf(open.seal)}`,
          );
        }
        if (open.events.length === open.seal.n) {
          yield this.#end(open);
          open = undefined;
        }
      }
      if (open !== undefined) throw invalid(`it ends within ${placeOf(open.seal)}`);
      const same = batches === file.batches && events === file.events && sum.bytes === file.bytes;
      if (!same || sum.sha256 !== file.sha256) throw invalid('it is not the file of the manifest');
    } catch (thrown) {
      // An error of whoever takes the batches is not one of the file.
      if (isAppError(thrown) && thrown.code !== 'ERR_AUDIT_EXPORT_INVALID') throw thrown;
      throw invalid(`${file.name}, line ${lineNo}: ${messageOf(thrown)}`);
    }
  }

  #begin(head: SealHead, bytes: Buffer): OpenBatch {
    const text = bytes.toString('utf8');
    const seal = readSeal(text);
    if (seal === undefined) throw invalid(`chain ${head.chain}, batch ${head.batch}: the bytes are no seal`);
    const place = placeOf(seal);
    if (seal.chain !== head.chain || seal.batch !== head.batch)
      throw invalid(`${place} stands as batch ${head.batch}`);
    const digest = sealDigest(text);
    const findings = new Findings();
    this.#signers.check(seal, digest, Buffer.from(head.signature, 'hex'), findings);
    const [finding] = findings.list;
    if (finding !== undefined) throw invalid(`${place}: ${finding.message}`);
    const standing = this.#chains.get(seal.chain);
    if (standing === undefined) throw invalid(`${place}: the manifest does not name the chain`);
    const continues =
      !standing.final &&
      seal.batch === standing.batch + 1 &&
      seal.first === standing.seq + 1 &&
      seal.prev === standing.digest &&
      (seal.batch > 1 || seal.prev_chain === standing.promised.prev_chain);
    if (!continues) throw invalid(`${place} does not continue batch ${standing.batch}`);
    if (seal.n !== seal.last - seal.first + 1)
      throw invalid(`${place}: ${seal.n} events do not fill its range`);
    return { head, seal, text, digest: digest.toString('hex'), events: [] };
  }

  #end({ head, seal, text, digest, events }: OpenBatch): VerifiedBatch {
    const leaves = events.map(leafHash);
    if (merkleRoot(leaves).toString('hex') !== seal.root) throw invalid(this.#alteredIn(seal, head, leaves));
    const standing = this.#chains.get(seal.chain);
    if (standing !== undefined) {
      standing.batch = seal.batch;
      standing.seq = seal.last;
      standing.digest = digest;
      standing.events += seal.n;
      standing.final = seal.final;
    }
    return { seal, text, signature: Buffer.from(head.signature, 'hex'), events };
  }

  /** Which event it is, when the leaves beside the seal are still the ones that were sealed. */
  #alteredIn(seal: Seal, head: SealHead, leaves: readonly Buffer[]): string {
    const bytes = Buffer.from(head.leaves, 'hex');
    const sealed = splitHashes(bytes);
    const known =
      bytes.length === leaves.length * HASH_BYTES && merkleRoot(sealed).toString('hex') === seal.root;
    const altered = leaves.findIndex((leaf, index) => sealed[index]?.equals(leaf) !== true);
    return known
      ? `${placeOf(seal)}: event ${seal.first + altered} is not the one that was sealed`
      : `${placeOf(seal)}: its events do not give the sealed root`;
  }
}
