import { hash } from 'node:crypto';
import type { AuditKey } from '../seal/audit-key.ts';
import { merkleRoot } from '../seal/merkle.ts';
import { SEAL_ALGORITHM, SEAL_VERSION, type SignedSeal, signSeal } from '../seal/seal.ts';
import type { ChainState } from './chain-state.ts';
import { eventRecordBytes, record, RECORD, writeEventRecord } from './record.ts';

/** A seal is made when this many events wait for one … */
export const SEAL_EVENTS = 200;
/** … or when the oldest of them has waited this long. */
export const SEAL_AFTER_MS = 250;

interface Sealed {
  readonly signed: SignedSeal;
  /** Where its events lie in the group, and where its own record ends. */
  readonly from: number;
  readonly to: number;
  readonly sealTo: number;
  readonly eventBytes: number;
}

/** A group of records that is written and synced as one, with what becomes true when it is on disk. */
export interface Group {
  readonly bytes: Buffer;
  readonly sealed: readonly Sealed[];
  readonly lastSeq: number;
  /** Unsealed leaves after the group. */
  readonly leaves: Buffer[];
  readonly leafBytes: number;
  /** Where the unsealed tail's records lie in the group. */
  readonly tailFrom: number;
  readonly tailTo: number;
  readonly dropped: number;
}

const sealRecord = (signed: SignedSeal): Buffer =>
  record(RECORD.seal, signed.signature, Buffer.from(signed.text, 'utf8'));

/**
 * Lays out events and the seals that fall due among them. Nothing of `state` changes: the caller commits
 * the group after it is on disk, or forgets it.
 */
export const buildGroup = (o: {
  state: ChainState;
  key: AuditKey;
  texts: readonly string[];
  /** Close events dropped since the last seal. */
  dropped: number;
  nowMs: number;
  /** Seal what is left at the end, too; `final` ends the chain. */
  sealTail: boolean;
  final: boolean;
  sealEvents?: number | undefined;
}): Group => {
  const { state, key } = o;
  const sealEvents = o.sealEvents ?? SEAL_EVENTS;
  const pieces: Buffer[] = [];
  const sealed: Sealed[] = [];
  let at = 0;
  let leaves = [...state.leaves];
  let leafBytes = state.leafBytes;
  let runFrom = 0;
  let { lastSeq, lastBatch, sealedSeq, lastSeal } = state;
  let dropped = o.dropped;

  const seal = (final: boolean): void => {
    const signed = signSeal(
      {
        v: SEAL_VERSION,
        alg: SEAL_ALGORITHM,
        chain: state.chain,
        batch: lastBatch + 1,
        first: sealedSeq + 1,
        last: lastSeq,
        n: leaves.length,
        dropped,
        root: merkleRoot(leaves).toString('hex'),
        prev: (lastBatch === 0 ? state.prevChainSeal : lastSeal)?.toString('hex') ?? null,
        prev_chain: lastBatch === 0 ? state.prevChain : null,
        signer: key.signer,
        time: new Date(o.nowMs).toISOString(),
        epoch: state.epoch,
        final,
      },
      key,
    );
    const bytes = sealRecord(signed);
    pieces.push(bytes);
    sealed.push({ signed, from: runFrom, to: at, sealTo: at + bytes.length, eventBytes: leafBytes });
    at += bytes.length;
    runFrom = at;
    leaves = [];
    leafBytes = 0;
    lastBatch += 1;
    sealedSeq = lastSeq;
    lastSeal = signed.digest;
    dropped = 0;
  };

  for (const text of o.texts) {
    const canonicalBytes = Buffer.byteLength(text, 'utf8');
    const piece = Buffer.allocUnsafe(eventRecordBytes(canonicalBytes));
    lastSeq += 1;
    const { leafAt } = writeEventRecord(piece, 0, lastSeq, text, canonicalBytes);
    pieces.push(piece);
    at += piece.length;
    leaves.push(hash('sha256', piece.subarray(leafAt), 'buffer'));
    leafBytes += canonicalBytes;
    if (leaves.length >= sealEvents) seal(false);
  }
  if (o.final || (o.sealTail && leaves.length > 0)) seal(o.final);
  return {
    bytes: pieces.length === 1 ? (pieces[0] ?? Buffer.alloc(0)) : Buffer.concat(pieces, at),
    sealed,
    lastSeq,
    leaves,
    leafBytes,
    tailFrom: runFrom,
    tailTo: at,
    dropped,
  };
};
