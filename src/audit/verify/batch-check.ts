import { HASH_BYTES, leafHash, merkleRoot, splitHashes } from '../seal/merkle.ts';
import type { Seal } from '../seal/seal.ts';
import { alteredColumns } from './column-check.ts';
import type { Findings } from './report.ts';
import type { EventRow, SealRow } from './rows.ts';

/** A seal whose range is sound, and the events that are stored in it, in order. */
export interface Batch {
  readonly row: SealRow;
  readonly seal: Seal;
  readonly events: readonly EventRow[];
  /** Site that the chain was imported from. */
  readonly site: string | null;
}

interface Place {
  readonly chain: string;
  readonly batch: number;
}

/** The stored leaves as far as they can be believed to be some; undefined when there is not one row of them. */
const storedLeaves = ({ row, seal }: Batch, at: Place, findings: Findings): Buffer[] | undefined => {
  const [only, ...others] = row.leaves ?? [];
  if (only === undefined || others.length > 0) {
    findings.add('leaves_missing', `${row.leaves?.length ?? 0} rows of leaves, not 1`, at);
    return undefined;
  }
  if (only.length !== seal.n * HASH_BYTES) {
    findings.add('leaf_altered', `${only.length} bytes of leaves, not ${seal.n * HASH_BYTES}`, at);
  }
  return splitHashes(only);
};

const hasRoot = (leaves: readonly Buffer[], seal: Seal): boolean =>
  leaves.length === seal.n && merkleRoot(leaves).toString('hex') === seal.root;

/** Leaves of the stored events by sequence number, and findings of those that are not there once. */
const leavesOfEvents = ({ seal, events }: Batch, at: Place, findings: Findings): Map<number, Buffer[]> => {
  const bySeq = new Map<number, Buffer[]>();
  for (const event of events) {
    const leaf = leafHash(event.canonical);
    const same = bySeq.get(event.seq);
    if (same === undefined) bySeq.set(event.seq, [leaf]);
    else same.push(leaf);
  }
  let expected = seal.first;
  for (const [seq, same] of bySeq) {
    if (same.length > 1)
      findings.add('event_inserted', `${same.length} events with one number`, { ...at, seq });
    findings.addRange('event_missing', 'event is not there', at, expected, seq - 1);
    expected = seq + 1;
  }
  findings.addRange('event_missing', 'event is not there', at, expected, seal.last);
  return bySeq;
};

const checkColumns = ({ row, events, site }: Batch, at: Place, findings: Findings): void => {
  let first: string | null = null;
  let last: string | null = null;
  for (const event of events) {
    const names = event.columns === undefined ? [] : alteredColumns(event.canonical, event.columns, site);
    if (event.recorded_at !== row.recorded_at) names.push('recorded_at');
    if (names.length > 0) {
      findings.add('column_altered', `columns differ from the event: ${names.join(', ')}`, {
        ...at,
        seq: event.seq,
      });
    }
    const time = event.occurred_at ?? null;
    if (time === null) continue;
    if (first === null || time < first) first = time;
    if (last === null || time > last) last = time;
  }
  if (row.first_at !== first || row.last_at !== last) {
    findings.add('column_altered', 'first_at and last_at are not those of the events', at);
  }
};

/** Compares a batch's events and leaves with the root that its seal signs, and columns with the events when asked. */
export const checkBatch = (batch: Batch, columns: boolean, findings: Findings): void => {
  const { seal, row } = batch;
  const at = { chain: row.chain_id, batch: row.batch_no };
  const stored = storedLeaves(batch, at, findings);
  const found = leavesOfEvents(batch, at, findings);
  if (columns) checkColumns(batch, at, findings);

  const differing = [...found].filter(([seq, same]) => {
    const leaf = stored?.[seq - seal.first];
    return leaf !== undefined && !same.some((hash) => hash.equals(leaf));
  });
  const nameDiffering = (kind: 'event_altered' | 'leaf_altered', message: string): void => {
    for (const [seq] of differing) findings.add(kind, message, { ...at, seq });
  };
  if (stored !== undefined && hasRoot(stored, seal)) {
    nameDiffering('event_altered', 'event is not the one that was sealed');
    return;
  }
  const once = found.size === seal.n && batch.events.length === seal.n;
  if (once && hasRoot([...found.values()].flat(), seal)) {
    nameDiffering('leaf_altered', 'the stored leaf is not that of the event');
    return;
  }
  // Neither the leaves nor the events give the root: where they agree with each other, both may have been rewritten.
  findings.add('event_altered', 'events and leaves of the batch do not give the sealed root', at);
  nameDiffering('event_altered', 'the event and its leaf differ, and neither gives the sealed root');
};
