import type pg from 'pg';
import { HASH_BYTES, leafHash, merkleRoot } from '../seal/merkle.ts';
import { readSeal, type Seal, sealDigest } from '../seal/seal.ts';
import { alteredColumns } from './column-check.ts';
import type { Findings } from './report.ts';
import { type ChainRow, type EventRow, eventsBetween, type SealRow, sealsAfter } from './rows.ts';
import type { SignerCheck } from './signer-check.ts';

const SEAL_PAGE = 50;

/** What a chain's seals add up to. */
export interface ChainTotals {
  seals: number;
  events: number;
  dropped: number;
  lastBatch: number;
  lastSeq: number;
  lastSeal: Buffer | undefined;
  firstPrev: string | null;
  prevChain: string | null;
  /** Digest per batch number, for heads from outside. */
  readonly digests: Map<number, string>;
}

const columnsDiffer = (row: SealRow, seal: Seal): boolean =>
  row.batch_no !== seal.batch ||
  row.chain_id !== seal.chain ||
  row.first_seq !== seal.first ||
  row.last_seq !== seal.last ||
  row.event_count !== seal.n ||
  row.dropped !== seal.dropped ||
  row.root.toString('hex') !== seal.root ||
  (row.prev_seal?.toString('hex') ?? null) !== seal.prev ||
  row.prev_chain !== seal.prev_chain ||
  row.signer !== seal.signer ||
  row.epoch !== seal.epoch ||
  row.final !== seal.final ||
  row.sealed_ms !== Date.parse(seal.time);

const splitLeaves = (bytes: Buffer): Buffer[] => {
  const leaves: Buffer[] = [];
  for (let at = 0; at + HASH_BYTES <= bytes.length; at += HASH_BYTES)
    leaves.push(bytes.subarray(at, at + HASH_BYTES));
  return leaves;
};

const checkColumns = (row: EventRow, at: { chain: string; batch: number }, findings: Findings): void => {
  if (row.columns === undefined) return;
  const names = alteredColumns(row.canonical, row.columns);
  if (names.length > 0) {
    findings.add('column_altered', `columns differ from the event: ${names.join(', ')}`, {
      ...at,
      seq: row.seq,
    });
  }
};

/** Compares a batch's events and leaves with the root that its seal signs. */
const checkEvents = (row: SealRow, seal: Seal, events: readonly EventRow[], findings: Findings): void => {
  const at = { chain: row.chain_id, batch: row.batch_no };
  const stored = row.leaves?.length === 1 ? splitLeaves(row.leaves[0] ?? Buffer.alloc(0)) : undefined;
  if (stored === undefined)
    findings.add('leaves_missing', `${row.leaves?.length ?? 0} rows of leaves, not 1`, at);
  const leavesTrue = stored !== undefined && merkleRoot(stored).toString('hex') === seal.root;

  const bySeq = new Map<number, EventRow[]>();
  for (const event of events) {
    bySeq.set(event.seq, [...(bySeq.get(event.seq) ?? []), event]);
    checkColumns(event, at, findings);
  }
  const found: Buffer[] = [];
  let whole = true;
  for (let seq = seal.first; seq <= seal.last; seq += 1) {
    const rows = bySeq.get(seq) ?? [];
    const leaf = stored?.[seq - seal.first];
    const hashes = rows.map((event) => leafHash(event.canonical));
    if (rows.length === 0) findings.add('event_missing', 'event is not there', { ...at, seq });
    if (rows.length > 1)
      findings.add('event_inserted', `${rows.length} events with one number`, { ...at, seq });
    if (leavesTrue && leaf !== undefined && hashes.length > 0 && !hashes.some((hash) => hash.equals(leaf))) {
      findings.add('event_altered', 'event is not the one that was sealed', { ...at, seq });
    }
    whole &&= rows.length === 1;
    found.push(hashes[0] ?? Buffer.alloc(HASH_BYTES));
  }
  if (leavesTrue) return;
  if (whole && merkleRoot(found).toString('hex') === seal.root) {
    const altered = found.findIndex((hash, index) => stored?.[index]?.equals(hash) !== true);
    if (stored !== undefined) {
      findings.add('leaf_altered', 'the stored leaf is not that of the event', {
        ...at,
        seq: seal.first + Math.max(0, altered),
      });
    }
    return;
  }
  // Neither the leaves nor the events give the root: where they agree with each other, both were rewritten.
  const differing = found.findIndex((hash, index) => stored?.[index]?.equals(hash) !== true);
  const place = differing === -1 ? at : { ...at, seq: seal.first + differing };
  findings.add('event_altered', 'events and leaves of the batch do not give the sealed root', place);
};

const checkSeal = (
  row: SealRow,
  totals: ChainTotals,
  signers: SignerCheck,
  findings: Findings,
): Seal | undefined => {
  const at = { chain: row.chain_id, batch: row.batch_no };
  const text = row.canonical.toString('utf8');
  const digest = sealDigest(text);
  const seal = readSeal(text);
  if (seal === undefined) {
    findings.add('seal_altered', 'the canonical bytes are no seal', at);
    return undefined;
  }
  if (!digest.equals(row.seal) || columnsDiffer(row, seal)) {
    findings.add('seal_altered', 'columns of the seal differ from what was signed', at);
  }
  signers.check(seal, digest, row.signature, findings);
  if (seal.batch !== totals.lastBatch + 1) {
    findings.add('seal_missing', `batch ${totals.lastBatch + 1} is not there`, {
      ...at,
      batch: totals.lastBatch + 1,
    });
  } else if (totals.lastBatch > 0 && seal.prev !== totals.lastSeal?.toString('hex')) {
    findings.add('seal_order', 'the seal does not continue the one before it', at);
  }
  if (seal.batch === totals.lastBatch + 1 && seal.first !== totals.lastSeq + 1) {
    findings.add('seal_order', `the batch begins at ${seal.first}, not ${totals.lastSeq + 1}`, at);
  }
  if (seal.n !== seal.last - seal.first + 1)
    findings.add('seal_altered', `${seal.n} events do not fill the range`, at);
  return seal;
};

/** Checks one chain from its first batch to its last. */
export const checkChain = async (o: {
  client: pg.ClientBase;
  chain: ChainRow;
  signers: SignerCheck;
  columns: boolean;
  findings: Findings;
  onProgress?: ((events: number) => void) | undefined;
}): Promise<ChainTotals> => {
  const { client, chain, findings } = o;
  const totals: ChainTotals = {
    seals: 0,
    events: 0,
    dropped: 0,
    lastBatch: 0,
    lastSeq: 0,
    lastSeal: undefined,
    firstPrev: null,
    prevChain: null,
    digests: new Map(),
  };
  for (;;) {
    const page = await sealsAfter(client, chain.chain_id, totals.lastBatch, SEAL_PAGE);
    const first = page[0];
    const last = page.at(-1);
    if (first === undefined || last === undefined) break;
    const events = await eventsBetween(client, chain.chain_id, first.first_seq, last.last_seq, o.columns);
    let eventAt = 0;
    for (const row of page) {
      const seal = checkSeal(row, totals, o.signers, findings);
      const from = eventAt;
      while (eventAt < events.length && (events[eventAt]?.seq ?? 0) <= row.last_seq) eventAt += 1;
      const mine = events.slice(from, eventAt);
      if (seal !== undefined) checkEvents(row, seal, mine, findings);
      totals.seals += 1;
      totals.events += mine.length;
      totals.dropped += seal?.dropped ?? 0;
      totals.lastBatch = row.batch_no;
      totals.lastSeq = seal?.last ?? row.last_seq;
      totals.lastSeal = sealDigest(row.canonical.toString('utf8'));
      totals.digests.set(row.batch_no, totals.lastSeal.toString('hex'));
      if (row.batch_no === 1) {
        totals.firstPrev = seal?.prev ?? null;
        totals.prevChain = seal?.prev_chain ?? null;
      }
    }
    o.onProgress?.(totals.events);
  }
  return totals;
};
